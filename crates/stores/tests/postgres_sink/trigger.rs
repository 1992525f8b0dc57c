//! What a department's triggers say: a row's refusal under whatever state, and nothing for the log.

use hutong_core::{Class, ErrorKind, Field, Op, Sink as _, Type, Value};
use hutong_stores::postgres::sink;

use crate::given::{Store, TABLE, Topic, contract_of, key_only, lane, people, person};

/// A department's table with a trigger that refuses the name 禁, and quotes it, under a state of its choice.
async fn raising(state: &str) -> Store {
    let store = Store::fresh().await;
    store
        .run(&format!(
            "CREATE SCHEMA share;
             CREATE TABLE {TABLE} (id bigint PRIMARY KEY, name varchar(20), age int);
             CREATE FUNCTION share.no() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN IF NEW.name = '禁' THEN RAISE EXCEPTION 'not this name %', NEW.name USING ERRCODE = '{state}';
                      END IF; RETURN NEW; END $$;
             CREATE TRIGGER no BEFORE INSERT OR UPDATE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION share.no()"
        ))
        .await;
    store
}

#[tokio::test]
async fn i3_a_trigger_refuses_a_row_under_any_state_of_its_own_and_says_why() {
    for state in ["P0001", "45000", "38001", "ZZ999"] {
        let store = raising(state).await;
        let contract = people();
        let mut topic = Topic::new(&contract);
        let mut sink = store.opened(0, &contract).await;
        sink.commit(&topic.batch([(Op::Insert, person(1, "禁", 5)), (Op::Insert, person(2, "王五", 5))]))
            .await
            .unwrap();
        assert_eq!(store.people().await, ["2|王五|5"], "{state}");
        assert_eq!(store.quarantine().await, ["[1]|store|waiting"], "{state}");
        let items = sink::list(&store.url, None, false).await.unwrap();
        assert!(items[0].reason.ends_with("not this name 禁"), "{state}: {}", items[0].reason);
    }
}

#[tokio::test]
async fn a_flood_that_a_trigger_refuses_says_its_state_and_not_its_words() {
    let store = raising("P0001").await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut config = sink::SinkConfig::shared(store.pool.clone(), TABLE, "g1").unwrap();
    config.quarantine_limit = 0;
    let mut sink = sink::Sink::new(config);
    sink.open(&lane(0)).await.unwrap();
    sink.prepare(&contract).await.unwrap();

    let error = sink.commit(&topic.batch([(Op::Insert, person(1, "禁", 5))])).await.unwrap_err();

    assert_eq!(error.class(), Class::Halt, "{error}");
    let text = format!("{error} {:?}", error.hint);
    assert!(text.contains("limit of 0") && text.contains("SQLSTATE P0001"), "{text}");
    assert!(!text.contains("not this name") && !text.contains('禁'), "{text}");
    assert!(!text.contains("quarantine list"), "there is nothing to be listed: {text}");
}

#[tokio::test]
async fn what_a_trigger_quotes_never_gets_into_an_error() {
    for (state, kind) in [("42501", ErrorKind::Denied), ("XX000", ErrorKind::Broken)] {
        let store = raising(state).await;
        let contract = people();
        let mut topic = Topic::new(&contract);
        let mut sink = store.opened(0, &contract).await;
        let error = sink.commit(&topic.batch([(Op::Insert, person(1, "禁", 5))])).await.unwrap_err();
        assert_eq!((error.kind, error.class()), (kind, Class::Halt), "{error}");
        assert!(!error.to_string().contains('禁') && error.why().contains(state), "{error}");
    }
}

/// Lets a table skip the name 跳 in silence.
const SKIP: &str = "CREATE FUNCTION share.skip() RETURNS trigger LANGUAGE plpgsql AS
     $$ BEGIN IF coalesce(NEW.name, OLD.name) = '跳' THEN RETURN NULL; END IF; RETURN coalesce(NEW, OLD); END $$;
     CREATE TRIGGER skip BEFORE INSERT OR UPDATE OR DELETE ON share.people FOR EACH ROW EXECUTE FUNCTION share.skip()";

#[tokio::test]
async fn i3_rows_that_a_trigger_skips_without_a_word_are_set_aside() {
    let own = format!(
        "CREATE SCHEMA share; CREATE TABLE {TABLE} (id bigint PRIMARY KEY, name varchar(20), age int)"
    );
    for setup in ["", own.as_str()] {
        let store = Store::fresh().await;
        store.run(setup).await;
        let contract = people();
        let (mut topic, mut late) = (Topic::new(&contract), Topic::new(&contract));
        let mut sink = store.opened(0, &contract).await;
        sink.commit(&topic.batch([(Op::Read, person(1, "跳", 1)), (Op::Read, person(2, "跳", 2))]))
            .await
            .unwrap();
        store.run(SKIP).await;

        let changes = [
            (Op::Delete, key_only(1)),
            (Op::Update, vec![Value::Integer(2), Value::Unknown, Value::Integer(7)]),
            (Op::Insert, person(3, "跳", 3)),
            (Op::Insert, person(4, "李四", 4)),
            (Op::Delete, key_only(5)),
        ];
        sink.commit(&topic.batch(changes)).await.unwrap();
        // What a lane writes first is copied into the table itself.
        let mut fresh = store.opened(1, &contract).await;
        fresh
            .commit(&late.batch([(Op::Read, person(6, "跳", 6)), (Op::Read, person(7, "王五", 7))]))
            .await
            .unwrap();

        assert_eq!(store.people().await, ["1|跳|1", "2|跳|2", "4|李四|4", "7|王五|7"], "{setup}");
        let waiting = ["[1]|store|waiting", "[3]|store|waiting", "[2]|store|waiting", "[6]|store|waiting"];
        assert_eq!(store.quarantine().await, waiting, "{setup}");
        let items = sink::list(&store.url, None, false).await.unwrap();
        assert!(items[0].reason.contains("skips it"), "{}", items[0].reason);
    }
}

#[tokio::test]
async fn a_row_that_is_its_key_alone_may_be_there_already() {
    let store = Store::fresh().await;
    store.run(&format!("CREATE SCHEMA share; CREATE TABLE {TABLE} (id bigint PRIMARY KEY)")).await;
    let contract = contract_of(vec![Field::new("id", Type::Long)], vec![0]);
    let mut topic = Topic::new(&contract);
    let mut sink = store.opened(0, &contract).await;
    for op in [Op::Read, Op::Insert, Op::Update] {
        sink.commit(&topic.batch([(op, vec![Value::Integer(1)])])).await.unwrap();
    }
    assert_eq!(store.rows(&format!("SELECT id::text FROM {TABLE}")).await, ["1"]);
    assert!(store.quarantine().await.is_empty());
}
