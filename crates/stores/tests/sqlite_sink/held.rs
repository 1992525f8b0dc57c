//! What a comparison reads of a replica: also what no lane has written, and nothing of another pipeline.

use hutong_stores::holding::Holding;

use super::*;

fn held(office: &Office) -> (Vec<Row>, Holding) {
    let mut rows: Vec<Row> = Vec::new();
    let each = |row: &Row| rows.push(row.clone());
    let pipeline = lane(0).pipeline;
    let holding =
        sqlite::held(&office.path(), "people", &office.contract, &pipeline, |_| true, each).unwrap();
    rows.sort_by_key(|row| match row[0] {
        Value::Integer(id) => id,
        _ => i64::MAX,
    });
    (rows, holding)
}

fn key_only(id: i64) -> Row {
    vec![Value::Integer(id), Value::Unknown, Value::Unknown]
}

/// Lets the store know a lane of another pipeline.
const OTHER: &str = "INSERT INTO hutong_lane (lane, checkpoint, epoch, \"grant\", table_name, changed_us)
    SELECT 'replicate.other.0', checkpoint, epoch, \"grant\", table_name, changed_us FROM hutong_lane;";

#[tokio::test]
async fn i3_i5_what_no_lane_has_written_is_read_and_nothing_of_it_is_taken_as_granted() {
    let office = Office::new("");
    let mut first = office.open(0).await;
    first.commit(&[(Op::Read, row(1, "a", None)), (Op::Read, row(2, "b", None))]).await.unwrap();
    office.run(OTHER);
    office.run(
        "INSERT INTO people (id, code, hutong_lane, hutong_offset) VALUES
            (3, 'c', 'replicate.other.7', 0), (4, 'd', 'manual', 0);
         UPDATE people SET hutong_lane = 'replicate.gone.0' WHERE id = 2",
    );

    let (rows, holding) = held(&office);

    assert_eq!(rows, [row(1, "a", None), key_only(2), key_only(4)]);
    assert_eq!((holding.read, holding.foreign), (true, 0));
    // What a repair sends for a surplus row goes by its key.
    first.commit(&[(Op::Delete, row(4, "", None))]).await.unwrap();
    assert_eq!(office.rows(), [stands(1, "a", None), stands(2, "b", None), stands(3, "c", None)]);
}

#[tokio::test]
async fn rows_of_a_departments_own_table_that_no_lane_has_written_are_counted() {
    let office = Office::new(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, code TEXT, \"备注\" TEXT);
         INSERT INTO people (id, code) VALUES (100, 'own'), (101, 'own');",
    );
    let mut first = office.open(0).await;
    first.commit(&[(Op::Read, row(1, "a", None)), (Op::Read, row(2, "b", None))]).await.unwrap();
    first.commit(&[(Op::Read, row(3, "c", None))]).await.unwrap();
    // Another pipeline's row is Hutong's too, and a row that is gone is no row.
    office.run(
        "UPDATE hutong_row SET lane = 'replicate.other.0' WHERE \"offset\" = 1; DELETE FROM people WHERE id = 3",
    );

    let (rows, holding) = held(&office);

    assert_eq!((rows, holding.foreign), (vec![row(1, "a", None)], 2));
}
