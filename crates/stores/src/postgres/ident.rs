//! Quotes names and texts for SQL, and reads the names of tables as people write them.

use std::fmt;

use hutong_core::{Error, ErrorKind, Result};

/// Quotes a name: `人口` becomes `"人口"`, a quotation mark is doubled.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a text as a literal (`standard_conforming_strings` is on in every session).
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A table with its schema, as PostgreSQL stores the names. Its `Display` is quoted, ready for SQL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// Names a table.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self { schema: schema.into(), table: table.into() }
    }

    /// Reads `schema.table`; without a schema it is `public`.
    ///
    /// As in SQL, `"quoted"` parts are taken as they are. Others are taken as they are too, but for ASCII
    /// capitals, which PostgreSQL folds to small letters.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            Error::new(ErrorKind::Config, format!("read the table name `{text}`"), why.to_owned())
        };
        let mut parts = Vec::new();
        let mut rest = text.trim();
        loop {
            let part;
            (part, rest) = split_part(rest).ok_or_else(|| refuse("a quotation mark is not closed"))?;
            if part.is_empty() {
                return Err(refuse("a part of it is empty"));
            }
            parts.push(part);
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None if rest.is_empty() => break,
                None => return Err(refuse("a dot is expected after a quoted part")),
            }
        }
        match <[String; 2]>::try_from(parts) {
            Ok([schema, table]) => Ok(Self { schema, table }),
            Err(mut parts) if parts.len() == 1 => Ok(Self::new("public", parts.remove(0))),
            Err(_) => Err(refuse("it has more than two parts").hint("write schema.table")),
        }
    }

    /// Returns `schema.table` without quotation marks, for people and logs.
    pub fn plain(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", quote(&self.schema), quote(&self.table))
    }
}

/// Splits the first part off, unquoted; `None` when a quotation mark is not closed.
fn split_part(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find('.').unwrap_or(text.len());
        let (part, rest) = text.split_at(end);
        return Some((part.to_ascii_lowercase(), rest));
    };
    let mut part = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        part.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                part.push('"');
                rest = after;
            }
            None => return Some((part, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_as_sql_does() {
        for (text, schema, table) in [
            ("people", "public", "people"),
            ("Share.People", "share", "people"),
            ("share.\"People\"", "share", "People"),
            ("\"a.b\".\"say \"\"hi\"\"\"", "a.b", "say \"hi\""),
            ("人口.基础信息", "人口", "基础信息"),
        ] {
            let name = TableName::parse(text).unwrap();
            assert_eq!((name.schema.as_str(), name.table.as_str()), (schema, table), "{text}");
            assert_eq!(TableName::parse(&name.to_string()).unwrap(), name, "{text}");
        }
        for text in ["", ".", "a.", "a.b.c", "\"a", "\"a\"b"] {
            assert!(TableName::parse(text).is_err(), "{text}");
        }
    }
}
