//! How wide a text becomes in a picture whose fonts nobody knows, and where to cut what has no room.
//!
//! Counts in hundredths of the font's size, after the wide fonts among the usual ones (DejaVu Sans, Verdana): in a
//! narrower one there is only more room.

/// Returns how many pixels a text takes at a size.
pub(super) fn wide(text: &str, size: u32) -> u32 {
    let hundredths: u32 = text.chars().map(of).sum();
    (hundredths * size).div_ceil(100)
}

/// Returns the text, or as much of its beginning as has room, and an ellipsis.
pub(super) fn fitted(text: &str, room: u32, size: u32) -> String {
    if wide(text, size) <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut taken = of('…');
    for letter in text.chars() {
        taken += of(letter);
        if taken * size > room * 100 {
            break;
        }
        kept.push(letter);
    }
    format!("{}…", kept.trim_end())
}

fn of(letter: char) -> u32 {
    match letter {
        'i' | 'j' | 'l' | 'I' | '|' | '\'' | '.' | ',' | ':' | ';' | '!' | ' ' => 36,
        'f' | 'r' | 't' | '(' | ')' | '[' | ']' | '/' | '-' | '"' => 43,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 100,
        'A'..='Z' => 76,
        ' '..='~' => 64,
        '·' => 36,
        '\u{80}'..='\u{2DFF}' => 84,
        // Chinese characters fill their square.
        _ => 102,
    }
}

/// Returns a text as XML may have it: marks escaped, and what XML 1.0 forbids (section 2.2) made visible.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(' '),
            '\0'..='\u{1F}' | '\u{7F}'..='\u{9F}' | '\u{FFFE}' | '\u{FFFF}' => safe.push('\u{FFFD}'),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_chinese_character_takes_its_square_and_a_long_name_is_cut() {
        assert!(wide("人力资源", 12) >= 48);
        assert_eq!(fitted("公安局", 60, 12), "公安局");
        let cut = fitted("人力资源和社会保障局", 60, 12);
        assert!(cut.ends_with('…') && cut.starts_with("人力"), "{cut}");
        assert_eq!(escaped("a<b>&\"c\u{7}'\u{1b}[2J"), "a&lt;b&gt;&amp;&quot;c\u{FFFD}&#39;\u{FFFD}[2J");
    }

    proptest! {
        #[test]
        fn what_is_fitted_has_room(text in ".{0,60}", room in 20..400_u32, size in 8..20_u32) {
            prop_assert!(wide(&fitted(&text, room, size), size) <= room.max(wide("…", size)) + 1);
        }
    }
}
