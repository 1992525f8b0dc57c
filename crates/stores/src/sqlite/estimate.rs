//! How many rows a table has, where counting them is cheap.

use std::path::Path;

use hutong_core::Result;

use super::connect::{self, quoted};
use super::error::Context;
use super::table::Table;

/// Up to what size of the file its rows are counted: SQLite keeps no number of them, so counting reads an index.
const CHEAP_BYTES: i64 = 256 << 20;

/// Returns how many rows a table has; `None` when the file is too large to count them, or when there is no such table.
pub fn estimate(path: &Path, table: &str) -> Result<Option<u64>> {
    let connection = connect::to_read(path)?;
    let doing = || format!("count the rows of {table}");
    let sql = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
    let bytes: i64 = connection.query_row(sql, [], |row| row.get(0)).doing(doing)?;
    let Some(shape) = Table::read(&connection, table)?.filter(|_| bytes <= CHEAP_BYTES) else {
        return Ok(None);
    };
    let sql = format!("SELECT count(*) FROM {}", quoted(&shape.name));
    let count: i64 = connection.query_row(&sql, [], |row| row.get(0)).doing(doing)?;
    Ok(Some(count.unsigned_abs()))
}
