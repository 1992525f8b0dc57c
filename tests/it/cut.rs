//! A history from which somebody has cut the last word does not make flow what that word had stopped.

use hutong_core::ledger::{Book, PrivateKey};
use rusqlite::Connection;

use crate::installation::until;
use crate::ledger::{Rows, Town, ten};

/// Cuts the last record off the ledger of an embedded bus that nobody runs.
pub(crate) fn cut(town: &Town) {
    let db = Connection::open(town.installation.path("bus/bus.sqlite")).unwrap();
    let record = "DELETE FROM record WHERE topic = (SELECT id FROM topic WHERE name = ?1)
        AND offset = (SELECT next - 1 FROM extent WHERE topic = (SELECT id FROM topic WHERE name = ?1))";
    assert_eq!(db.execute(record, [town.topic()]).unwrap(), 1);
    let shorter = "UPDATE extent SET next = next - 1 WHERE topic = (SELECT id FROM topic WHERE name = ?1)";
    assert_eq!(db.execute(shorter, [town.topic()]).unwrap(), 1);
}

/// Waits until so many of the two lanes remember the whole history in their store; returns it.
pub(crate) async fn remembered(town: &Town, lanes: i64) -> Book {
    let (_, book, _) = town.read().await;
    let head = format!("\"ledger.head\":\"{}\"", book.head());
    until("the store remembers the head", async || {
        let db = Connection::open(town.installation.path("renshe.db")).unwrap();
        let sql = "SELECT count(*) FROM hutong_lane WHERE instr(checkpoint, ?1) > 0";
        let count: i64 = db.query_row(sql, [&head], |row| row.get(0)).ok()?;
        (count >= lanes).then_some(())
    })
    .await;
    book
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_word_that_is_cut_off_stops_what_it_had_stopped_all_the_same() {
    let suspend: &[&str] = &["subscription", "suspend", "pension", "--reason", "核查"];
    let recall: &[&str] = &["subscription", "revoke", "pension", "--reason", "核查", "--recall"];
    let withdraw: &[&str] = &["ledger", "offer", "entry", "--withdraw"];
    for (name, word, state, says) in [
        ("ledgercutsuspended", suspend, "held", "核查"),
        ("ledgercutrecalled", recall, "held", "核查"),
        ("ledgercutwithdrawn", withdraw, "held", "the stream was withdrawn"),
    ] {
        let town = Town::embedded(name).await;
        town.says(&["subscription", "request", "pension"]);
        town.says(&["subscription", "approve", "pension"]);
        let run = town.installation.run();
        town.reaches("ten rows", ten).await;
        town.says(word);
        town.stands(state, says).await;
        // No commit is made any more that could remember it.
        remembered(&town, 2).await;
        run.stop().await;
        let rows = town.replica().await;
        let kept = if word == recall { rows == Rows::new() } else { rows.len() == 10 };
        assert!(kept, "{rows:?}");

        cut(&town);
        let run = town.installation.run();
        town.stands("halted", "the history was cut").await;
        town.change("INSERT INTO entry VALUES (12, '丙', '99012')");
        town.captured().await;
        town.stands("halted", "the history was cut").await;
        assert_eq!(town.replica().await, rows);
        run.stop().await;
        let key = PrivateKey::new([7; 32]).public().to_string();
        // By itself it looks whole; who looks at it or signs asks what the lanes remember.
        let verified = town.asks(&["ledger", "verify"]).expect(1);
        let told = "the history was cut: replicate.pension.0 in the store renshe has verified";
        assert!(verified.contains(&format!("FAIL {told}")), "{verified}");
        assert!(town.asks(&["subscription", "list"]).err.contains(&format!("warning: {told}")));
        let signed: [&[&str]; 3] = [
            &["ledger", "offer", "entry"],
            &["ledger", "join", "renshe", &key, "--again"],
            // Narrower than what the shorter history grants may be wider than what was taken back.
            &["subscription", "narrow", "pension", "--without", "phone"],
        ];
        for signed in signed {
            let refused = town.asks(signed);
            assert!(refused.code == 1 && refused.err.contains(told), "{signed:?}: {}", refused.err);
        }
        let tapped = town.asks(&["tap", "entry", "--as", "renshe", "--from-start", "--limit", "1"]);
        assert!(tapped.code == 1 && tapped.out.is_empty() && tapped.err.contains(told), "{}", tapped.err);
    }
}
