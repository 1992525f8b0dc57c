//! Receipts under a ledger: committed with their rows, chained over grants, kept where an earlier Hutong made the table.

use hutong_core::ledger::receipt::{NOTE, begin};
use hutong_core::{Op, Sink as _};
use hutong_stores::RECALLED;
use hutong_stores::postgres::sink::{Receipts, Sink, SinkConfig};

use crate::given::{Store, TABLE, Topic, lane, people, person};

fn sink(store: &Store, grant: &str, number: u64) -> Sink {
    let config = SinkConfig::shared(store.pool.clone(), TABLE, grant).unwrap();
    Sink::new(SinkConfig { number: Some(number), ..config })
}

#[tokio::test]
async fn i2_a_receipt_commits_with_its_rows_and_its_chain_outlives_the_grant() {
    let store = Store::fresh().await;
    // As an earlier Hutong has left it.
    store.sink("g0").open(&lane(1)).await.unwrap();
    store.run("ALTER TABLE hutong.hutong_receipt DROP COLUMN sequence, DROP COLUMN proof").await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut one = sink(&store, "g1", 4);
    one.open(&lane(0)).await.unwrap();
    one.prepare(&contract).await.unwrap();
    one.commit(&topic.batch([(Op::Read, person(1, "张三", 30)), (Op::Read, person(2, "李四", 40))]))
        .await
        .unwrap();
    one.commit(&topic.batch([(Op::Insert, person(3, "王五", 50))])).await.unwrap();
    // A refused commit leaves neither row nor receipt.
    let mut other = sink(&store, "g1", 4);
    other.open(&lane(0)).await.unwrap();
    one.commit(&topic.batch([(Op::Insert, person(4, "赵六", 60))])).await.unwrap_err();
    let mut topic = Topic::new(&contract);
    let mut next = sink(&store, "g2", 7);
    let anew = next.open(&lane(0)).await.unwrap();
    assert!(anew.is_empty() && anew.note(NOTE).is_some(), "another grant begins anew, and the chain goes on");
    next.prepare(&contract).await.unwrap();
    next.commit(&topic.batch([(Op::Read, person(1, "张三", 30))])).await.unwrap();

    let name = lane(0).to_string();
    let mut receipts = Receipts::new(store.url.clone());
    let kept = receipts.since(&name, 0, 9).await.unwrap();
    let told: Vec<_> =
        kept.iter().map(|k| (k.proof.sequence, k.proof.grant, k.proof.changes, k.written)).collect();
    assert_eq!(told, [(1, 4, 2, 2), (2, 4, 1, 1), (3, 7, 1, 1)]);
    let mut last = begin(&name);
    for kept in &kept {
        assert!(kept.proof.follows(&name, &last), "{kept:?}");
        last = kept.proof.head();
    }
    assert_eq!(receipts.heads().await.unwrap(), [(name.clone(), last)].into());
    assert_eq!(receipts.since(&name, 3, 9).await.unwrap().len(), 1);
    assert_eq!(receipts.forget(&name, 2).await.unwrap(), 2);
    assert_eq!(receipts.since(&name, 0, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn i2_a_recall_leaves_one_receipt_of_what_it_has_deleted() {
    let store = Store::fresh().await;
    let contract = people();
    let mut topic = Topic::new(&contract);
    let mut one = sink(&store, "g1", 4);
    one.open(&lane(0)).await.unwrap();
    one.prepare(&contract).await.unwrap();
    one.commit(&topic.batch([(Op::Read, person(1, "张三", 30)), (Op::Read, person(2, "李四", 40))]))
        .await
        .unwrap();
    // Whoever is killed behind it does it again, and finds nothing left to do (I7).
    for _ in 0..2 {
        let mut recall = sink(&store, &format!("{RECALLED}9"), 4);
        assert!(recall.open(&lane(0)).await.unwrap().is_empty());
    }
    let name = lane(0).to_string();
    let mut receipts = Receipts::new(store.url.clone());
    let kept = receipts.since(&name, 2, 9).await.unwrap();
    let told: Vec<_> = kept.iter().map(|k| (k.proof.sequence, k.proof.grant, k.written, k.deleted)).collect();
    assert_eq!(told, [(2, 4, 0, 2)]);
    let last = receipts.since(&name, 1, 1).await.unwrap()[0].proof.head();
    assert!(kept[0].proof.is_of_recall() && kept[0].proof.follows(&name, &last));
    assert_eq!(receipts.heads().await.unwrap(), [(name, kept[0].proof.head())].into());
}
