//! What the ledger withholds, no command lets in or shows.

use rusqlite::Connection;
use serde_json::Value as Json;

use crate::installation::until;
use crate::ledger::Town;

/// The subscriber's own table, which takes everybody but the seventh.
const OWN: &str = "CREATE TABLE entry (id INTEGER PRIMARY KEY, name TEXT, phone TEXT);
    CREATE TRIGGER seventh BEFORE INSERT ON entry WHEN NEW.id = 7 BEGIN SELECT RAISE(ABORT, 'not yet'); END";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_replay_and_a_tap_ask_the_ledger_and_let_in_nothing_of_another_grant() {
    let town = Town::embedded("withheld").await;
    town.installation.announce(&["quarantined"]);
    let share = Connection::open(town.installation.path("renshe.db")).unwrap();
    share.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    share.execute_batch(OWN).unwrap();
    town.says(&["subscription", "request", "pension"]);
    town.says(&["subscription", "approve", "pension"]);
    let run = town.installation.run();
    let waiting = || {
        let list = town.says(&["quarantine", "list", "pension", "-o", "json"]);
        let items: Vec<Json> = serde_json::from_str(&list).unwrap();
        items.into_iter().filter(|item| item["state"] == "waiting").count()
    };
    town.reaches("nine rows", |rows| rows.len() == 9).await;
    until("the seventh waits", async || (waiting() == 1).then_some(())).await;
    share.execute_batch("DROP TRIGGER seventh").unwrap();
    let nine = town.replica().await;

    // Suspended: shown as held, since when its owner said so and by no alarm.
    town.says(&["subscription", "suspend", "pension", "--reason", "核查"]);
    town.held("核查").await;
    let said_us = town.read().await.1.grants()[0].since_us;
    assert!(town.lanes().unwrap().iter().all(|lane| lane["since_us"] == said_us));
    let status = town.says(&["status"]);
    assert!(status.contains("replicate.pension is held since") && status.contains("核查"), "{status}");
    let replay = ["quarantine", "replay", "pension"];
    let as_renshe = ["tap", "entry", "--as", "renshe", "--from-start", "--limit", "3", "-o", "json"];
    for arguments in [&replay[..], &["quarantine", "replay", "pension", "--dry-run"], &as_renshe] {
        let refused = town.asks(arguments);
        assert!(refused.code == 5 && refused.err.contains("核查"), "{} {}", refused.code, refused.err);
        assert_eq!(refused.out, "", "nothing is shown");
    }
    assert_eq!(town.replica().await, nine);

    // Granted again, and less: what was set aside under the other grant has a column that is not granted.
    run.stop().await;
    town.says(&["subscription", "resume", "pension", "--grant"]);
    town.says(&["subscription", "narrow", "pension", "--without", "phone"]);
    let refused = town.asks(&replay);
    assert!(refused.out.contains("it was set aside under another grant"), "{}", refused.out);
    refused.expect(9);
    assert_eq!((town.replica().await, waiting()), (nine, 1));
    let seen = town.says(&as_renshe);
    assert!(seen.contains("甲") && !seen.contains("990"), "as the ledger grants it: {seen}");
    let run = town.installation.run();
    town.reaches("ten rows without it", |rows| rows.len() == 10 && rows.iter().all(|row| row.2.is_none()))
        .await;
    run.stop().await;

    // Revoked without a recall, nothing of it may be let in any more.
    town.says(&["subscription", "revoke", "pension", "--reason", "收回"]);
    let refused = town.asks(&replay);
    assert!(refused.code == 5 && refused.err.contains("收回"), "{} {}", refused.code, refused.err);
}
