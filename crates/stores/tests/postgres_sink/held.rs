//! What a comparison reads of a replica: also what no lane has written, and nothing of another pipeline.

use hutong_core::{Op, Row, Sink as _, Value};
use hutong_stores::holding::Holding;
use hutong_stores::postgres::sink;

use crate::given::{Store, TABLE, Topic, key_only, lane, people, person};

async fn held(store: &Store) -> (Vec<Row>, Holding) {
    let mut rows: Vec<Row> = Vec::new();
    let each = |row: &Row| rows.push(row.clone());
    let (contract, pipeline) = (people(), lane(0).pipeline);
    let holding = sink::held(&store.url, TABLE, &contract, &pipeline, |_| true, each).await.unwrap();
    rows.sort_by_key(|row| match row[0] {
        Value::Integer(id) => id,
        _ => i64::MAX,
    });
    (rows, holding)
}

/// Lets the store know a lane of another pipeline.
const OTHER: &str = "INSERT INTO hutong.hutong_lane
    SELECT (jsonb_populate_record(l, '{\"lane\": \"replicate.other.0\"}')).* FROM hutong.hutong_lane l";

#[tokio::test]
async fn i3_i5_what_no_lane_has_written_is_read_and_nothing_of_it_is_taken_as_granted() {
    let store = Store::fresh().await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    let rows = [(Op::Read, person(1, "张三", 1)), (Op::Read, person(2, "李四", 2))];
    sink.commit(&topic.batch(rows)).await.unwrap();
    store.run(OTHER).await;
    store
        .run(&format!(
            "INSERT INTO {TABLE} (id, name, age, hutong_lane, hutong_offset) VALUES
                (3, '王五', 3, 'replicate.other.7', 0), (4, '赵六', 4, 'manual', 0);
             UPDATE {TABLE} SET hutong_lane = 'replicate.gone.0' WHERE id = 2"
        ))
        .await;

    let (rows, holding) = held(&store).await;

    assert_eq!(rows, [person(1, "张三", 1), key_only(2), key_only(4)]);
    assert_eq!((holding.read, holding.foreign), (true, 0));
    // What a repair sends for a surplus row goes by its key.
    sink.commit(&topic.batch([(Op::Delete, key_only(4))])).await.unwrap();
    assert_eq!(store.people().await, ["1|张三|1", "2|李四|2", "3|王五|3"]);
}

#[tokio::test]
async fn rows_of_a_departments_own_table_that_no_lane_has_written_are_counted() {
    let store = Store::fresh().await;
    store
        .run(&format!(
            "CREATE SCHEMA share; CREATE TABLE {TABLE} (id numeric(20) PRIMARY KEY, name text, age int);
             INSERT INTO {TABLE} VALUES (100, '本局', 1), (101, '本局', 2)"
        ))
        .await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    let rows = [(Op::Read, person(1, "张三", 1)), (Op::Read, person(2, "李四", 2))];
    sink.commit(&topic.batch(rows)).await.unwrap();
    // Another pipeline's row is Hutong's too, and a row that is gone is no row.
    let sql = "UPDATE hutong.hutong_row SET lane = 'replicate.other.0' WHERE key ->> 'id' = '2';
               INSERT INTO hutong.hutong_row SELECT table_name, '{\"id\": \"9\"}'::jsonb, lane, \"offset\"
                 FROM hutong.hutong_row WHERE key ->> 'id' = '1'";
    store.run(sql).await;

    let (rows, holding) = held(&store).await;

    assert_eq!((rows, holding.foreign), (vec![person(1, "张三", 1)], 2));
}
