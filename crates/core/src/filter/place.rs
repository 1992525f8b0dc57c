//! Places in the text of a condition: from the parser's lines and columns to byte offsets.

use std::ops::Range;

use sqlparser::tokenizer::{Location, Span};

/// Returns the byte range of a parser's span; `None` for a span that the parser did not fill.
pub(super) fn range(sql: &str, span: Span) -> Option<Range<usize>> {
    let (start, end) = (offset(sql, span.start)?, offset(sql, span.end)?);
    (start <= end).then_some(start..end)
}

/// Returns the byte range of the character at a location.
pub(super) fn point(sql: &str, location: Location) -> Option<Range<usize>> {
    let start = offset(sql, location)?;
    let length = sql.get(start..)?.chars().next().map_or(0, char::len_utf8);
    Some(start..start + length)
}

/// Returns the place that a parser's message ends with: `… at Line: 1, Column: 4`, and the message without it.
pub(super) fn split(message: &str) -> (&str, Option<Location>) {
    let Some((text, place)) = message.rsplit_once(" at Line: ") else { return (message, None) };
    let location = place
        .split_once(", Column: ")
        .and_then(|(line, column)| Some(Location { line: line.parse().ok()?, column: column.parse().ok()? }));
    (text, location)
}

/// Lines and columns count characters from 1; 0 means that there is no place.
fn offset(sql: &str, location: Location) -> Option<usize> {
    let line = usize::try_from(location.line).ok()?.checked_sub(1)?;
    let column = usize::try_from(location.column).ok()?.checked_sub(1)?;
    let start = match line {
        0 => 0,
        line => sql.match_indices('\n').nth(line - 1)?.0 + 1,
    };
    let rest = sql.get(start..)?;
    Some(start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at))
}
