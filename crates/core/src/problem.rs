//! What a person wrote and cannot be carried out: the reason, the place and a hint.
//!
//! Knows nothing of files; whoever read the text adds the file and the line.

use std::fmt;
use std::ops::Range;

/// One thing that is wrong in a text that a person wrote. All of a text's problems are reported at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, in words.
    pub message: String,
    /// Where it is wrong: byte offsets in the text that was read; `None` when it is about the whole.
    pub span: Option<Range<usize>>,
    /// What to write in its place.
    pub hint: Option<String>,
}

impl Problem {
    /// Makes a problem of the whole text, without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), span: None, hint: None }
    }

    /// Adds what to write in its place.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the place.
    #[must_use]
    pub fn at(mut self, span: Option<Range<usize>>) -> Self {
        self.span = span;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

/// Returns the known name that a mistyped one most likely means; `None` when none is near.
///
/// Near is an edit distance (insert, remove, replace, swap of neighbours; letter case is ignored) of at most a third of the
/// longer name, but at least 1 and less than the whole.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters = |text: &str| text.to_lowercase().chars().take(64).collect::<Vec<char>>();
    let wanted = letters(name);
    known
        .into_iter()
        .filter_map(|candidate| {
            let other = letters(candidate);
            let longer = wanted.len().max(other.len());
            let distance = distance(&wanted, &other);
            (distance <= (longer / 3).max(1) && distance < longer).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns the optimal string alignment distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows = [vec![0; b.len() + 1], (0..=b.len()).collect(), vec![0; b.len() + 1]];
    for (i, x) in a.iter().enumerate() {
        rows[2][0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let mut least = (rows[1][j] + usize::from(x != y)).min(rows[1][j + 1] + 1).min(rows[2][j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(rows[0][j - 1] + 1);
            }
            rows[2][j + 1] = least;
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_name_that_was_meant() {
        let known = ["gmsfhm", "xm", "csrq", "hjdz", "姓名"];
        let rows = [
            ("gmsfhn", Some("gmsfhm")),
            ("gmfshm", Some("gmsfhm")),
            ("GMSFHM", Some("gmsfhm")),
            ("csrp", Some("csrq")),
            ("姓明", Some("姓名")),
            ("xn", Some("xm")),
            ("zz", None),
            ("telephone", None),
            ("", None),
        ];
        for (written, meant) in rows {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
    }
}
