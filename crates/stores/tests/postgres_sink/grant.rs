//! Another grant leaves nothing behind of the one before.

use hutong_core::{ErrorKind, Op, Sink as _};
use hutong_stores::postgres::sink::{Sink, SinkConfig};

use crate::given::{Store, TABLE, Topic, key_only, lane, people, person};

#[tokio::test]
async fn i5_another_grant_removes_the_lanes_rows_and_starts_anew() {
    let store = Store::fresh().await;
    let contract = people();
    let (mut left, mut right) = (Topic::new(&contract), Topic::new(&contract));
    let mut old = store.opened(0, &contract).await;
    let unknown =
        vec![hutong_core::Value::Integer(9), hutong_core::Value::text("周九"), hutong_core::Value::Unknown];
    old.commit(&left.batch([(Op::Read, person(1, "张三", 1)), (Op::Update, unknown)])).await.unwrap();
    store.opened(1, &contract).await.commit(&right.batch([(Op::Read, person(2, "李四", 2))])).await.unwrap();
    assert_eq!(store.quarantine().await, ["[9]|unknown_value|waiting"]);

    let mut new = store.sink("g2");
    let checkpoint = new.open(&lane(0)).await.unwrap();

    assert!(checkpoint.is_empty());
    assert_eq!(store.people().await, ["2|李四|2"]);
    assert!(store.quarantine().await.is_empty());
    let error = old.commit(&left.batch([(Op::Delete, key_only(1))])).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced, "{error}");
    let again = store.sink("g2").open(&lane(0)).await.unwrap();
    assert!(again.is_empty());
}

#[tokio::test]
async fn i5_lanes_that_a_pipeline_no_longer_has_go_with_everything_of_theirs() {
    let own = format!(
        "CREATE SCHEMA share; CREATE TABLE {TABLE} (id bigint PRIMARY KEY, name varchar(20), age int)"
    );
    for setup in ["", own.as_str()] {
        let store = Store::fresh().await;
        store.run(setup).await;
        let contract = people();
        let (mut kept, mut gone) = (Topic::new(&contract), Topic::new(&contract));
        let mut first = store.opened(0, &contract).await;
        first.commit(&kept.batch([(Op::Read, person(1, "张三", 1))])).await.unwrap();
        let mut third = store.opened(2, &contract).await;
        let unknown = vec![
            hutong_core::Value::Integer(9),
            hutong_core::Value::text("周九"),
            hutong_core::Value::Unknown,
        ];
        let changes =
            [(Op::Read, person(2, "李四", 2)), (Op::Read, person(3, "王五", 3)), (Op::Update, unknown)];
        third.commit(&gone.batch(changes)).await.unwrap();
        // What another lane has written since is that lane's.
        let taken = kept.batch([(Op::Read, person(3, "王五", 4))]);
        first.commit(&taken).await.unwrap();

        let mut config = SinkConfig::shared(store.pool.clone(), TABLE, "g1").unwrap();
        config.partitions = Some(2);
        let mut fewer = Sink::new(config);
        assert!(!fewer.open(&lane(0)).await.unwrap().is_empty());

        assert_eq!(store.people().await, ["1|张三|1", "3|王五|4"], "{setup}");
        assert!(store.quarantine().await.is_empty());
        assert_eq!(store.rows("SELECT lane FROM hutong.hutong_lane").await, ["replicate.renshe_people.0"]);
        let error = third.commit(&gone.batch([(Op::Delete, key_only(2))])).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Fenced, "{error}");
    }
}

#[tokio::test]
async fn i5_removing_a_lanes_rows_takes_as_long_as_it_takes() {
    let store = Store::fresh().await;
    store
        .run(&format!(
            "CREATE SCHEMA share; CREATE TABLE {TABLE} (id bigint PRIMARY KEY, name varchar(20), age int);
             CREATE TABLE share.seen (at serial, op text, allowed text);
             CREATE FUNCTION share.see() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO share.seen (op, allowed) VALUES (tg_op, current_setting('statement_timeout'));
                      RETURN coalesce(NEW, OLD); END $$;
             CREATE TRIGGER see BEFORE INSERT OR DELETE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION share.see()"
        ))
        .await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut old = store.opened(0, &contract).await;
    old.commit(&topic.batch([(Op::Read, person(1, "张三", 1))])).await.unwrap();
    old.commit(&topic.batch([(Op::Truncate, vec![]), (Op::Insert, person(2, "李四", 2))])).await.unwrap();
    store.sink("g2").open(&lane(0)).await.unwrap();

    let seen = store.rows("SELECT op, allowed FROM share.seen ORDER BY at").await;
    assert_eq!(seen, ["INSERT|10min", "DELETE|0", "INSERT|10min", "DELETE|0"]);
    assert!(store.people().await.is_empty());
}
