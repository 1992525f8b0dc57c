//! A grant that lets less through: columns are emptied, values masked and rows deleted while changes flow, and the replica
//! keeps the others, killed or not; and one that is recalled while they do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use serde_json::Value as Json;

use crate::installation::until;
use crate::ledger::{Row, Rows, Town, ten};

/// How often the grant is narrowed.
const ROUNDS: u64 = 3;

/// Returns the rows of the register as the replica should hold them.
fn register(town: &Town) -> Rows {
    let db = Connection::open(town.installation.path("office.db")).unwrap();
    let mut query = db.prepare("SELECT id, name, phone FROM entry ORDER BY id").unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

async fn narrowed(town: Town) {
    town.says(&["subscription", "request", "pension"]);
    town.says(&["subscription", "approve", "pension"]);
    let mut run = town.installation.run();
    town.reaches("ten rows", ten).await;
    let phones = |rows: &Rows| rows.len() == 10 && rows.iter().all(|row| row.2.is_some());

    // Somebody goes on changing every row, the withheld column too.
    let (over, path) = (Arc::new(AtomicBool::new(false)), town.installation.path("office.db"));
    let (ended, begun) = (Arc::clone(&over), Arc::new(AtomicBool::new(false)));
    let at_work = Arc::clone(&begun);
    let writer = std::thread::spawn(move || {
        let db = Connection::open(path).unwrap();
        db.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
        for round in 0_i64.. {
            if ended.load(Ordering::Relaxed) {
                return;
            }
            let sql = "UPDATE entry SET name = ?1 || id, phone = '990' || ?1 WHERE id % 3 = ?1 % 3";
            db.execute(sql, [round]).unwrap();
            at_work.store(true, Ordering::Relaxed);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    until("it has begun", async || begun.load(Ordering::Relaxed).then_some(())).await;

    for round in 0..ROUNDS {
        town.reaches("with phones", phones).await;
        town.says(&["subscription", "narrow", "pension", "--without", "phone"]);
        if round > 0 {
            // At some moment before, in or behind the emptying.
            run.kill();
            run = town.installation.run();
        }
        until("without phones", async || {
            let rows = town.replica().await;
            // I7: the rows are never away.
            assert_eq!(rows.len(), 10, "{rows:?}");
            rows.iter().all(|row| row.2.is_none()).then_some(())
        })
        .await;
        if round + 1 < ROUNDS {
            town.says(&["subscription", "widen", "pension"]);
        }
    }

    // Fewer rows, and a mask.
    town.says(&["subscription", "widen", "pension"]);
    town.reaches("with phones", phones).await;
    town.says(&["subscription", "narrow", "pension", "--rows", "id > 5", "--mask", "name=name"]);
    run.kill();
    run = town.installation.run();
    until("five rows with masked names", async || {
        let rows = town.replica().await;
        // I7: what is granted still is never away.
        assert!(rows.iter().filter(|row| row.0 > 5).count() == 5, "{rows:?}");
        let masked = |row: &Row| row.0 > 5 && row.1.as_deref() == Some("*") && row.2.is_some();
        (rows.len() == 5 && rows.iter().all(masked)).then_some(())
    })
    .await;
    over.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    let mut rows = register(&town);
    rows.retain(|row| row.0 > 5);
    rows.iter_mut().for_each(|row| row.1 = Some("*".into()));
    town.reaches("what the register holds, as it is granted", |held| *held == rows).await;

    until("the receipts say of how many rows", async || {
        let answer = town.says(&["report", "--from", "2020-01-01", "-o", "json"]);
        let report: Json = serde_json::from_str(&answer).unwrap();
        let emptied = report["sums"]["rows emptied or masked by a narrower grant"].as_u64().unwrap();
        let removed = report["sums"]["rows removed by a narrower grant"].as_u64().unwrap();
        assert!(emptied <= ROUNDS * 10 + 5 && removed <= 5, "each row once: {emptied} and {removed}");
        (emptied == ROUNDS * 10 + 5 && removed == 5).then_some(())
    })
    .await;
    recalled(&town).await;
    run.stop().await;
    town.says(&["ledger", "verify"]);
}

/// Recalls the grant while somebody goes on writing: what comes then does not come back.
async fn recalled(town: &Town) {
    let (over, path) = (Arc::new(AtomicBool::new(false)), town.installation.path("office.db"));
    let ended = Arc::clone(&over);
    let writer = std::thread::spawn(move || {
        let db = Connection::open(path).unwrap();
        db.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
        while !ended.load(Ordering::Relaxed) {
            db.execute("UPDATE entry SET phone = phone || '1' WHERE id > 5", []).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    town.says(&["subscription", "revoke", "pension", "--reason", "收回", "--recall"]);
    town.reaches("nothing", Vec::is_empty).await;
    town.held("the rows of the replica are deleted").await;
    over.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    town.captured().await;
    town.held("the rows of the replica are deleted").await;
    assert_eq!(town.replica().await, Rows::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_i7_what_is_granted_no_more_goes_under_changes_and_kills_in_postgresql() {
    narrowed(Town::kafka().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_i7_what_is_granted_no_more_goes_under_changes_and_kills_in_sqlite() {
    narrowed(Town::embedded("emptied").await).await;
}
