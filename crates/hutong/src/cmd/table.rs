//! Plain tables for a terminal: columns as wide as their widest cell, Chinese characters counted as two.

/// Returns how many columns of a terminal a text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(|c| if is_wide(c) { 2 } else { 1 }).sum()
}

/// East Asian Wide and Fullwidth, as far as names and messages here need it (Unicode annex 11).
fn is_wide(c: char) -> bool {
    matches!(u32::from(c), 0x1100..=0x115F | 0x2E80..=0xA4CF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF | 0xFE30..=0xFE6F | 0xFF00..=0xFF60 | 0xFFE0..=0xFFE6 | 0x20000..=0x3FFFD)
}

/// Returns the lines of a table; the first row is its head.
pub(super) fn lines(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|i| rows.iter().filter_map(|row| row.get(i)).map(|cell| width(cell)).max().unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let mut text = String::new();
        for (cell, wide) in row.iter().zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', wide - width(cell) + 2));
        }
        text.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Returns a text in exactly so many columns of a terminal: cut with an ellipsis, or filled up with blanks at its end. What
/// would move a terminal's cursor becomes a blank.
pub(super) fn fitted(text: &str, room: usize) -> String {
    let mut fitted = String::new();
    let mut taken = 0;
    let whole = width(text) <= room;
    for c in text.chars() {
        let wide = if is_wide(c) { 2 } else { 1 };
        if !whole && taken + wide + 1 > room {
            if room > 0 {
                fitted.push('…');
                taken += 1;
            }
            break;
        }
        fitted.push(if c.is_control() { ' ' } else { c });
        taken += wide;
    }
    fitted.extend(std::iter::repeat_n(' ', room - taken));
    fitted
}

/// Returns a text that ends in the last of so many columns; one that has no room is cut.
pub(super) fn right(text: &str, room: usize) -> String {
    let taken = width(text);
    if taken > room {
        return fitted(text, room);
    }
    " ".repeat(room - taken) + text
}

/// Returns a number with its thousands apart: `1 234 567`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Returns a lag for people: `0 s`, `0.4 s`, `12 s`, `3 min`, `2 h`.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 0.05 => "0 s".into(),
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} h", s / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_up_wide_characters() {
        let rows = [vec!["a".into(), "b".into()], vec!["姓名".into(), "x".into()]];
        assert_eq!(lines(&rows), ["a     b", "姓名  x"]);
        for (text, room, wanted) in [
            ("ab", 4, "ab  "),
            ("abcd", 4, "abcd"),
            ("abcde", 4, "abc…"),
            ("姓名", 4, "姓名"),
            ("姓名", 3, "姓…"),
            ("姓名字", 4, "姓… "),
            ("a\u{1b}[2J", 6, "a [2J "),
            ("ab", 1, "…"),
            ("ab", 0, ""),
        ] {
            assert_eq!((fitted(text, room).as_str(), width(wanted)), (wanted, room), "{text}");
        }
        assert_eq!((right("12", 4), right("部门", 5)), ("  12".into(), " 部门".into()));
        assert_eq!(thousands(1_234_567), "1 234 567");
        assert_eq!(seconds(0.31), "0.3 s");
    }
}
