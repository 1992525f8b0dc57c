//! A compiled filter as SQL again, for databases that must decide as Hutong does.
//!
//! Text columns carry `COLLATE "C"` or `COLLATE BINARY`, so that no database's own collation has a say.
//! In SQLite dates are text `YYYY-MM-DD`, timestamps text `YYYY-MM-DD HH:MM:SS.ffffff` (instants in UTC with
//! a `Z` behind), times `HH:MM:SS.ffffff`.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp, civil};

use super::literal::{Literal, article};
use super::{Filter, Node};
use crate::contract::Type;
use crate::problem::Problem;

/// A database's SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

/// Writes a filter; see [`Filter::to_sql`].
pub(super) fn write(filter: &Filter, dialect: Dialect) -> Result<String, Problem> {
    let mut writer = Writer { filter, dialect, sql: String::new() };
    writer.node(&filter.root)?;
    Ok(writer.sql)
}

/// Writes one node of a filter as PostgreSQL has it.
pub(super) fn condition(filter: &Filter, node: &Node) -> String {
    let mut writer = Writer { filter, dialect: Dialect::Postgres, sql: String::new() };
    match writer.node(node) {
        Ok(()) => writer.sql,
        // PostgreSQL has a way to say everything; if not, it is told from every other all the same.
        Err(_) => format!("{node:?}"),
    }
}

struct Writer<'a> {
    filter: &'a Filter,
    dialect: Dialect,
    sql: String,
}

impl Writer<'_> {
    fn node(&mut self, node: &Node) -> Result<(), Problem> {
        match node {
            Node::And(nodes) => self.chain(nodes, " AND "),
            Node::Or(nodes) => self.chain(nodes, " OR "),
            Node::Not(node) => {
                self.sql.push_str("(NOT ");
                self.node(node)?;
                self.sql.push(')');
                Ok(())
            }
            Node::Compare { column, comparison, literal } => {
                self.operand(*column)?;
                let _ = write!(self.sql, " {} ", comparison.sql());
                self.literal(literal)
            }
            Node::In { column, items } => {
                self.operand(*column)?;
                self.sql.push_str(" IN (");
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        self.sql.push_str(", ");
                    }
                    self.literal(item)?;
                }
                self.sql.push(')');
                Ok(())
            }
            Node::Like { column, pattern } => {
                self.operand(*column)?;
                let _ = match self.dialect {
                    Dialect::Postgres => {
                        write!(self.sql, " LIKE {} ESCAPE '\\'", quoted(&pattern.to_like(), '\''))
                    }
                    Dialect::Sqlite => write!(self.sql, " GLOB {}", quoted(&pattern.to_glob(), '\'')),
                };
                Ok(())
            }
            Node::IsNull { column } => {
                let _ = write!(self.sql, "{} IS NULL", self.name(*column));
                Ok(())
            }
            // A column that is NULL leaves the outcome NULL, as a comparison does.
            Node::Always { column, truth } => {
                let name = self.name(*column);
                let _ = write!(
                    self.sql,
                    "(CASE WHEN {name} IS NULL THEN NULL ELSE {} END)",
                    self.boolean(*truth)
                );
                Ok(())
            }
        }
    }

    fn chain(&mut self, nodes: &[Node], between: &str) -> Result<(), Problem> {
        self.sql.push('(');
        for (i, node) in nodes.iter().enumerate() {
            if i > 0 {
                self.sql.push_str(between);
            }
            self.node(node)?;
        }
        self.sql.push(')');
        Ok(())
    }

    fn name(&self, column: usize) -> String {
        quoted(&self.filter.names[column].column, '"')
    }

    fn boolean(&self, truth: bool) -> &'static str {
        match (self.dialect, truth) {
            (Dialect::Postgres, true) => "TRUE",
            (Dialect::Postgres, false) => "FALSE",
            (Dialect::Sqlite, true) => "1",
            (Dialect::Sqlite, false) => "0",
        }
    }

    /// Writes the column as the left side of a comparison.
    fn operand(&mut self, column: usize) -> Result<(), Problem> {
        let name = self.name(column);
        let ty = &self.filter.names[column].ty;
        let textual = matches!(ty, Type::Text { .. } | Type::Enum { .. });
        let _ = match self.dialect {
            // A UUID's digits are the same in either case; under these collations only ASCII changes.
            Dialect::Postgres if *ty == Type::Uuid => {
                write!(self.sql, "lower(CAST({name} AS text) COLLATE \"C\")")
            }
            Dialect::Sqlite if *ty == Type::Uuid => write!(self.sql, "lower({name}) COLLATE BINARY"),
            // The cast takes the blanks off a CHAR, as capture does, and gives an enumeration its text.
            Dialect::Postgres if textual => write!(self.sql, "CAST({name} AS text) COLLATE \"C\""),
            Dialect::Sqlite if matches!(ty, Type::Decimal { .. } | Type::Numeric) => {
                return Err(Problem::new(format!(
                    "{name} is {}: SQLite cannot compare it exactly",
                    article(ty)
                )));
            }
            Dialect::Sqlite
                if matches!(
                    ty,
                    Type::Boolean | Type::Int16 | Type::Int | Type::Long | Type::Float | Type::Double
                ) =>
            {
                write!(self.sql, "{name}")
            }
            Dialect::Sqlite => write!(self.sql, "{name} COLLATE BINARY"),
            Dialect::Postgres => write!(self.sql, "{name}"),
        };
        Ok(())
    }

    fn literal(&mut self, literal: &Literal) -> Result<(), Problem> {
        let text = match literal {
            Literal::Boolean(truth) => self.boolean(*truth).to_owned(),
            Literal::Integer(number) => number.to_string(),
            Literal::Double(number) => match self.dialect {
                Dialect::Postgres => format!("'{number:?}'::float8"),
                Dialect::Sqlite => format!("{number:?}"),
            },
            Literal::Decimal(number) => number.to_plain_string(),
            Literal::Text(text) | Literal::Uuid(text) => quoted(text, '\''),
            Literal::Date(days) => self.moment("DATE", day(i64::from(*days) * 86_400_000_000), ""),
            Literal::Time(micros) => {
                let time = civil::Time::midnight().wrapping_add(SignedDuration::from_micros(*micros));
                self.moment("TIME", Some(format!("{time:.6}")), "")
            }
            Literal::Timestamp(micros) => self.moment("TIMESTAMP", second(*micros), ""),
            Literal::TimestampTz(micros) => self.moment("TIMESTAMPTZ", second(*micros), "Z"),
        };
        self.sql.push_str(&text);
        Ok(())
    }

    fn moment(&self, word: &str, text: Option<String>, zone: &str) -> String {
        let text = text.expect("a moment that was read from a literal can be written");
        match self.dialect {
            Dialect::Postgres => format!("{word} '{text}{zone}'"),
            Dialect::Sqlite => format!("'{text}{zone}'"),
        }
    }
}

fn quoted(text: &str, quote: char) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    for c in text.chars() {
        if c == quote {
            quoted.push(quote);
        }
        quoted.push(c);
    }
    quoted.push(quote);
    quoted
}

fn utc(micros: i64) -> Option<civil::DateTime> {
    Some(jiff::tz::TimeZone::UTC.to_datetime(Timestamp::from_microsecond(micros).ok()?))
}

fn day(micros: i64) -> Option<String> {
    Some(utc(micros)?.date().to_string())
}

fn second(micros: i64) -> Option<String> {
    let moment = utc(micros)?;
    Some(format!("{} {:.6}", moment.date(), moment.time()))
}
