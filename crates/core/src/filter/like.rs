//! The pattern of a LIKE, compiled.
//!
//! A character is a Unicode scalar value, as in PostgreSQL with a UTF-8 database and in SQLite.

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// `%`: any characters, also none.
    Any,
    /// `_`: one character.
    One,
    Char(char),
}

impl Pattern {
    /// Compiles a pattern; `Err` says what is wrong with it.
    pub(super) fn compile(pattern: &str, escape: Option<char>) -> Result<Self, &'static str> {
        let mut parts = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            let part = match c {
                c if Some(c) == escape => match chars.next() {
                    Some(c) if c == '%' || c == '_' || Some(c) == escape => Part::Char(c),
                    _ => return Err("the escape character stands before neither %, _ nor itself"),
                },
                '\\' if escape.is_none() => {
                    return Err(
                        "a backslash in a pattern means one thing in one system and another in the next",
                    );
                }
                '%' => Part::Any,
                '_' => Part::One,
                c => Part::Char(c),
            };
            if (part, parts.last()) != (Part::Any, Some(&Part::Any)) {
                parts.push(part);
            }
        }
        Ok(Self { parts })
    }

    /// States whether the whole text is of the pattern.
    pub(super) fn matches(&self, text: &str) -> bool {
        let (mut rest, mut at) = (text.chars(), 0);
        // Where the last `%` stands, and the text that it has not swallowed yet: on a mismatch it takes one more.
        let mut retry = None;
        loop {
            let here = rest.clone();
            match (self.parts.get(at), rest.next()) {
                (Some(Part::Any), _) => {
                    rest = here;
                    at += 1;
                    retry = Some((at, rest.clone()));
                }
                (None, None) => return true,
                (Some(Part::One), Some(_)) => at += 1,
                (Some(Part::Char(wanted)), Some(found)) if *wanted == found => at += 1,
                // The text is used up: a longer `%` leaves even less.
                (Some(_), None) => return false,
                (_, Some(_)) => {
                    let Some((part, mut from)) = retry else { return false };
                    from.next();
                    (at, rest) = (part, from.clone());
                    retry = Some((part, from));
                }
            }
        }
    }

    /// Returns the pattern for PostgreSQL, to be read with `ESCAPE '\'`.
    pub(super) fn to_like(&self) -> String {
        self.parts.iter().fold(String::new(), |mut text, part| {
            match part {
                Part::Any => text.push('%'),
                Part::One => text.push('_'),
                Part::Char(c) => {
                    if matches!(c, '%' | '_' | '\\') {
                        text.push('\\');
                    }
                    text.push(*c);
                }
            }
            text
        })
    }

    /// Returns the pattern for SQLite's GLOB: its LIKE does not tell `a` from `A`.
    pub(super) fn to_glob(&self) -> String {
        self.parts.iter().fold(String::new(), |mut text, part| {
            match part {
                Part::Any => text.push('*'),
                Part::One => text.push('?'),
                Part::Char(c @ ('*' | '?' | '[')) => text.extend(['[', *c, ']']),
                Part::Char(c) => text.push(*c),
            }
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slow(parts: &[Part], text: &[char]) -> bool {
        match (parts, text) {
            ([], []) => true,
            ([Part::Any, rest @ ..], _) => slow(rest, text) || !text.is_empty() && slow(parts, &text[1..]),
            ([Part::One, rest @ ..], [_, tail @ ..]) => slow(rest, tail),
            ([Part::Char(a), rest @ ..], [b, tail @ ..]) => a == b && slow(rest, tail),
            _ => false,
        }
    }

    #[test]
    fn matches_whole_texts() {
        let rows = [
            ("9901%", "990101", true),
            ("9901%", "9901", true),
            ("%01", "990101", true),
            ("_01", "张01", true),
            ("_", "", false),
            ("a", "A", false),
            ("%市%区", "某省某市某区", true),
            ("", "", true),
            ("%", "", true),
        ];
        for (pattern, text, expected) in rows {
            assert_eq!(Pattern::compile(pattern, None).unwrap().matches(text), expected, "{pattern} {text}");
        }
        assert!(Pattern::compile("50!%", Some('!')).unwrap().matches("50%"));
        assert!(Pattern::compile("50!", Some('!')).is_err());
        assert!(Pattern::compile("50\\%", None).is_err());
        assert_eq!(Pattern::compile("a*%_!_", Some('!')).unwrap().to_glob(), "a[*]*?_");
        assert_eq!(Pattern::compile("a*%_!_", Some('!')).unwrap().to_like(), "a*%_\\_");
    }

    proptest! {
        #[test]
        fn decides_as_the_plain_definition(pattern in "[ab张%_]{0,8}", text in "[ab张]{0,10}") {
            let compiled = Pattern::compile(&pattern, None).unwrap();
            prop_assert_eq!(compiled.matches(&text), slow(&compiled.parts, &text.chars().collect::<Vec<_>>()));
        }
    }
}
