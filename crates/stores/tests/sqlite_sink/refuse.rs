//! What a SQLite store refuses besides a row: a truncate, and a transaction by a constraint that waits for COMMIT.

use hutong_core::{RecordTrace, Rejected};

use super::*;

/// An item of a lane: a change, or nothing but a reason, or a record that did not decode.
pub(super) fn rejected(rule: &'static str, at: u64, change: Option<Change>, record: bool) -> Rejected {
    let trace = || RecordTrace {
        topic: "gongan.people.v1".into(),
        partition: 0,
        offset: at,
        schema_id: None,
        digest: "ab".into(),
    };
    Rejected {
        rule,
        reason: "because".into(),
        position: position(at),
        stream: "people".into(),
        change: change.map(Box::new),
        record: record.then(trace),
    }
}

#[tokio::test]
async fn i3_a_truncate_settles_what_belongs_to_no_known_row_and_a_refused_one_settles_nothing() {
    let office = Office::new(OWN);
    let mut lane = office.open(0).await;
    let mut batch = lane.batch(&[(Op::Insert, row(1, "a", None)), (Op::Insert, row(2, "b", None))]);
    batch.rejected = vec![rejected("unknown_value", 0, None, false), rejected("decode", 1, None, true)];
    lane.sink.commit(&batch).await.unwrap();
    let ids: Vec<i64> = quarantine::list(&office.path(), true).unwrap().iter().map(|item| item.id).collect();
    for (id, why) in ids.into_iter().zip(["could not be decided", "did not decode"]) {
        let error = quarantine::replay(&office.path(), id).unwrap_err();
        assert!(error.to_string().contains(why) && error.hint.is_some(), "{error:?}");
    }
    let states = || office.items().into_iter().map(|(_, state)| state).collect::<Vec<_>>();
    office.run("INSERT INTO child VALUES (2)");
    lane.commit(&[(Op::Truncate, vec![])]).await.unwrap();
    assert_eq!(states(), ["waiting"; 3]);

    office.run("DELETE FROM child");
    lane.commit(&[(Op::Truncate, vec![])]).await.unwrap();

    assert_eq!(states(), ["superseded"; 3]);
}

#[tokio::test]
async fn i4_a_replay_goes_by_position_and_not_by_number() {
    let office = Office::new(OWN);
    let mut lane = office.open(0).await;
    let change = |at: u64, code: &str| Some(office.change(Op::Update, row(1, code, None), at));
    let mut batch = lane.batch(&[(Op::Insert, row(2, "b", None)), (Op::Insert, row(3, "c", None))]);
    batch.rejected = vec![
        rejected("check", 1, change(1, "later"), false),
        rejected("check", 0, change(0, "first"), false),
    ];
    lane.sink.commit(&batch).await.unwrap();
    let ids: Vec<i64> = quarantine::list(&office.path(), true).unwrap().iter().map(|item| item.id).collect();

    let error = quarantine::replay(&office.path(), ids[0]).unwrap_err();
    assert!(error.to_string().contains("waits before it"), "{error}");
    quarantine::replay(&office.path(), ids[1]).unwrap();
    quarantine::replay(&office.path(), ids[0]).unwrap();

    assert_eq!(office.rows()[0], stands(1, "later", None));
}

const OWN: &str = "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT, \"备注\" TEXT);
    CREATE TABLE child (id INTEGER REFERENCES people (id));";

#[tokio::test]
async fn i3_a_truncate_that_other_rows_forbid_is_set_aside() {
    let office = Office::new(OWN);
    let mut lane = office.open(0).await;
    lane.commit(&[(Op::Insert, row(1, "a", None)), (Op::Insert, row(2, "b", None))]).await.unwrap();
    office.run("INSERT INTO child VALUES (2)");

    lane.commit(&[(Op::Truncate, vec![]), (Op::Insert, row(3, "c", None))]).await.unwrap();

    assert_eq!(office.rows(), [stands(1, "a", None), stands(2, "b", None), stands(3, "c", None)]);
    assert_eq!(office.items(), [("store".into(), "waiting".into())]);
    // The lane goes on, and a truncate that is allowed removes what the refused one left.
    office.run("DELETE FROM child");
    lane.commit(&[(Op::Truncate, vec![])]).await.unwrap();
    assert!(office.rows().is_empty());
}

#[tokio::test]
async fn i3_a_trigger_that_undoes_a_truncate_sets_it_aside_too() {
    let undo = "CREATE TRIGGER undo BEFORE DELETE ON people WHEN OLD.id = 2 BEGIN SELECT RAISE(ROLLBACK, 'all'); END";
    let office = Office::new(&format!("{OWN} {undo}"));
    let mut lane = office.open(0).await;
    lane.commit(&[(Op::Insert, row(1, "a", None)), (Op::Insert, row(2, "b", None))]).await.unwrap();
    lane.commit(&[(Op::Truncate, vec![]), (Op::Insert, row(3, "c", None))]).await.unwrap();
    assert_eq!(office.rows(), [stands(1, "a", None), stands(2, "b", None), stands(3, "c", None)]);
    assert_eq!(office.items(), [("store".into(), "waiting".into())]);
}

const UNIQUE: &str = "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT UNIQUE, \"备注\" TEXT);";

#[tokio::test]
async fn unique_values_that_move_within_a_batch_arrive() {
    let office = Office::new(UNIQUE);
    let mut lane = office.open(0).await;
    let named = |id: i64, by: i64| row(id, &format!("{:03}", id + by), None);
    lane.commit(&(1..=99).map(|id| (Op::Insert, named(id, 0))).collect::<Vec<_>>()).await.unwrap();

    // Two change places by way of a third value, which neither of them keeps.
    let swap = [(Op::Update, row(1, "tmp", None)), (Op::Update, named(2, -1)), (Op::Update, named(1, 1))];
    lane.commit(&swap).await.unwrap();
    assert_eq!(office.rows()[..2], [stands(1, "002", None), stands(2, "001", None)]);

    // A chain of which each link waits for the next, from either end.
    for by in [1, 0] {
        let chain: Vec<_> = (3..=99).map(|id| (Op::Update, named(id, by))).collect();
        lane.commit(&chain).await.unwrap();
        let expected: Vec<_> = (3..=99).map(|id| stands(id, &format!("{:03}", id + by), None)).collect();
        assert_eq!(office.rows()[2..], expected);
    }
    assert!(office.items().is_empty(), "{:?}", office.items());
}

#[tokio::test]
async fn i4_what_another_lane_cures_is_tried_again_with_what_queues_behind_it() {
    let office = Office::new(UNIQUE);
    let (mut one, mut two) = (office.open(1).await, office.open(2).await);
    one.commit(&[(Op::Insert, row(1, "a", None)), (Op::Insert, row(3, "c", None))]).await.unwrap();
    two.commit(&[(Op::Insert, row(2, "a", Some("n"))), (Op::Insert, row(4, "c", None))]).await.unwrap();
    let partial = vec![Value::Integer(2), Value::Unknown, Value::text("m")];
    two.commit(&[(Op::Update, partial)]).await.unwrap();
    let waits = |rule: &str| (rule.to_owned(), "waiting".to_owned());
    assert_eq!(office.items(), [waits("conflict"), waits("conflict"), waits("behind")]);

    one.commit(&[(Op::Delete, row(1, "", None))]).await.unwrap();

    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let expected = [stands(2, "a", Some("m")), stands(3, "c", None)];
    while office.rows() != expected {
        assert!(std::time::Instant::now() < deadline, "{:?} {:?}", office.rows(), office.items());
        two.commit(&[(Op::Delete, row(99, "", None))]).await.unwrap();
    }
    let states: Vec<_> = office.items().into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["replayed", "waiting", "replayed"]);
}

#[tokio::test]
async fn a_trigger_that_undoes_a_replay_costs_no_other_item_and_no_commit() {
    let undo =
        "CREATE TRIGGER undo BEFORE INSERT ON people WHEN NEW.id = 2 AND (SELECT count(*) FROM people) = 0
                BEGIN SELECT RAISE(ROLLBACK, 'all'); END";
    let office = Office::new(&format!("{UNIQUE} {undo}"));
    let (mut one, mut two) = (office.open(1).await, office.open(2).await);
    one.commit(&[(Op::Insert, row(1, "a", None))]).await.unwrap();
    two.commit(&[(Op::Insert, row(2, "a", None)), (Op::Insert, row(3, "a", None))]).await.unwrap();
    assert_eq!(office.items().len(), 2);
    one.commit(&[(Op::Delete, row(1, "", None))]).await.unwrap();

    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while office.rows() != [stands(3, "a", None)] {
        assert!(std::time::Instant::now() < deadline, "{:?} {:?}", office.rows(), office.items());
        two.commit(&[(Op::Delete, row(99, "", None))]).await.unwrap();
    }
}

#[tokio::test]
async fn i6_a_key_is_found_byte_for_byte_whatever_collation_its_column_has() {
    let text = r#"{"type":"record","name":"people","sharing":"unconditional","key":["code"],"fields":[
        {"name":"id","type":"long"},{"name":"code","type":"string"},{"name":"note","type":["null","string"],"column":"备注"}]}"#;
    let columns = "id INTEGER, code TEXT COLLATE NOCASE, \"备注\" TEXT";
    for (own, fits) in [
        (format!("CREATE TABLE people ({columns}, PRIMARY KEY (code))"), false),
        (format!("CREATE TABLE people ({columns}, UNIQUE (code COLLATE BINARY))"), true),
    ] {
        let mut office = Office::new(&own);
        office.contract = Contract::parse(text).unwrap().shared();
        let mut sink = office.sink(0, "g");
        sink.open(&super::lane(0)).await.unwrap();
        let prepared = sink.prepare(&office.contract).await;
        assert_eq!(prepared.is_ok(), fits, "{own}: {prepared:?}");
        let looked = sqlite::probe_target(&office.path(), "people", &office.contract);
        assert_eq!(looked.iter().all(|finding| finding.ok), fits, "{own}: {looked:?}");
        if !fits {
            continue;
        }
        let mut lane = office.open(0).await;
        lane.commit(&[(Op::Insert, row(1, "a", None)), (Op::Insert, row(2, "A", None))]).await.unwrap();
        let mut change = office.change(Op::Delete, row(2, "A", None), 2);
        change.before = hutong_core::Before::Key(vec![Value::Unknown, Value::text("A"), Value::Unknown]);
        let batch = Batch {
            changes: vec![change],
            delta: Delta::range("p", position(2), position(3)),
            ..Batch::default()
        };
        lane.sink.commit(&batch).await.unwrap();
        assert_eq!(office.rows(), [stands(1, "a", None)]);
    }
}

#[tokio::test]
async fn i3_rows_that_the_store_skips_without_a_word_are_set_aside() {
    let skip = |when: &str, row: &str| {
        format!(
            "CREATE TRIGGER skip{when} BEFORE {when} ON people WHEN {row}.\"备注\" = 'skip'
             BEGIN SELECT RAISE(IGNORE); END;"
        )
    };
    // What a statement has done before its trigger fails stands, unless it is taken back.
    let fail = "CREATE TRIGGER fail AFTER INSERT ON people WHEN NEW.code = 'fail' BEGIN SELECT RAISE(FAIL, 'no'); END;";
    let own = "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT, \"备注\" TEXT);";
    let office = Office::new(own);
    let mut lane = office.open(0).await;
    lane.commit(&[(Op::Insert, row(1, "a", Some("skip"))), (Op::Insert, row(2, "b", Some("skip")))])
        .await
        .unwrap();
    office.run(&format!("{}{}{}{fail}", skip("INSERT", "NEW"), skip("UPDATE", "NEW"), skip("DELETE", "OLD")));

    lane.commit(&[
        (Op::Update, row(1, "x", Some("skip"))),
        (Op::Delete, row(2, "", None)),
        (Op::Insert, row(3, "c", Some("skip"))),
        (Op::Insert, row(4, "fail", None)),
        (Op::Update, vec![Value::Integer(1), Value::text("y"), Value::Unknown]),
        (Op::Delete, row(5, "", None)),
        (Op::Insert, row(6, "f", None)),
    ])
    .await
    .unwrap();

    let rows = [stands(1, "a", Some("skip")), stands(2, "b", Some("skip")), stands(6, "f", None)];
    assert_eq!(office.rows(), rows);
    let rules: Vec<_> = office.items().into_iter().map(|(rule, _)| rule).collect();
    assert_eq!(rules, ["store", "behind", "store", "store", "store"]);
    let items = quarantine::list(&office.path(), true).unwrap();
    assert!(items[0].reason.contains("a trigger of the table skips it"), "{}", items[0].reason);
}

#[tokio::test]
async fn a_row_that_is_its_key_alone_may_be_there_already() {
    let mut office = Office::new("CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT, \"备注\" TEXT)");
    let text = r#"{"type":"record","name":"people","sharing":"unconditional","key":["id"],"fields":[{"name":"id","type":"long"}]}"#;
    office.contract = Contract::parse(text).unwrap().shared();
    let mut lane = office.open(0).await;
    for op in [Op::Read, Op::Insert, Op::Update] {
        lane.commit(&[(op, vec![Value::Integer(1)])]).await.unwrap();
    }
    assert_eq!(office.rows(), [(1, None, None)]);
    assert!(office.items().is_empty(), "{:?}", office.items());
}

#[tokio::test]
async fn a_flood_halts_the_lane_and_commits_nothing_of_it() {
    let office = Office::new(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT CHECK (code <> 'bad'), \"备注\" TEXT)",
    );
    let mut sink = sqlite::Sink::new(SinkConfig { quarantine_limit: 3, ..office.config(0, "g") });
    sink.open(&super::lane(0)).await.unwrap();
    sink.prepare(&office.contract).await.unwrap();
    let mut lane = Lane { office: &office, sink, at: 0 };
    let bad = |ids: std::ops::Range<i64>| ids.map(|id| (Op::Insert, row(id, "bad", None)));
    lane.commit(&bad(0..2).chain([(Op::Insert, row(2, "good", None))]).collect::<Vec<_>>()).await.unwrap();

    let error = lane.commit(&bad(3..9).chain([(Op::Insert, row(9, "good", None))]).collect::<Vec<_>>()).await;

    let error = error.unwrap_err();
    assert_eq!(error.class(), hutong_core::Class::Halt, "{error}");
    // Nothing of it is in the quarantine, so the error says what was refused.
    let text = error.to_string();
    for says in ["limit of 3", "2 before this batch", "rule store", "CHECK constraint failed"] {
        assert!(text.contains(says), "{says}: {text}");
    }
    let hint = error.hint.unwrap();
    assert!(hint.contains("[limits] quarantine"), "{hint}");
    assert!(hint.contains("`hutong quarantine list office` shows the 2 earlier ones"), "{hint}");
    assert_eq!(office.rows(), [stands(2, "good", None)]);
    assert_eq!(office.items().len(), 2);
}

#[tokio::test]
async fn a_flood_that_a_trigger_refuses_does_not_say_its_words() {
    let no = "CREATE TRIGGER no BEFORE INSERT ON people WHEN NEW.code = '禁'
              BEGIN SELECT RAISE(ABORT, 'not the name 禁'); END";
    let office = Office::new(&format!("{OWN} {no}"));
    let mut sink = sqlite::Sink::new(SinkConfig { quarantine_limit: 0, ..office.config(0, "g") });
    sink.open(&super::lane(0)).await.unwrap();
    sink.prepare(&office.contract).await.unwrap();
    let mut lane = Lane { office: &office, sink, at: 0 };

    let error = lane.commit(&[(Op::Insert, row(1, "禁", None))]).await.unwrap_err();

    let text = format!("{error} {:?}", error.hint);
    assert!(text.contains("limit of 0") && text.contains("a trigger of the table refuses the row"), "{text}");
    assert!(!text.contains('禁') && !text.contains("quarantine list"), "{text}");
}

#[tokio::test]
async fn more_conflicts_than_the_limit_are_waited_for_and_halt_no_lane() {
    let office = Office::new(UNIQUE);
    let mut one = office.open(1).await;
    let opened = async |limit| {
        let mut sink = sqlite::Sink::new(SinkConfig { quarantine_limit: limit, ..office.config(2, "g") });
        let at = sink.open(&super::lane(2)).await.unwrap().position("p").as_offset().unwrap_or(0);
        sink.prepare(&office.contract).await.unwrap();
        Lane { office: &office, sink, at }
    };
    let named = |id: i64| (Op::Insert, row(id, &format!("{:02}", id % 100), None));
    one.commit(&(0..6).map(named).collect::<Vec<_>>()).await.unwrap();
    opened(3).await.commit(&(100..103).map(named).collect::<Vec<_>>()).await.unwrap();
    let beyond: Vec<_> = (103..106).map(named).collect();
    let error = opened(3).await.commit(&beyond).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert_eq!(office.items().len(), 3);

    let freed: Vec<_> = (0..3).map(|id| (Op::Delete, row(id, "", None))).collect();
    one.commit(&freed).await.unwrap();

    // A lane that opens tries what waits even where no commit goes through.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while opened(3).await.commit(&beyond).await.is_err() {
        assert!(std::time::Instant::now() < deadline, "{:?}", office.items());
    }
    let ids: Vec<i64> = office.rows().iter().map(|row| row.0).collect();
    assert_eq!(ids, [3, 4, 5, 100, 101, 102]);
}

const DEFERRED: &str = "CREATE TABLE people (id INTEGER PRIMARY KEY, \"备注\" TEXT,
        code TEXT REFERENCES parent (code) DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE parent (code TEXT PRIMARY KEY);
    CREATE TABLE child (id INTEGER REFERENCES people DEFERRABLE INITIALLY DEFERRED);
    INSERT INTO parent VALUES ('a');";

#[tokio::test]
async fn i3_what_a_deferred_foreign_key_refuses_is_set_aside_after_some_patience() {
    let office = Office::new(DEFERRED);
    let mut lane = office.open(0).await;
    lane.commit(&[(Op::Insert, row(1, "a", None)), (Op::Insert, row(2, "a", None))]).await.unwrap();
    office.run("INSERT INTO child VALUES (1)");
    let changes = [
        (Op::Insert, row(3, "a", None)),
        (Op::Update, row(3, "nobody", None)),
        (Op::Delete, row(1, "", None)),
        (Op::Delete, row(2, "", None)),
        (Op::Insert, row(4, "a", None)),
        (Op::Insert, row(5, "nobody", None)),
    ];
    let mut batch = lane.batch(&changes);
    let mut attempts = 0;
    while let Err(error) = lane.sink.commit(&batch).await {
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        attempts += 1;
        assert!(attempts < 10, "{error}");
        lane.sink.open(&super::lane(0)).await.unwrap();
        lane.sink.prepare(&office.contract).await.unwrap();
    }
    assert_eq!(attempts, 5);
    assert_eq!(office.rows(), [stands(1, "a", None), stands(3, "a", None), stands(4, "a", None)]);
    let conflict = ("conflict".to_owned(), "waiting".to_owned());
    assert_eq!(office.items(), vec![conflict; 3]);
    // The next one does not wait anew.
    batch = lane.batch(&[(Op::Insert, row(6, "nobody", None))]);
    lane.sink.commit(&batch).await.unwrap();

    // Once their rows are there they are replayed.
    office.run("INSERT INTO parent VALUES ('nobody'); DELETE FROM child");
    let expected = [3, 4, 5, 6];
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while office.rows().iter().map(|row| row.0).ne(expected) {
        assert!(std::time::Instant::now() < deadline, "{:?} {:?}", office.rows(), office.items());
        lane.commit(&[(Op::Delete, row(99, "", None))]).await.unwrap();
    }
}
