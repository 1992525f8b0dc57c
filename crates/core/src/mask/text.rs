//! Masks of names and numbers that are kept as text.

/// The common surnames of two characters.
const LONG_SURNAMES: [&str; 40] = [
    "欧阳", "司马", "上官", "诸葛", "东方", "皇甫", "尉迟", "公孙", "令狐", "慕容", "长孙", "宇文", "司徒",
    "夏侯", "端木", "独孤", "南宫", "西门", "东郭", "百里", "呼延", "拓跋", "轩辕", "申屠", "太史", "公冶",
    "濮阳", "淳于", "单于", "澹台", "钟离", "闻人", "闾丘", "司空", "司寇", "鲜于", "赫连", "东门", "左丘",
    "第五",
];

/// Replaces every character.
pub(super) fn stars(text: &str) -> String {
    "*".repeat(text.chars().count())
}

/// Keeps the surname of a Chinese name of two to six characters. A name of just two characters has a surname of one:
/// keeping `欧阳` would keep the whole.
pub(super) fn name(name: &str) -> String {
    let count = name.chars().count();
    let chinese = name.chars().all(|c| matches!(c, '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{323af}'));
    if !chinese || !(2..=6).contains(&count) {
        return if name.is_empty() { String::new() } else { "*".into() };
    }
    let long = count > 2 && LONG_SURNAMES.iter().any(|surname| name.starts_with(surname));
    name.chars().take(if long { 2 } else { 1 }).chain(['*']).collect()
}

/// Keeps the first `head` and the last 4 characters of a citizen number of 18.
pub(super) fn citizen_number(text: &str, head: usize) -> String {
    let formed = match text.as_bytes() {
        [digits @ .., last] if digits.len() == 17 => {
            digits.iter().all(u8::is_ascii_digit) && (last.is_ascii_digit() || matches!(last, b'X' | b'x'))
        }
        _ => false,
    };
    if formed { ends(text, head) } else { stars(text) }
}

/// Keeps the first 3 and the last 4 digits of a mobile number: 11 digits that begin with 1.
pub(super) fn phone(text: &str) -> String {
    let formed = text.len() == 11 && text.starts_with('1') && text.bytes().all(|b| b.is_ascii_digit());
    if formed { ends(text, 3) } else { stars(text) }
}

/// Keeps both ends of an ASCII text that is long enough.
fn ends(text: &str, head: usize) -> String {
    let (kept, tail) = (&text[..head], &text[text.len() - 4..]);
    format!("{kept}{}{tail}", "*".repeat(text.len() - head - 4))
}
