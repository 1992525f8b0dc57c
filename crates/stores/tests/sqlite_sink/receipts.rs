//! Receipts under a ledger: committed with their rows, chained over grants, kept where an earlier Hutong made the table.

use std::sync::Arc;

use hutong_core::ledger::receipt::{NOTE, begin};
use hutong_core::{Op, Sink as _};
use hutong_stores::RECALLED;
use hutong_stores::sqlite::{self, SinkConfig, Store, receipts};

use super::{Lane, Office, lane, row};

async fn open<'a>(office: &'a Office, grant: &str, number: u64) -> Lane<'a> {
    // A writer of its own, as of another process.
    let store = Arc::new(Store::new(office.path()));
    let mut sink = sqlite::Sink::new(SinkConfig { number: Some(number), store, ..office.config(0, grant) });
    let checkpoint = sink.open(&lane(0)).await.unwrap();
    sink.prepare(&office.contract).await.unwrap();
    assert!(
        number == 4 || checkpoint.is_empty() && checkpoint.note(NOTE).is_some(),
        "the chain outlives the grant"
    );
    Lane { office, sink, at: checkpoint.position("p").as_offset().unwrap_or(0) }
}

#[tokio::test]
async fn i2_a_receipt_commits_with_its_rows_and_its_chain_outlives_the_grant() {
    let office = Office::new("");
    office.open(1).await;
    // As an earlier Hutong has left it.
    office.run(
        "DROP INDEX hutong_receipt_sequence; ALTER TABLE hutong_receipt DROP COLUMN sequence;
         ALTER TABLE hutong_receipt DROP COLUMN proof;",
    );
    let mut one = open(&office, "g1", 4).await;
    one.commit(&[(Op::Insert, row(1, "a", None)), (Op::Insert, row(2, "b", None))]).await.unwrap();
    one.commit(&[(Op::Delete, row(1, "a", None))]).await.unwrap();
    let other = open(&office, "g1", 4).await;
    one.commit(&[(Op::Insert, row(3, "c", None))]).await.unwrap_err();
    drop(other);
    let mut next = open(&office, "g2", 7).await;
    next.commit(&[(Op::Insert, row(2, "b", None))]).await.unwrap();

    let (path, name) = (office.path(), lane(0).to_string());
    let kept = receipts::since(&path, &name, 0, 9).unwrap();
    let told: Vec<_> = kept.iter().map(|k| (k.proof.sequence, k.proof.grant, k.written, k.deleted)).collect();
    assert_eq!(told, [(1, 4, 2, 0), (2, 4, 0, 1), (3, 7, 1, 0)]);
    let mut last = begin(&name);
    for kept in &kept {
        assert!(kept.proof.follows(&name, &last), "{kept:?}");
        last = kept.proof.head();
    }
    assert_eq!(receipts::heads(&path).unwrap(), [(name.clone(), last)].into());
    assert_eq!(receipts::since(&path, &name, 3, 9).unwrap().len(), 1);
    assert_eq!(receipts::forget(&path, &name, 2).unwrap(), 2);
    assert_eq!(receipts::since(&path, &name, 0, 9).unwrap().len(), 1);
    assert!(receipts::heads(&path.with_file_name("nowhere.db")).unwrap().is_empty());
}

#[tokio::test]
async fn i2_a_recall_leaves_one_receipt_of_what_it_has_deleted() {
    let office = Office::new("");
    let mut one = open(&office, "g1", 4).await;
    one.commit(&[(Op::Insert, row(1, "a", None)), (Op::Insert, row(2, "b", None))]).await.unwrap();
    // Whoever is killed behind it does it again, and finds nothing left to do (I7).
    for _ in 0..2 {
        let store = Arc::new(Store::new(office.path()));
        let config = office.config(0, &format!("{RECALLED}9"));
        let mut sink = sqlite::Sink::new(SinkConfig { number: Some(4), store, ..config });
        assert!(sink.open(&lane(0)).await.unwrap().is_empty());
    }
    let (path, name) = (office.path(), lane(0).to_string());
    let kept = receipts::since(&path, &name, 2, 9).unwrap();
    let told: Vec<_> = kept.iter().map(|k| (k.proof.sequence, k.proof.grant, k.written, k.deleted)).collect();
    assert_eq!(told, [(2, 4, 0, 2)]);
    let last = receipts::since(&path, &name, 1, 1).unwrap()[0].proof.head();
    assert!(kept[0].proof.is_of_recall() && kept[0].proof.follows(&name, &last));
    assert_eq!(receipts::heads(&path).unwrap(), [(name, kept[0].proof.head())].into());
    assert!(office.rows().is_empty());
}
