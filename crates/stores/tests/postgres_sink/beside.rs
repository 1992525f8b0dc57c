//! A lane that is filled anew serves its rows until it has come as far as they are, where all of them are granted still.

use std::collections::BTreeMap;

use hutong_core::{Act, ErrorKind, Kind, Op, Order, PipelineId, Row, Secret, Sink as _, Value, Verb};
use hutong_stores::postgres::sink::{Pool, Sink, list, replay, steer};

use crate::given::{Store, Topic, key_only, lane, people, person};
use crate::narrow::{Granted, WHOLE, filled};

const NARROW: Granted = Granted { columns: &["id", "name"], ..WHOLE };

pub(crate) async fn reload(store: &Store) {
    let act = Act { verb: Verb::Reload, at_us: 7, by: "李".into(), reason: "核对".into(), to_us: None };
    let order = Order { act, back: BTreeMap::new() };
    let pipeline = PipelineId::new(Kind::Replicate, "renshe_people");
    assert_eq!(steer(&store.url, &pipeline, &order).await.unwrap().len(), 2);
}

/// Opens lane 0 and expects it to begin at its start.
async fn begun(granted: &Granted, store: &Store, mark: &str) -> Sink {
    let mut sink = granted.sink(store, mark, 9);
    assert!(sink.open(&lane(0)).await.unwrap().is_empty());
    sink.prepare(&granted.contract()).await.unwrap();
    sink
}

async fn beside(store: &Store) -> u64 {
    let sql = "SELECT count(*)::text FROM pg_tables WHERE schemaname = 'hutong' AND tablename LIKE 'beside%'";
    store.rows(sql).await[0].parse().unwrap()
}

#[tokio::test]
async fn i2_i7_a_reload_serves_what_is_there_until_it_has_come_as_far_and_then_replaces_it_at_once() {
    let store = Store::fresh().await;
    filled(&store, &WHOLE).await;
    store
        .run(
            "UPDATE share.people SET name = '手改' WHERE id = 1; DELETE FROM share.people WHERE id = 2;
             INSERT INTO share.people VALUES (5, '手添', 50, 'replicate.renshe_people.0', 1)",
        )
        .await;
    let by_hand = ["1|手改|30", "5|手添|50", "11|张三|30", "12|李四|40"];
    reload(&store).await;
    let mut sink = begun(&WHOLE, &store, "wide").await;
    assert_eq!(store.people().await, by_hand);
    let mut topic = Topic::new(&people());
    sink.commit(&topic.batch([(Op::Read, person(1, "张三", 30))])).await.unwrap();
    assert_eq!((store.people().await, beside(&store).await), (by_hand.map(str::to_owned).to_vec(), 1));
    // Whoever was killed goes on where it was.
    drop(sink);
    let mut sink = WHOLE.sink(&store, "wide", 9);
    assert_eq!(sink.open(&lane(0)).await.unwrap().position("0").as_offset(), Some(1));
    sink.prepare(&people()).await.unwrap();
    let last = topic.batch([(Op::Insert, person(2, "李四", 40))]);
    // What did not commit has replaced nothing.
    store.run("ALTER TABLE hutong.hutong_receipt ADD CONSTRAINT none CHECK (false) NOT VALID").await;
    sink.commit(&last).await.unwrap_err();
    assert_eq!((store.people().await, beside(&store).await), (by_hand.map(str::to_owned).to_vec(), 1));
    store.run("ALTER TABLE hutong.hutong_receipt DROP CONSTRAINT none").await;
    sink.open(&lane(0)).await.unwrap();
    sink.prepare(&people()).await.unwrap();
    sink.commit(&last).await.unwrap();
    let mut whole = vec!["1|张三|30", "2|李四|40", "11|张三|30", "12|李四|40"];
    assert_eq!((store.people().await, beside(&store).await), (own(&whole), 0));
    // What comes then is written into the table that is served, by the same owner and by the next.
    sink.commit(&topic.batch([(Op::Delete, key_only(2))])).await.unwrap();
    let mut sink = WHOLE.sink(&store, "wide", 9);
    assert_eq!(sink.open(&lane(0)).await.unwrap().position("0").as_offset(), Some(3));
    sink.prepare(&people()).await.unwrap();
    sink.commit(&topic.batch([(Op::Insert, person(3, "王五", 50))])).await.unwrap();
    whole[1] = "3|王五|50";
    assert_eq!(store.people().await, whole);
}

fn own(rows: &[&str]) -> Vec<String> {
    rows.iter().map(|row| (*row).to_owned()).collect()
}

#[tokio::test]
async fn a_grant_of_more_columns_serves_the_fewer_until_all_are_there() {
    let store = Store::fresh().await;
    for partition in 0..2 {
        let mut sink = NARROW.sink(&store, "narrow", 4);
        sink.open(&lane(partition)).await.unwrap();
        sink.prepare(&NARROW.contract()).await.unwrap();
        let id = i64::from(partition) * 10 + 1;
        let row: Row = vec![Value::Integer(id), Value::text("张三")];
        sink.commit(&Topic::new(&NARROW.contract()).batch([(Op::Read, row)])).await.unwrap();
    }
    let mut sink = begun(&WHOLE, &store, "wide").await;
    assert_eq!(store.people().await, ["1|张三|∅", "11|张三|∅"]);
    sink.commit(&Topic::new(&people()).batch([(Op::Read, person(1, "张三", 30))])).await.unwrap();
    assert_eq!(store.people().await, ["1|张三|30", "11|张三|∅"]);
}

#[tokio::test]
async fn i5_what_is_narrowed_while_it_is_filled_is_served_no_more() {
    let store = Store::fresh().await;
    filled(&store, &WHOLE).await;
    reload(&store).await;
    let mut sink = begun(&WHOLE, &store, "wide").await;
    let first = Topic::new(&people()).batch([(Op::Read, person(1, "张三", 30))]);
    sink.commit(&first).await.unwrap();
    begun(&NARROW, &store, "narrow").await;
    assert_eq!((store.people().await, beside(&store).await), (own(&["11|张三|30", "12|李四|40"]), 0));
}

#[tokio::test]
async fn i3_what_the_table_does_not_take_at_once_is_filled_in_its_place_row_by_row() {
    let skips = "CREATE FUNCTION skips() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN IF NEW.age > 100 THEN RETURN NULL; END IF; RETURN NEW; END $$;
                 CREATE TRIGGER skips BEFORE INSERT ON share.people FOR EACH ROW EXECUTE FUNCTION skips()";
    for then in ["ALTER TABLE share.people ADD CONSTRAINT young CHECK (age < 100)", skips] {
        let store = Store::fresh().await;
        filled(&store, &WHOLE).await;
        store.run(then).await;
        reload(&store).await;
        let mut sink = begun(&WHOLE, &store, "wide").await;
        let rows = [(Op::Read, person(1, "张三", 30)), (Op::Insert, person(2, "李四", 400))];
        let batch = Topic::new(&people()).batch(rows);
        let error = sink.commit(&batch).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        assert_eq!(store.people().await.len(), 4, "it serves what it had: {error}");
        let mut sink = begun(&WHOLE, &store, "wide").await;
        assert_eq!((store.people().await.len(), beside(&store).await), (2, 0));
        sink.commit(&batch).await.unwrap();
        assert_eq!(store.people().await, ["1|张三|30", "11|张三|30", "12|李四|40"]);
        assert_eq!(store.quarantine().await.len(), 1);
    }
}

#[tokio::test]
async fn i3_what_is_replayed_meanwhile_is_not_lost_when_the_rows_are_replaced() {
    let store = Store::fresh().await;
    filled(&store, &WHOLE).await;
    reload(&store).await;
    let mut sink = begun(&WHOLE, &store, "wide").await;
    let mut topic = Topic::new(&people());
    // Its row is not there: by hand it is again, where the lane writes.
    let part = vec![Value::Integer(1), Value::text("赵六"), Value::Unknown];
    sink.commit(&topic.batch([(Op::Update, part)])).await.unwrap();
    let item = list(&store.url, None, true).await.unwrap().pop().unwrap();
    let table = store
        .rows(
            "SELECT tablename::text FROM pg_tables WHERE schemaname = 'hutong' AND tablename LIKE 'beside%'",
        )
        .await
        .remove(0);
    store
        .run(&format!("INSERT INTO hutong.{table} VALUES (1, '张三', 30, 'replicate.renshe_people.0', 0)"))
        .await;
    replay(&store.url, item.id).await.unwrap();
    assert_eq!(store.people().await[0], "1|张三|30", "it is served as it was");
    sink.commit(&topic.batch([(Op::Insert, person(2, "李四", 40))])).await.unwrap();
    assert_eq!(store.people().await[..2], ["1|赵六|30", "2|李四|40"]);
}

#[tokio::test]
async fn i2_what_a_program_that_knows_nothing_of_it_has_written_meanwhile_is_not_lost() {
    let store = Store::fresh().await;
    filled(&store, &WHOLE).await;
    reload(&store).await;
    let mut sink = begun(&WHOLE, &store, "wide").await;
    let mut topic = Topic::new(&people());
    sink.commit(&topic.batch([(Op::Read, person(1, "张三", 30))])).await.unwrap();
    store.run("INSERT INTO share.people VALUES (3, '王五', 50, 'replicate.renshe_people.0', 1)").await;
    store
        .run(
            r#"UPDATE hutong.hutong_lane SET "position" = jsonb_set("position", '{notes,beside.at}', '"{}"')
               WHERE lane = 'replicate.renshe_people.0'"#,
        )
        .await;
    begun(&WHOLE, &store, "wide").await;
    assert_eq!((store.people().await.len(), beside(&store).await), (2, 0), "filled anew, in its place");
}

#[tokio::test]
async fn a_role_that_may_make_no_table_fills_in_its_place() {
    let store = Store::fresh().await;
    filled(&store, &WHOLE).await;
    reload(&store).await;
    let role = format!("{}_writer", store.rows("SELECT current_database()::text").await[0]);
    store
        .run(&format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA hutong, share TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA hutong, share TO {role};
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA hutong TO {role}"
        ))
        .await;
    let url = Secret::new(store.url.reveal().replace("postgres@", &format!("{role}@")));
    let store = Store { pool: Pool::new(url.clone(), 4), url, client: store.client };
    let mut sink = WHOLE.sink(&store, "wide", 9);
    assert!(sink.open(&lane(0)).await.unwrap().is_empty());
    sink.prepare(&people()).await.unwrap();
    assert_eq!((store.people().await.len(), beside(&store).await), (2, 0));
}

#[tokio::test]
async fn i6_a_column_of_another_type_is_not_filled_by_a_cast() {
    let store = Store::fresh().await;
    filled(&store, &WHOLE).await;
    store.run("ALTER TABLE share.people ALTER COLUMN name TYPE char(20)").await;
    reload(&store).await;
    let mut sink = begun(&WHOLE, &store, "wide").await;
    let rows = [(Op::Read, person(1, "张三 ", 30)), (Op::Insert, person(2, "李四", 40))];
    let error = sink.commit(&Topic::new(&people()).batch(rows)).await.unwrap_err();
    assert!(error.to_string().contains("column name is of a type into which"), "{error}");
}
