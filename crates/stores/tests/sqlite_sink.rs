//! SQLite as a store, against real files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "sqlite_sink/beside.rs"]
mod beside;
#[path = "sqlite_sink/gone.rs"]
mod gone;
#[path = "sqlite_sink/held.rs"]
mod held;
#[path = "sqlite_sink/moved.rs"]
mod moved;
#[path = "sqlite_sink/narrow.rs"]
mod narrow;
#[path = "sqlite_sink/random.rs"]
mod random;
#[path = "sqlite_sink/receipts.rs"]
mod receipts;
#[path = "sqlite_sink/refuse.rs"]
mod refuse;
#[path = "sqlite_sink/reread.rs"]
mod reread;
#[path = "sqlite_sink/room.rs"]
mod room;
#[path = "sqlite_sink/steer.rs"]
mod steer;

use std::path::PathBuf;
use std::sync::Arc;

use hutong_core::{
    Batch, Before, Change, Checkpoint, Contract, Delta, ErrorKind, Kind, LaneId, Op, Origin, PipelineId,
    Place, Position, Row, Sink as _, Value,
};
use hutong_stores::sqlite::{self, SinkConfig, Store, quarantine};
use rusqlite::Connection;
use tempfile::TempDir;

const CONTRACT: &str = r#"{"type":"record","name":"people","sharing":"unconditional","key":["id"],"fields":[
    {"name":"id","type":"long","title":"编号 */"},{"name":"code","type":["null","string"]},
    {"name":"note","column":"备注","type":["null","string"]}]}"#;

struct Office {
    folder: TempDir,
    store: Arc<Store>,
    contract: Arc<Contract>,
}

impl Office {
    fn new(setup: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("office.db");
        Connection::open(&path).unwrap().execute_batch(setup).unwrap();
        let store = Arc::new(Store::new(&path));
        Self { folder, store, contract: Contract::parse(CONTRACT).unwrap().shared() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("office.db")
    }

    fn sink(&self, partition: u32, grant: &str) -> sqlite::Sink {
        sqlite::Sink::new(self.config(partition, grant))
    }

    fn config(&self, partition: u32, grant: &str) -> SinkConfig {
        SinkConfig {
            store: Arc::clone(&self.store),
            lane: lane(partition),
            table: "people".into(),
            grant: grant.into(),
            partitions: None,
            contract: None,
            content: None,
            number: None,
            quarantine_limit: 1_000,
        }
    }

    /// Opens a lane with a prepared table.
    async fn open(&self, partition: u32) -> Lane<'_> {
        let mut sink = self.sink(partition, "g");
        let checkpoint = sink.open(&lane(partition)).await.unwrap();
        sink.prepare(&self.contract).await.unwrap();
        Lane { office: self, sink, at: checkpoint.position("p").as_offset().unwrap_or(0) }
    }

    fn db(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    fn rows(&self) -> Vec<(i64, Option<String>, Option<String>)> {
        let db = self.db();
        let mut statement = db.prepare("SELECT id, code, \"备注\" FROM people ORDER BY id").unwrap();
        let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    fn run(&self, sql: &str) {
        self.db().execute_batch(sql).unwrap();
    }

    /// Returns rule and state of every item.
    fn items(&self) -> Vec<(String, String)> {
        quarantine::list(&self.path(), true).unwrap().into_iter().map(|i| (i.rule, i.state)).collect()
    }
}

struct Lane<'a> {
    office: &'a Office,
    sink: sqlite::Sink,
    at: u64,
}

impl Lane<'_> {
    fn batch(&mut self, changes: &[(Op, Row)]) -> Batch {
        let from = self.at;
        let mut batch = Batch::default();
        for (op, row) in changes {
            batch.changes.push(self.office.change(*op, row.clone(), self.at));
            self.at += 1;
        }
        batch.delta = Delta::range("p", position(from), position(self.at));
        batch
    }

    async fn commit(&mut self, changes: &[(Op, Row)]) -> hutong_core::Result<()> {
        let batch = self.batch(changes);
        self.sink.commit(&batch).await.map(drop)
    }
}

impl Office {
    fn change(&self, op: Op, row: Row, offset: u64) -> Change {
        let (before, after) = match op {
            Op::Delete => (Before::Key(self.contract.key_row(&row[..1])), None),
            Op::Truncate => (Before::None, None),
            _ => (Before::None, Some(row)),
        };
        Change {
            contract: Arc::clone(&self.contract),
            op,
            before,
            after,
            position: Position::offset(offset),
            source_position: Position::offset(offset),
            origin: Origin {
                place: Arc::new(Place::default()),
                committed_us: 0,
                xid: None,
                lsn: None,
                transaction: None,
                last: true,
            },
        }
    }
}

fn lane(partition: u32) -> LaneId {
    LaneId::new(PipelineId::new(Kind::Replicate, "office"), partition)
}

fn position(offset: u64) -> Position {
    if offset == 0 { Position::START } else { Position::offset(offset) }
}

fn row(id: i64, code: &str, note: Option<&str>) -> Row {
    vec![
        Value::Integer(id),
        Value::text(code.to_owned()),
        note.map_or(Value::Null, |n| Value::text(n.to_owned())),
    ]
}

fn stands(id: i64, code: &str, note: Option<&str>) -> (i64, Option<String>, Option<String>) {
    (id, Some(code.into()), note.map(Into::into))
}

#[tokio::test]
async fn i2_rows_and_checkpoint_are_written_together() {
    let office = Office::new("");
    let mut lane = office.open(0).await;
    lane.commit(&[(Op::Read, row(1, "a", None)), (Op::Insert, row(2, "b", Some("n")))]).await.unwrap();
    lane.commit(&[
        (Op::Update, row(1, "A", Some("new"))),
        (Op::Delete, row(2, "", None)),
        (Op::Delete, row(7, "", None)),
    ])
    .await
    .unwrap();
    assert_eq!(office.rows(), [stands(1, "A", Some("new"))]);
    let found = office.db().query_row("SELECT hutong_lane, hutong_offset FROM people", [], |r| {
        Ok((r.get::<_, String>(0)?, r.get::<_, i64>(1)?))
    });
    assert_eq!(found.unwrap(), ("replicate.office.0".into(), 2));
    let again = office.open(0).await;
    assert_eq!(again.at, 5);
    let states = sqlite::lanes(&office.path()).unwrap();
    assert_eq!((states[0].lane.as_str(), states[0].epoch, states[0].waiting), ("replicate.office.0", 2, 0));
}

#[tokio::test]
async fn i5_lanes_that_a_pipeline_no_longer_has_go_with_everything_of_theirs() {
    for setup in ["", "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT, 备注 TEXT)"] {
        let office = Office::new(setup);
        let (mut first, mut third) = (office.open(0).await, office.open(2).await);
        first.commit(&[(Op::Read, row(1, "a", None))]).await.unwrap();
        let mut unknown = row(9, "i", None);
        unknown[2] = Value::Unknown;
        let changes = [(Op::Read, row(2, "b", None)), (Op::Read, row(3, "c", None)), (Op::Update, unknown)];
        third.commit(&changes).await.unwrap();
        // What another lane has written since is that lane's.
        first.commit(&[(Op::Read, row(3, "C", None))]).await.unwrap();

        let mut fewer = sqlite::Sink::new(SinkConfig { partitions: Some(2), ..office.config(0, "g") });
        assert!(!fewer.open(&lane(0)).await.unwrap().is_empty());

        assert_eq!(office.rows(), [stands(1, "a", None), stands(3, "C", None)], "{setup}");
        assert!(office.items().is_empty());
        let lanes: Vec<_> = sqlite::lanes(&office.path()).unwrap().into_iter().map(|l| l.lane).collect();
        assert_eq!(lanes, ["replicate.office.0"]);
        let error = third.commit(&[(Op::Delete, row(2, "", None))]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Fenced, "{error}");
    }
}

#[tokio::test]
async fn many_lanes_share_one_writer() {
    let office = Office::new("");
    let mut lanes = Vec::new();
    for partition in 0..8 {
        lanes.push(office.open(partition).await);
    }
    let commits = lanes.iter_mut().enumerate().map(|(i, lane)| async move {
        for round in 0..10 {
            let id = (i * 100 + round) as i64;
            lane.commit(&[(Op::Insert, row(id, "x", None))]).await.unwrap();
        }
    });
    futures_util::future::join_all(commits).await;
    assert_eq!(office.rows().len(), 80);
}

#[tokio::test]
async fn an_unknown_value_is_left_as_it_is_and_never_null() {
    let office = Office::new("");
    let mut lane = office.open(0).await;
    let partial = |id, code: &str| vec![Value::Integer(id), Value::text(code.to_owned()), Value::Unknown];
    lane.commit(&[(Op::Insert, row(1, "a", Some("kept")))]).await.unwrap();
    lane.commit(&[(Op::Update, partial(1, "b")), (Op::Update, partial(2, "c"))]).await.unwrap();
    assert_eq!(office.rows(), [stands(1, "b", Some("kept"))]);
    assert_eq!(office.items(), [("unknown_value".into(), "waiting".into())]);
    // A partial change queues behind it, a complete one settles both.
    lane.commit(&[(Op::Update, partial(2, "d"))]).await.unwrap();
    assert_eq!(office.items()[1], ("behind".into(), "waiting".into()));
    lane.commit(&[(Op::Update, row(2, "e", None))]).await.unwrap();
    assert_eq!(office.rows()[1], stands(2, "e", None));
    assert!(office.items().iter().all(|(_, state)| state == "superseded"));
}

#[tokio::test]
async fn i3_what_the_table_refuses_is_quarantined_and_the_rest_written() {
    let own = "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT CHECK (code <> 'bad'), \"备注\" TEXT);
        CREATE TRIGGER stop BEFORE INSERT ON people WHEN NEW.code = 'stop' BEGIN SELECT RAISE(ABORT, 'not today'); END;
        CREATE TRIGGER undo BEFORE INSERT ON people WHEN NEW.code = 'undo' BEGIN SELECT RAISE(ROLLBACK, 'all'); END;
        CREATE TRIGGER fail BEFORE INSERT ON people WHEN NEW.code = 'fail' BEGIN SELECT RAISE(FAIL, 'some'); END;";
    let office = Office::new(own);
    let mut lane = office.open(0).await;
    lane.commit(&[
        (Op::Insert, row(1, "good", None)),
        (Op::Insert, row(2, "bad", None)),
        (Op::Insert, row(3, "stop", None)),
        (Op::Insert, row(4, "undo", None)),
        (Op::Insert, row(5, "first", None)),
        (Op::Update, row(5, "bad", None)),
        (Op::Insert, row(6, "undo", None)),
        (Op::Insert, row(7, "fail", None)),
        (Op::Insert, row(8, "good", None)),
    ])
    .await
    .unwrap();
    assert_eq!(office.rows(), [stands(1, "good", None), stands(5, "first", None), stands(8, "good", None)]);
    let items = quarantine::list(&office.path(), false).unwrap();
    let reasons: Vec<&str> = items.iter().map(|i| i.reason.as_str()).collect();
    assert_eq!(items.len(), 6, "{reasons:?}");
    assert!(reasons[0].contains("CHECK constraint failed"), "{reasons:?}");
    assert!(reasons.iter().any(|r| r.contains("not today")));
    assert_eq!(items[0].change.as_ref().unwrap()["after"]["code"], "bad");
    // A later good change settles what waits.
    lane.commit(&[(Op::Update, row(2, "good", None)), (Op::Delete, row(3, "", None))]).await.unwrap();
    assert_eq!(office.items().iter().filter(|(_, state)| state == "superseded").count(), 2);
}

#[tokio::test]
async fn a_row_that_another_row_of_the_batch_cures_is_written() {
    let own = "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT UNIQUE, \"备注\" TEXT);";
    let office = Office::new(own);
    let mut lane = office.open(0).await;
    lane.commit(&[(Op::Insert, row(1, "a", None)), (Op::Insert, row(2, "b", None))]).await.unwrap();
    lane.commit(&[(Op::Update, row(2, "a", None)), (Op::Update, row(1, "c", None))]).await.unwrap();
    assert_eq!(office.rows(), [stands(1, "c", None), stands(2, "a", None)]);
    assert!(office.items().is_empty());
}

#[tokio::test]
async fn a_truncate_removes_the_rows_of_its_lane_only() {
    for own in ["", "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT, \"备注\" TEXT)"] {
        let office = Office::new(own);
        let (mut one, mut two) = (office.open(1).await, office.open(2).await);
        one.commit(&[(Op::Insert, row(1, "a", None)), (Op::Insert, row(3, "c", None))]).await.unwrap();
        two.commit(&[(Op::Insert, row(2, "b", None))]).await.unwrap();
        one.commit(&[
            (Op::Insert, row(4, "d", None)),
            (Op::Truncate, vec![]),
            (Op::Insert, row(5, "e", None)),
        ])
        .await
        .unwrap();
        assert_eq!(office.rows(), [stands(2, "b", None), stands(5, "e", None)], "{own}");
    }
}

#[tokio::test]
async fn i5_another_grant_leaves_nothing_behind() {
    for own in ["", "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT, \"备注\" TEXT)"] {
        let office = Office::new(own);
        let mut one = office.open(1).await;
        let mut two = office.open(2).await;
        let lost = vec![Value::Integer(9), Value::Null, Value::Unknown];
        one.commit(&[(Op::Insert, row(1, "secret", None)), (Op::Update, lost)]).await.unwrap();
        two.commit(&[(Op::Insert, row(2, "other lane", None))]).await.unwrap();
        let mut narrowed = office.sink(1, "narrower");
        assert_eq!(narrowed.open(&lane(1)).await.unwrap(), Checkpoint::default());
        assert_eq!(office.rows(), [stands(2, "other lane", None)]);
        assert!(office.items().is_empty(), "the quarantine held the wider projection");
    }
}

#[tokio::test]
async fn columns_are_added_when_the_contract_grows() {
    let office = Office::new("");
    let mut lane = office.open(0).await;
    lane.commit(&[(Op::Insert, row(1, "a", None))]).await.unwrap();
    let grown = CONTRACT.replace(
        r#"{"name":"note""#,
        r#"{"name":"born","type":["null",{"type":"int","logicalType":"date"}]},{"name":"note""#,
    );
    let grown = Contract::parse(&grown).unwrap();
    lane.sink.prepare(&grown).await.unwrap();
    lane.sink.prepare(&grown).await.unwrap();
    let sql = "SELECT type FROM pragma_table_info('people') WHERE name = 'born'";
    assert_eq!(office.db().query_row(sql, [], |r| r.get::<_, String>(0)).unwrap(), "DATE");
    let sql: String = office
        .db()
        .query_row("SELECT sql FROM sqlite_master WHERE name = 'people'", [], |r| r.get(0))
        .unwrap();
    assert!(sql.contains("/* 编号 * / */"), "{sql}");
}

#[tokio::test]
async fn i6_a_table_that_would_convert_values_is_refused() {
    let rows = [
        (
            "CREATE TABLE people (id INTEGER PRIMARY KEY, code NUMERIC, \"备注\" TEXT)",
            "column code is declared NUMERIC",
        ),
        ("CREATE TABLE people (id INTEGER, code TEXT, \"备注\" TEXT)", "are not unique"),
        (
            "CREATE TABLE people (id INTEGER, code TEXT, \"备注\" TEXT, UNIQUE (id COLLATE NOCASE))",
            "its key id is unique by the collation NOCASE",
        ),
        ("CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT)", "has no column 备注"),
        ("CREATE VIEW people AS SELECT 1 AS id", "prepare table people"),
    ];
    for (own, says) in rows {
        let office = Office::new(own);
        let mut sink = office.sink(0, "g");
        sink.open(&lane(0)).await.unwrap();
        let error = sink.prepare(&office.contract).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::SchemaConflict, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn an_outage_never_fills_the_quarantine() {
    let office = Office::new("");
    let mut lane = office.open(0).await;
    lane.commit(&[(Op::Insert, row(1, "a", None))]).await.unwrap();
    let other = office.db();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = lane.commit(&[(Op::Insert, row(2, "b", None))]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    other.execute_batch("ROLLBACK").unwrap();
    assert!(office.items().is_empty());
    let mut lane = office.open(0).await;
    assert_eq!(lane.at, 1);
    lane.commit(&[(Op::Insert, row(2, "b", None))]).await.unwrap();
    assert_eq!(office.rows().len(), 2);
}

#[tokio::test]
async fn an_item_is_shown_replayed_and_discarded() {
    let own = "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT, \"备注\" TEXT);
        CREATE TRIGGER stop BEFORE INSERT ON people WHEN NEW.code = 'stop' BEGIN SELECT RAISE(ABORT, 'not today'); END;";
    let office = Office::new(own);
    let mut lane = office.open(0).await;
    lane.commit(&[(Op::Insert, row(1, "stop", Some("n"))), (Op::Insert, row(2, "stop", None))])
        .await
        .unwrap();
    let path = office.path();
    assert_eq!(quarantine::replay(&path, 1).unwrap_err().kind, ErrorKind::Refused);
    office.run("DROP TRIGGER stop");
    quarantine::replay(&path, 1).unwrap();
    assert_eq!(office.rows(), [stands(1, "stop", Some("n"))]);
    assert_eq!(quarantine::show(&path, 1).unwrap().unwrap().state, "replayed");
    assert!(quarantine::discard(&path, 2).unwrap());
    assert!(!quarantine::discard(&path, 2).unwrap());
    assert!(quarantine::list(&path, false).unwrap().is_empty());
    // The replayed row belongs to its lane.
    lane.commit(&[(Op::Truncate, vec![])]).await.unwrap();
    assert!(office.rows().is_empty());
}

#[tokio::test]
async fn a_lane_that_fails_takes_no_other_with_it() {
    let own = "CREATE TABLE parent (code TEXT PRIMARY KEY);
        CREATE TABLE people (id INTEGER PRIMARY KEY, \"备注\" TEXT,
            code TEXT REFERENCES parent (code) DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER undo BEFORE INSERT ON people WHEN NEW.\"备注\" = 'undo' BEGIN SELECT RAISE(ROLLBACK, 'x'); END;
        INSERT INTO parent VALUES ('a');";
    let office = Office::new(own);
    let mut fenced = office.open(0).await;
    let (mut newer, mut orphan) = (office.open(0).await, office.open(1).await);
    let (mut undone, mut good) = (office.open(2).await, office.open(3).await);
    let outcomes = futures_util::future::join_all([
        fenced.commit(&[(Op::Insert, row(1, "a", None))]),
        newer.commit(&[(Op::Insert, row(2, "a", None))]),
        orphan.commit(&[(Op::Insert, row(3, "nobody", None))]),
        undone.commit(&[(Op::Insert, row(4, "a", Some("undo"))), (Op::Insert, row(5, "a", None))]),
        good.commit(&[(Op::Insert, row(6, "a", None))]),
    ])
    .await;
    let kinds: Vec<_> = outcomes.into_iter().map(|o| o.err().map(|e| e.kind)).collect();
    // What another lane's row may cure is tried again, not skipped.
    assert_eq!(kinds, [Some(ErrorKind::Fenced), None, Some(ErrorKind::Unavailable), None, None]);
    let ids: Vec<i64> = office.rows().iter().map(|r| r.0).collect();
    assert_eq!(ids, [2, 5, 6]);
    assert_eq!(office.items(), [("store".into(), "waiting".into())]);
    office.run("INSERT INTO parent VALUES ('nobody')");
    let mut orphan = office.open(1).await;
    orphan.commit(&[(Op::Insert, row(3, "nobody", None))]).await.unwrap();
}

#[tokio::test]
async fn a_later_change_of_the_same_batch_settles_what_was_refused() {
    let own = "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT CHECK (code <> 'bad'), \"备注\" TEXT)";
    let office = Office::new(own);
    let mut lane = office.open(0).await;
    let partial = vec![Value::Integer(1), Value::text("bad"), Value::Unknown];
    // The two fold into one that is refused; one by one only the second is.
    lane.commit(&[(Op::Insert, row(1, "a", Some("n"))), (Op::Update, partial.clone())]).await.unwrap();
    assert_eq!(office.rows(), [stands(1, "a", Some("n"))]);
    assert_eq!(office.items(), [("store".into(), "waiting".into())]);
    let mut batch = lane.batch(&[(Op::Update, partial), (Op::Update, row(1, "b", None))]);
    let first = batch.changes.remove(0);
    batch.rejected.push(hutong_core::Rejected {
        rule: "check",
        reason: "a rule before the sink".into(),
        position: first.position,
        stream: "people".into(),
        change: Some(Box::new(first)),
        record: None,
    });
    lane.sink.commit(&batch).await.unwrap();
    assert_eq!(office.rows(), [stands(1, "b", None)]);
    assert!(office.items().iter().all(|(_, state)| state == "superseded"), "{:?}", office.items());
}
