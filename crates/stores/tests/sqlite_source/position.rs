//! Where a source continues: what was not read meanwhile, and files that are not the ones of before.

use std::path::Path;

use super::*;

const TWO: &str = "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT UNIQUE, note TEXT, secret TEXT); \
                   CREATE TABLE other (id INTEGER PRIMARY KEY, code TEXT, note TEXT)";

/// Returns the configuration of both tables, and of the other one alone.
fn both_and_other(office: &Office) -> (SourceConfig, SourceConfig) {
    let other = Captured { name: "other".into(), contract: Arc::clone(&office.contract) };
    let mut both = office.config();
    both.tables.push(other.clone());
    let mut alone = office.config();
    alone.tables = vec![other];
    (both, alone)
}

/// Reads until nothing is left, and returns the changes.
async fn read_all(config: &SourceConfig, at: &mut Checkpoint) -> Vec<hutong_core::Change> {
    let mut source = sqlite::Source::new(config.clone());
    source.open(at).await.unwrap();
    let mut changes = Vec::new();
    loop {
        let batch = source.next().await.unwrap().unwrap();
        at.advance(&batch.delta).unwrap();
        source.ack(at).await.unwrap();
        let moved = batch.delta.ranges.values().any(|(from, to)| from != to);
        let complete = batch.behind.complete_to_us.is_some();
        changes.extend(batch.changes);
        if !moved && complete {
            return changes;
        }
    }
}

#[tokio::test]
async fn i3_a_table_that_comes_back_to_the_configuration_is_read_again() {
    let office = Office::new(TWO);
    let (both, alone) = both_and_other(&office);
    sqlite::install(&office.path(), "office", &both.tables).unwrap();
    office.run("INSERT INTO people (id, code) VALUES (1, 'x'), (2, 'y')").unwrap();
    let mut at = Checkpoint::default();
    read_all(&both, &mut at).await;

    // Its triggers still stand, and what they log is of no table that is captured.
    office.run("DELETE FROM people WHERE id = 1; INSERT INTO other (id) VALUES (7)").unwrap();
    read_all(&alone, &mut at).await;
    assert!(at.snapshots().iter().all(|progress| progress.done), "no snapshot seems to go on");
    let changes = read_all(&both, &mut at).await;

    let ops: Vec<Op> = changes.iter().map(|change| change.op).collect();
    assert_eq!(ops, [Op::Truncate, Op::Read]);
    assert_eq!(read_all(&both, &mut at).await.len(), 0);

    // The same when a person gave the position up in between.
    read_all(&alone, &mut at).await;
    let notes = sqlite::anew(&at, &alone.tables);
    let mut at = Checkpoint { notes, ..Checkpoint::default() };
    let ops: Vec<Op> = read_all(&both, &mut at).await.iter().map(|change| change.op).collect();
    assert_eq!(ops, [Op::Truncate, Op::Read, Op::Truncate, Op::Read]);
}

#[tokio::test]
async fn i3_an_older_copy_of_the_file_is_recognised_also_when_it_was_written_on() {
    let office = Office::installed(TABLES[0]);
    office.run("INSERT INTO people (id, code) VALUES (1, 'x')").unwrap();
    let mut at = Checkpoint::default();
    read_all(&office.config(), &mut at).await;
    let older = office.folder.path().join("older.db");
    office.run(&format!("VACUUM INTO '{}'", older.display())).unwrap();
    office.run("INSERT INTO people (id, code) VALUES (2, 'y')").unwrap();
    read_all(&office.config(), &mut at).await;
    assert_eq!(read_all(&office.config(), &mut at).await.len(), 0, "the file itself goes on");

    let lost = async |older: &Path, at: &Checkpoint, says: &str| {
        let config = SourceConfig { path: older.to_owned(), ..office.config() };
        let error = sqlite::Source::new(config).open(at).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::PositionLost);
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.hint.unwrap().contains("hutong source reset office"));
    };
    lost(&older, &at, "the file is older than it").await;
    // Also when nothing of it would be continued.
    let restored = Connection::open(&older).unwrap();
    restored.execute_batch("DROP TRIGGER \"hutong:office:people:insert\"").unwrap();
    sqlite::install(&older, "office", &office.config().tables).unwrap();
    lost(&older, &at, "the file is older than it").await;
    drop(restored);

    // Under a name of its own: this process opens no other file where it has opened one.
    let older = office.folder.path().join("written.on.db");
    office.run("DELETE FROM people WHERE id = 2").unwrap();
    read_all(&office.config(), &mut at).await;
    office.run(&format!("VACUUM INTO '{}'", older.display())).unwrap();
    office.run("INSERT INTO people (id, code) VALUES (3, 'z')").unwrap();
    read_all(&office.config(), &mut at).await;
    let restored = Connection::open(&older).unwrap();
    restored.execute_batch("INSERT INTO people (id, code) VALUES (4, 'u'), (5, 'v')").unwrap();
    lost(&older, &at, "the row there is another one").await;
}
