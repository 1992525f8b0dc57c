//! What a SQLite store refuses besides a row: a truncate, and a transaction by a constraint that waits for COMMIT.

use super::*;

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
