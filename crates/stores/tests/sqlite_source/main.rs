//! SQLite as a source, against real files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod mend;
mod moved;
mod own_trigger;
mod position;
mod random;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hutong_core::{Batch, Before, Checkpoint, Contract, ErrorKind, Op, Row, Source as _, Value};
use hutong_stores::sqlite::{self, Captured, SourceConfig};
use rusqlite::Connection;
use tempfile::TempDir;

const CONTRACT: &str = r#"{"type":"record","name":"people","sharing":"unconditional","key":["id"],"fields":[
    {"name":"id","type":"long"},{"name":"code","type":["null","string"]},{"name":"note","type":["null","string"]}]}"#;

const TABLES: [&str; 4] = [
    "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT UNIQUE, note TEXT, secret TEXT)",
    "CREATE TABLE people (id BIGINT NOT NULL PRIMARY KEY, code TEXT COLLATE NOCASE UNIQUE, note TEXT, secret TEXT)",
    "CREATE TABLE people (id BIGINT PRIMARY KEY, code TEXT UNIQUE, note TEXT, secret TEXT) WITHOUT ROWID",
    "CREATE TABLE people (rowid TEXT, id BIGINT NOT NULL, code TEXT, note TEXT, secret TEXT, UNIQUE (id), \
     UNIQUE (code, note)); CREATE UNIQUE INDEX partial ON people (note) WHERE note <> 'a'",
];

struct Office {
    folder: TempDir,
    db: Connection,
    contract: Arc<Contract>,
}

impl Office {
    fn new(table: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Connection::open(folder.path().join("office.db")).unwrap();
        db.execute_batch(&format!("PRAGMA journal_mode = WAL; {table}")).unwrap();
        Self { folder, db, contract: Contract::parse(CONTRACT).unwrap().shared() }
    }

    fn installed(table: &str) -> Self {
        let office = Self::new(table);
        office.install();
        office
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("office.db")
    }

    fn tables(&self) -> Vec<Captured> {
        vec![Captured { name: "people".into(), contract: Arc::clone(&self.contract) }]
    }

    fn install(&self) -> sqlite::Installed {
        sqlite::install(&self.path(), "office", &self.tables()).unwrap()
    }

    fn config(&self) -> SourceConfig {
        SourceConfig {
            poll_interval: Duration::from_millis(5),
            watermark_interval: Duration::from_millis(20),
            ..SourceConfig::new(self.path(), "office", self.tables())
        }
    }

    async fn open(&self, from: &Checkpoint) -> sqlite::Source {
        let mut source = sqlite::Source::new(self.config());
        source.open(from).await.unwrap();
        source
    }

    fn run(&self, sql: &str) -> rusqlite::Result<()> {
        self.db.execute_batch(sql)
    }

    fn rows(&self) -> BTreeMap<i64, Row> {
        let mut statement = self.db.prepare("SELECT id, code, note FROM people").unwrap();
        let text = |v: Option<String>| v.map_or(Value::Null, Value::text);
        let rows = statement.query_map([], |r| {
            let id: i64 = r.get(0)?;
            Ok((id, vec![Value::Integer(id), text(r.get(1)?), text(r.get(2)?)]))
        });
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }
}

/// A replica: what the changes make of an empty map, checking each old image on the way.
#[derive(Default)]
struct Replica {
    at: Checkpoint,
    rows: BTreeMap<i64, Row>,
    log: Vec<&'static str>,
    // Where a trigger of the department runs in between, the inner change is logged before the outer one.
    nested: bool,
}

impl Replica {
    fn apply(&mut self, batch: &Batch) {
        assert!(batch.rejected.is_empty(), "{:?}", batch.rejected);
        let mut position = self.at.position("log");
        for change in &batch.changes {
            assert!(change.position > position, "I4: positions grow");
            position = change.position;
            let new = change.after.clone();
            let key = |row: &Row| match row[0] {
                Value::Integer(id) => id,
                _ => panic!("a key is a number"),
            };
            let old = match (change.op, &change.before) {
                (Op::Update | Op::Delete, Before::Full(old)) => Some(old.clone()),
                (Op::Update | Op::Delete, _) => panic!("the old image is full"),
                _ => None,
            };
            let was = match (change.op, &new) {
                (Op::Truncate, _) => {
                    self.rows.clear();
                    None
                }
                (_, Some(new)) => self.rows.insert(key(new), new.clone()),
                (_, None) => self.rows.remove(&key(old.as_ref().unwrap())),
            };
            if change.op != Op::Read && !self.nested {
                assert_eq!(was, old, "the old image is what was there");
            }
            self.log.push(change.op.letter());
        }
        self.at.advance(&batch.delta).unwrap();
        assert!(position <= self.at.position("log"));
    }

    /// Reads until the source says that nothing is left.
    async fn catch_up(&mut self, source: &mut sqlite::Source) {
        loop {
            let batch = source.next().await.unwrap().unwrap();
            self.apply(&batch);
            source.ack(&self.at).await.unwrap();
            // A batch that moves nowhere is the watermark of an idle source.
            let moved = batch.delta.ranges.values().any(|(from, to)| from != to);
            if !moved && batch.behind.complete_to_us.is_some() {
                return;
            }
        }
    }
}

/// Runs statements on each kind of table and compares the replica with the table after each.
async fn check(statements: &[&str]) {
    for table in TABLES {
        let office = Office::installed(table);
        office
            .run("INSERT INTO people (id, code, note) VALUES (1, 'x', 'a'), (2, 'y', 'a'), (3, 'z', 'a')")
            .unwrap();
        let mut source = office.open(&Checkpoint::default()).await;
        let mut replica = Replica::default();
        replica.catch_up(&mut source).await;
        assert_eq!(replica.rows, office.rows());
        for sql in statements {
            // Whether it succeeds is not the point.
            let _ = office.run(sql);
            replica.catch_up(&mut source).await;
            assert_eq!(replica.rows, office.rows(), "{sql}\n{table}");
        }
    }
}

#[tokio::test]
async fn plain_statements_arrive() {
    check(&[
        "INSERT INTO people (id, code) VALUES (4, 'w'), (5, NULL), (6, NULL)",
        "UPDATE people SET note = 'b' WHERE id > 2",
        "UPDATE people SET secret = 'not captured'",
        "UPDATE people SET id = id + 100 WHERE id = 1",
        "UPDATE people SET id = -id",
        "DELETE FROM people WHERE id = -2",
        "DELETE FROM people",
        "INSERT INTO people (id, code) VALUES (-1, 'minus')",
        "INSERT INTO people (id, code) VALUES (1, 'plus')",
    ])
    .await;
}

#[tokio::test]
async fn i3_replaced_rows_are_deleted() {
    check(&[
        "INSERT OR REPLACE INTO people (id, code, note) VALUES (9, 'y', 'a')",
        "INSERT OR REPLACE INTO people (id, code, note) VALUES (1, 'z', 'a')",
        "INSERT OR REPLACE INTO people (id, code, note) VALUES (1, 'Z', 'new')",
        "REPLACE INTO people (id, code, note) VALUES (5, 'p', 'a'), (6, 'p', 'a'), (5, 'q', 'a')",
        "UPDATE OR REPLACE people SET code = 'p', note = 'a' WHERE id = 5",
        "UPDATE OR REPLACE people SET id = 5",
        "UPDATE OR REPLACE people SET id = id",
        "PRAGMA recursive_triggers = ON",
        "INSERT OR REPLACE INTO people (id, code, note) VALUES (7, 'r', 'a'), (8, 'r', 'a'), (7, 's', 'a')",
        "UPDATE OR REPLACE people SET id = 8, code = 's'",
    ])
    .await;
}

#[tokio::test]
async fn statements_that_are_ignored_or_fail_leave_nothing() {
    check(&[
        "INSERT OR IGNORE INTO people (id, code, note) VALUES (1, 'new', 'a'), (4, 'y', 'a'), (5, 'v', 'a')",
        "INSERT INTO people (id, code) VALUES (6, 'u'), (1, 'fails')",
        "INSERT OR FAIL INTO people (id, code) VALUES (7, 'u'), (1, 'fails')",
        "UPDATE OR IGNORE people SET id = 1",
        "UPDATE OR FAIL people SET id = 10 - id",
        "DELETE FROM people WHERE id = 1",
        "INSERT INTO people (id, code) VALUES (1, 'again')",
        "BEGIN; DELETE FROM people; ROLLBACK",
        "BEGIN; SAVEPOINT s; DELETE FROM people; ROLLBACK TO s; DELETE FROM people WHERE id = 1; COMMIT",
    ])
    .await;
}

#[tokio::test]
async fn upserts_arrive_as_updates() {
    check(&[
        "INSERT INTO people (id, code) VALUES (1, 'n'), (4, 'm') ON CONFLICT (id) DO UPDATE SET code = excluded.code",
        "INSERT INTO people (id, code) VALUES (1, 'n') ON CONFLICT DO NOTHING",
        "DELETE FROM people WHERE id = 1",
        "INSERT INTO people (id, code) VALUES (1, 'n') ON CONFLICT (id) DO UPDATE SET id = excluded.id + 10",
        "INSERT INTO people (id, code) VALUES (1, 'o') ON CONFLICT (id) DO UPDATE SET id = excluded.id + 10",
    ])
    .await;
}

#[tokio::test]
async fn i4_a_key_change_is_two_parts_of_one_position() {
    let office = Office::installed(TABLES[0]);
    office.run("INSERT INTO people (id) VALUES (1)").unwrap();
    let mut source = office.open(&Checkpoint::default()).await;
    let mut replica = Replica::default();
    replica.catch_up(&mut source).await;
    office.run("UPDATE people SET id = 2").unwrap();
    let batch = loop {
        let batch = source.next().await.unwrap().unwrap();
        if !batch.changes.is_empty() {
            break batch;
        }
    };
    let [out, into] = &batch.changes[..] else { panic!("two changes") };
    assert_eq!((out.op, into.op), (Op::Delete, Op::Insert));
    assert_eq!(out.position.as_bytes()[..12], into.position.as_bytes()[..12]);
    assert_eq!((out.position.as_bytes()[12], into.position.as_bytes()[12]), (0, 1));
    assert_eq!((out.origin.last, into.origin.last), (false, true));
}

#[tokio::test]
async fn i7_a_snapshot_resumes_at_its_last_chunk() {
    for table in TABLES {
        let office = Office::installed(table);
        let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) \
                    INSERT INTO people (id, code, note) SELECT i * 7 % 1009, 'c' || i, 'n' || i FROM n";
        office.run(fill).unwrap();
        let mut replica = Replica::default();
        let mut config = office.config();
        config.limit.chunk = 64;
        let mut opened = 0;
        while replica.log.iter().filter(|op| **op == "r").count() < 1000 {
            let mut source = sqlite::Source::new(config.clone());
            source.open(&replica.at).await.unwrap();
            opened += 1;
            for _ in 0..3 {
                let batch = source.next().await.unwrap().unwrap();
                for change in batch.changes.iter().filter(|c| c.op == Op::Update) {
                    // A live change of a row that the snapshot has not reached yet is an upsert.
                    let old = change.before.row().unwrap().clone();
                    let Value::Integer(id) = old[0] else { panic!("a key is a number") };
                    replica.rows.entry(id).or_insert(old);
                }
                replica.apply(&batch);
            }
            office.run(&format!("UPDATE people SET note = 'live' || id WHERE id % 50 = {opened}")).unwrap();
        }
        assert!(opened > 3);
        let mut source = office.open(&replica.at).await;
        replica.catch_up(&mut source).await;
        assert_eq!(replica.rows, office.rows());
        assert_eq!(replica.log.iter().filter(|op| **op == "r").count(), 1000, "no row was read twice");
    }
}

#[tokio::test]
async fn i1_only_what_is_acked_is_forgotten() {
    let office = Office::installed(TABLES[0]);
    let mut source = office.open(&Checkpoint::default()).await;
    let mut replica = Replica::default();
    replica.catch_up(&mut source).await;
    office.run("BEGIN").unwrap();
    for i in 0..2_500 {
        office.run(&format!("INSERT INTO people (id) VALUES ({i})")).unwrap();
    }
    office.run("COMMIT").unwrap();
    let count = || {
        office.db.query_row("SELECT count(*) FROM hutong_change_office", [], |r| r.get::<_, i64>(0)).unwrap()
    };
    let batch = loop {
        let batch = source.next().await.unwrap().unwrap();
        if batch.changes.is_empty() {
            replica.apply(&batch);
        } else {
            break batch;
        }
    };
    assert_eq!((batch.changes.len(), count()), (2_500, 2_500));
    source.ack(&replica.at).await.unwrap();
    assert_eq!(count(), 2_500, "nothing was acked yet");
    let before = replica.at.clone();
    replica.apply(&batch);
    source.ack(&replica.at).await.unwrap();
    assert_eq!(count(), 16, "the last rows stay, for who looks back on them");
    let error = sqlite::Source::new(office.config()).open(&before).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PositionLost);
}

#[tokio::test]
async fn i3_a_table_that_was_rebuilt_is_read_again() {
    let office = Office::installed(TABLES[0]);
    office.run("INSERT INTO people (id, code) VALUES (1, 'x'), (2, 'y')").unwrap();
    let mut source = office.open(&Checkpoint::default()).await;
    let mut replica = Replica::default();
    replica.catch_up(&mut source).await;
    office
        .run("CREATE TABLE other AS SELECT * FROM people; DROP TABLE people; DELETE FROM other WHERE id = 1")
        .unwrap();
    office.run(TABLES[0]).unwrap();
    office.run("INSERT INTO people SELECT * FROM other").unwrap();
    let error = loop {
        match source.next().await {
            Ok(batch) => replica.apply(&batch.unwrap()),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ErrorKind::SchemaConflict);
    assert_eq!(error.hint.as_deref(), Some("hutong source install office"));
    assert_eq!(office.install().made, ["people"]);
    assert_eq!(office.install().kept, ["people"], "it is idempotent");
    let mut source = office.open(&replica.at).await;
    replica.catch_up(&mut source).await;
    assert_eq!(replica.rows, office.rows());
}

#[tokio::test]
async fn a_log_that_is_installed_again_continues_after_the_old_one() {
    let office = Office::installed(TABLES[0]);
    office.run("INSERT INTO people (id, code) VALUES (1, 'x'), (2, 'y')").unwrap();
    let mut source = office.open(&Checkpoint::default()).await;
    let mut replica = Replica::default();
    replica.catch_up(&mut source).await;
    drop(source);
    sqlite::remove(&office.path(), "office").unwrap();
    sqlite::remove(&office.path(), "office").unwrap();
    let left = "SELECT count(*) FROM sqlite_master WHERE name LIKE 'hutong%'";
    assert_eq!(office.db.query_row(left, [], |r| r.get::<_, i64>(0)).unwrap(), 0);
    let error = sqlite::Source::new(office.config()).open(&replica.at).await.unwrap_err();
    assert_eq!(
        (error.kind, error.hint.as_deref()),
        (ErrorKind::Config, Some("hutong source install office"))
    );
    office.run("DELETE FROM people WHERE id = 1").unwrap();
    office.install();
    let mut source = office.open(&replica.at).await;
    replica.catch_up(&mut source).await;
    assert_eq!(replica.rows, office.rows());
}

#[tokio::test]
async fn i6_what_cannot_be_carried_is_refused_by_name() {
    let office = Office::installed(TABLES[0]);
    let mut source = office.open(&Checkpoint::default()).await;
    office.run("INSERT INTO people (id, code, note) VALUES (1, x'00', 'a')").unwrap();
    let batch = loop {
        let batch = source.next().await.unwrap().unwrap();
        if !batch.rejected.is_empty() {
            break batch;
        }
    };
    assert_eq!(batch.rejected[0].rule, "not_carried");
    assert_eq!(batch.rejected[0].reason, "column code: the contract says text, the table holds a BLOB");
}

#[tokio::test]
async fn refuses_by_name_what_it_cannot_capture() {
    let rows = [
        ("CREATE TABLE people (id BIGINT, code TEXT, note TEXT)", "are not unique"),
        ("CREATE TABLE people (id INTEGER PRIMARY KEY, note TEXT)", "has no column code"),
        ("CREATE TABLE persons (id INTEGER PRIMARY KEY)", "there is no such table"),
        (
            "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT, note TEXT); \
             CREATE UNIQUE INDEX l ON people (lower(code))",
            "unique index l is over an expression",
        ),
    ];
    for (table, says) in rows {
        let office = Office::new(table);
        let error = sqlite::install(&office.path(), "office", &office.tables()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::SchemaConflict);
        assert!(error.to_string().contains(says), "{error}");
    }
}
