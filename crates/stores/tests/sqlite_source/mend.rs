//! What a comparison asks of a file that somebody else is writing: it waits on a thread of its own.

use hutong_core::Value;
use hutong_stores::sqlite;

use super::{Office, TABLES};

/// On a runtime of one thread nobody would let go of the file while that thread waits for it.
#[tokio::test]
async fn who_asks_for_rows_or_reads_them_keeps_nobody_waiting_while_the_file_is_written() {
    // A file whose readers wait for its writers, as departments have them.
    let table = format!("PRAGMA journal_mode = DELETE; {}", TABLES[0]);
    let office = Office::installed(&table);
    office.run("INSERT INTO people (id, code) VALUES (1, 'a')").unwrap();
    let captured = || office.tables().remove(0);
    let path = office.path();
    let mut scan = sqlite::Scan::start(&path, "office", captured()).await.unwrap();

    office.run("BEGIN EXCLUSIVE").unwrap();
    let (rows, ()) = tokio::join!(scan.chunk(), frees(&office));
    assert_eq!(rows.unwrap().unwrap().len(), 1);
    assert_eq!(scan.chunk().await.unwrap(), None);
    let before = scan.place().await.unwrap();

    office.run("BEGIN EXCLUSIVE").unwrap();
    let keys = vec![vec![Value::Integer(1)], vec![Value::Integer(9)]];
    let (asked, ()) = tokio::join!(sqlite::mend(&path, "office", captured(), keys), frees(&office));
    asked.unwrap();
    assert_eq!(scan.place().await.unwrap(), before + 2, "a line for each key");
}

/// Lets go of the file, when whoever came before lets this thread go on.
async fn frees(office: &Office) {
    office.run("COMMIT").unwrap();
}
