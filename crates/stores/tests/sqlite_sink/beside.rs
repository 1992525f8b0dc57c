//! A lane that is filled anew serves its rows until it has come as far as they are, where all of them are granted still.

use std::collections::BTreeMap;

use hutong_core::{Act, ErrorKind, Kind, Op, Order, PipelineId, Sink as _, Verb};
use hutong_stores::sqlite;

use super::narrow::{NARROW, WHOLE, content, contract, filled, sink};
use super::{Lane, Office, lane, row, stands};

fn reload(office: &Office) {
    let act = Act { verb: Verb::Reload, at_us: 7, by: "李".into(), reason: "核对".into(), to_us: None };
    let order = Order { act, back: BTreeMap::new() };
    let steered = sqlite::steer(&office.path(), &PipelineId::new(Kind::Replicate, "office"), &order);
    assert_eq!(steered.unwrap().len(), 2);
}

/// Opens lane 0 under a grant of some columns, which stands `at` an offset then.
async fn open<'a>(office: &'a Office, columns: &[&str], mark: &str, at: u64) -> Lane<'a> {
    let mut sink = sink(office, 0, content(office, columns, &[], mark), columns, mark);
    let here = sink.open(&lane(0)).await.unwrap();
    assert_eq!(here.position("p").as_offset().unwrap_or(0), at);
    sink.prepare(&contract(office, columns)).await.unwrap();
    Lane { office, sink, at }
}

fn beside(office: &Office) -> i64 {
    let sql = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name LIKE 'hutong_beside%'";
    office.db().query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn i2_i7_a_reload_serves_what_is_there_until_it_has_come_as_far_and_then_replaces_it_at_once() {
    let office = Office::new("");
    filled(&office, &[]).await;
    office.run(
        "UPDATE people SET code = 'hand' WHERE id = 1; DELETE FROM people WHERE id = 2;
         INSERT INTO people VALUES (5, 'more', NULL, 'replicate.office.0', 1)",
    );
    let other = [stands(11, "a", Some("x")), stands(12, "b", Some("y"))];
    let by_hand = [vec![stands(1, "hand", Some("x")), stands(5, "more", None)], other.to_vec()].concat();
    reload(&office);
    let mut anew = open(&office, WHOLE, "wide", 0).await;
    assert_eq!(office.rows(), by_hand);
    anew.commit(&[(Op::Read, row(1, "a", Some("x")))]).await.unwrap();
    assert_eq!((office.rows(), beside(&office)), (by_hand.clone(), 1));
    // Whoever was killed goes on where it was; what did not commit has replaced nothing.
    let mut anew = open(&office, WHOLE, "wide", 1).await;
    office.run("CREATE TRIGGER none BEFORE INSERT ON hutong_receipt BEGIN SELECT raise(ABORT, 'no'); END");
    anew.commit(&[(Op::Insert, row(2, "b", Some("y")))]).await.unwrap_err();
    assert_eq!((office.rows(), beside(&office)), (by_hand, 1));
    office.run("DROP TRIGGER none");
    let mut anew = open(&office, WHOLE, "wide", 1).await;
    anew.commit(&[(Op::Insert, row(2, "b", Some("y")))]).await.unwrap();
    let mut whole = [vec![stands(1, "a", Some("x")), stands(2, "b", Some("y"))], other.to_vec()].concat();
    assert_eq!((office.rows(), beside(&office)), (whole.clone(), 0));
    // What comes then is written into the table that is served, by the same owner and by the next.
    anew.commit(&[(Op::Delete, row(2, "", None))]).await.unwrap();
    let mut next = open(&office, WHOLE, "wide", 3).await;
    next.commit(&[(Op::Insert, row(3, "c", None))]).await.unwrap();
    whole[1] = stands(3, "c", None);
    assert_eq!(office.rows(), whole);
}

#[tokio::test]
async fn i5_a_grant_of_more_columns_serves_the_fewer_and_one_of_fewer_nothing() {
    let office = Office::new("");
    filled(&office, &[]).await;
    // Narrowed where it stands, then widened again.
    open(&office, NARROW, "narrow", 2).await;
    let mut wide = open(&office, WHOLE, "wide", 0).await;
    assert_eq!(office.rows()[..2], [stands(1, "a", None), stands(2, "b", None)]);
    wide.commit(&[(Op::Read, row(1, "a", Some("x")))]).await.unwrap();
    assert_eq!((office.rows().len(), beside(&office)), (4, 1));
    open(&office, NARROW, "narrow", 0).await;
    assert_eq!((office.rows().len(), beside(&office)), (2, 0), "the rows of the other lane");
}

#[tokio::test]
async fn i3_what_the_table_does_not_take_at_once_is_filled_in_its_place_row_by_row() {
    for raises in ["ABORT, 'no'", "ROLLBACK, 'no'", "IGNORE"] {
        let office = Office::new("");
        filled(&office, &[]).await;
        office.run(&format!(
            "CREATE TRIGGER young BEFORE INSERT ON people WHEN NEW.code = 'z' BEGIN SELECT raise({raises}); END"
        ));
        reload(&office);
        let rows = [(Op::Read, row(1, "a", None)), (Op::Insert, row(2, "z", None))];
        let mut anew = open(&office, WHOLE, "wide", 0).await;
        let error = anew.commit(&rows).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{raises}: {error}");
        assert_eq!(office.rows().len(), 4, "{raises}: it serves what it had");
        let mut anew = open(&office, WHOLE, "wide", 0).await;
        assert_eq!((office.rows().len(), beside(&office)), (2, 0), "{raises}");
        anew.commit(&rows).await.unwrap();
        assert_eq!(office.rows()[0], stands(1, "a", None), "{raises}");
        assert_eq!((office.rows().len(), office.items().len()), (3, 1), "{raises}");
    }
}

#[tokio::test]
async fn i7_one_that_is_asked_for_twice_begins_twice_by_the_same_owner() {
    let office = Office::new("");
    filled(&office, &[]).await;
    reload(&office);
    let mut anew = open(&office, WHOLE, "wide", 0).await;
    anew.commit(&[(Op::Read, row(1, "a", Some("x")))]).await.unwrap();
    reload(&office);
    assert!(anew.sink.open(&lane(0)).await.unwrap().is_empty());
    anew.sink.prepare(&office.contract).await.unwrap();
    anew.at = 0;
    anew.commit(&[(Op::Read, row(1, "c", None)), (Op::Insert, row(2, "d", None))]).await.unwrap();
    assert_eq!(office.rows()[..2], [stands(1, "c", None), stands(2, "d", None)]);
    assert_eq!((office.rows().len(), beside(&office)), (4, 0));
}

#[tokio::test]
async fn i2_what_a_program_that_knows_nothing_of_it_has_written_meanwhile_is_not_lost() {
    let office = Office::new("");
    filled(&office, &[]).await;
    reload(&office);
    let mut anew = open(&office, WHOLE, "wide", 0).await;
    anew.commit(&[(Op::Read, row(1, "a", Some("x")))]).await.unwrap();
    office.run(
        "UPDATE hutong_lane SET checkpoint = json_set(checkpoint, '$.notes.\"beside.at\"', '{}')
         WHERE lane = 'replicate.office.0'",
    );
    open(&office, WHOLE, "wide", 0).await;
    assert_eq!((office.rows().len(), beside(&office)), (2, 0), "filled anew, in its place");
}

#[tokio::test]
async fn a_stale_owner_gives_nothing_up() {
    let office = Office::new(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT, 备注 TEXT,
        hutong_lane TEXT NOT NULL, hutong_offset NOT NULL, CHECK (code <> 'z'))",
    );
    filled(&office, &[]).await;
    reload(&office);
    let mut stale = open(&office, WHOLE, "wide", 0).await;
    open(&office, WHOLE, "wide", 0).await;
    let rows = [(Op::Read, row(1, "a", None)), (Op::Insert, row(2, "z", None))];
    let error = stale.commit(&rows).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced, "{error}");
    assert_eq!((office.rows().len(), beside(&office)), (4, 1), "it serves what it had");
}
