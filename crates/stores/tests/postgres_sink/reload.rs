//! A person reloads a subscription: its lanes start anew, and no others.

use hutong_core::{ErrorKind, Kind, Op, PipelineId, Sink as _};
use hutong_stores::postgres::sink::reload;

use crate::given::{Store, Topic, key_only, lane, people, person};

#[tokio::test]
async fn a_reload_fences_the_owners_and_the_next_ones_start_anew() {
    let store = Store::fresh().await;
    let contract = people();
    let pipeline = |name: &str| PipelineId::new(Kind::Replicate, name);
    assert!(reload(&store.url, &pipeline("renshe_people")).await.unwrap().is_empty());
    let mut topic = Topic::new(&contract);
    let mut old = store.opened(0, &contract).await;
    old.commit(&topic.batch([(Op::Read, person(1, "张三", 1))])).await.unwrap();

    assert!(reload(&store.url, &pipeline("renshe")).await.unwrap().is_empty(), "a longer name is another's");
    let lanes = reload(&store.url, &pipeline("renshe_people")).await.unwrap();

    assert_eq!(lanes, ["replicate.renshe_people.0"]);
    assert_eq!(store.people().await, ["1|张三|1"], "until a lane opens the replica serves what it has");
    let error = old.commit(&topic.batch([(Op::Delete, key_only(1))])).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced, "{error}");
    let mut new = store.sink("g1");
    assert!(new.open(&lane(0)).await.unwrap().is_empty());
    assert!(store.people().await.is_empty());
    let mut topic = Topic::new(&contract);
    new.prepare(&contract).await.unwrap();
    new.commit(&topic.batch([(Op::Read, person(2, "李四", 2))])).await.unwrap();
    assert!(!store.sink("g1").open(&lane(0)).await.unwrap().is_empty(), "it starts anew once");
}
