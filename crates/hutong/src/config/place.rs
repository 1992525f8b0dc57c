//! From byte offsets to lines and columns.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// A file's text, and where its lines begin.
#[derive(Debug, Clone)]
pub(super) struct SourceText {
    /// The file, as the person named it.
    pub(super) path: PathBuf,
    /// What stands in it.
    pub(super) text: String,
    lines: Vec<usize>,
}

impl SourceText {
    /// Notes where the lines of a text begin.
    pub(super) fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        let text = text.into();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { path: path.into(), text, lines }
    }

    /// Returns the folder that paths in the file are relative to.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Returns line and column of a byte offset, both from 1. A column is a character, not a byte.
    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.lines[line - 1];
        (line, self.text[start..offset].chars().count() + 1)
    }
}

/// Returns where a byte of a string's value stands in the file, past quotes and escapes.
///
/// `written` is the place of the string with its quotes; `offset` counts bytes of the value.
pub(super) fn inside(text: &str, written: Range<usize>, offset: usize) -> usize {
    let Some(raw) = text.get(written.clone()) else { return written.start };
    let basic = raw.starts_with('"');
    let quote = if basic { '"' } else { '\'' };
    let quotes = if raw.len() >= 6 && raw.chars().take(3).all(|c| c == quote) { 3 } else { 1 };
    let mut at = quotes;
    if quotes == 3 {
        let rest = &raw[at..];
        at += if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
    }
    let mut seen = 0;
    while at < raw.len() {
        let rest = &raw[at..];
        let (wide, value) = if basic && rest.starts_with('\\') { escape(rest) } else { plain(rest) };
        // A line's escaped end is nothing in the value, so what follows it is meant.
        if seen + value > offset {
            break;
        }
        seen += value;
        at += wide;
    }
    written.start + at
}

/// Returns how many bytes one plain character takes in the file and in the value.
fn plain(rest: &str) -> (usize, usize) {
    let wide = rest.chars().next().map_or(1, char::len_utf8);
    (wide, wide)
}

/// Returns how many bytes an escape takes in the file and in the value.
fn escape(rest: &str) -> (usize, usize) {
    let digits = match rest.as_bytes().get(1) {
        Some(b'x') => 2,
        Some(b'u') => 4,
        Some(b'U') => 8,
        Some(b' ' | b'\t' | b'\r' | b'\n') => {
            let blank = rest[1..].len() - rest[1..].trim_start().len();
            return (1 + blank, 0);
        }
        _ => return (2, 1),
    };
    let code = rest.get(2..2 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    (2 + digits, code.and_then(char::from_u32).map_or(1, char::len_utf8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_characters_not_bytes() {
        let source = SourceText::new("a.toml", "a = 1\n名 = \"王\" # x\n");
        assert_eq!(source.place(0), (1, 1));
        assert_eq!(source.place(6), (2, 1));
        assert_eq!(source.place(10), (2, 3));
        assert_eq!(source.place(source.text.len()), (3, 1));
        assert_eq!(source.place(9999), (3, 1));
        assert_eq!(SourceText::new("a", "").place(0), (1, 1));
    }

    #[test]
    fn finds_a_byte_of_a_string_in_its_file() {
        let rows = [
            (r#"'rkzt <> 1'"#, "<"),
            (r#""rkzt <> 1""#, "<"),
            (r#""\"注销\" \u6CE8 \x41 <> 1""#, "<"),
            ("'''\nrkzt\n <> 1'''", "<"),
            ("\"\"\"\n  rkzt \\\n    <> 1\"\"\"", "<"),
        ];
        for (raw, mark) in rows {
            let text = format!("rows = {raw}");
            let value: toml::Table = toml::from_str(&text).unwrap();
            let offset = value["rows"].as_str().unwrap().find(mark).unwrap();
            let at = inside(&text, 7..text.len(), offset);
            assert_eq!(at, text.find(mark).unwrap(), "{raw}");
        }
    }
}
