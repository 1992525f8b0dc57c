//! What a department's triggers say: a row's refusal under whatever state, and nothing for the log.

use hutong_core::{Class, ErrorKind, Op, Sink as _};
use hutong_stores::postgres::sink;

use crate::given::{Store, TABLE, Topic, people, person};

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
