//! What a preview counts is what arrives, and its sample is what the subscriber would see.

use crate::installation::until;
use crate::ledger::Town;

async fn the_count_is_what_arrives(town: &Town) {
    let run = town.installation.run_only(&["capture.register"]);
    until("the capture has begun", async || {
        let lanes = town.installation.lanes()?;
        lanes.iter().any(|lane| lane["committed"].as_u64() >= Some(10)).then_some(())
    })
    .await;
    town.change(
        "DELETE FROM entry WHERE id = 2; UPDATE entry SET name = '乙' WHERE id = 3;
         INSERT INTO entry VALUES (12, '丙', '99012')",
    );
    town.captured().await;
    // On Kafka nothing follows the marker of the last transaction now.
    run.stop().await;
    let asked = town.says(&["subscription", "request", "pension"]);
    assert!(asked.contains("10 before any condition (by a count of the captured table)"), "{asked}");
    assert!(
        !asked.contains("sample") && !asked.contains("甲"),
        "rows are shown to their owner only: {asked}"
    );
    let approve =
        ["subscription", "approve", "pension", "--rows", "id > 5", "--mask", "phone=phone", "--count"];
    let granted = town.says(&approve);
    assert!(granted.contains("6 of 10 that the topic holds now"), "{granted}");
    let shown = granted.split_once("as the subscriber would see it:").expect("a sample").1;
    assert!(shown.contains("name=甲") && !shown.contains("9906") && !shown.contains("id=1 "), "{granted}");
    let run = town.installation.run();
    town.reaches("as many as were counted", |rows| rows.len() == 6).await;
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_the_count_of_a_preview_is_what_arrives() {
    the_count_is_what_arrives(&Town::embedded("preview").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_over_kafka_the_count_of_a_preview_ends_behind_a_transaction_and_is_what_arrives() {
    the_count_is_what_arrives(&Town::kafka().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_lane_could_deliver_or_the_ledger_would_refuse_is_not_signed_and_no_preview() {
    let town = Town::embedded("impossible").await;
    let refused = |words: &[&str], code: i32, why: &str| {
        for preview in [&[][..], &["--preview"]] {
            let ended = town.asks(&[words, preview].concat());
            assert!(ended.code == code && ended.err.contains(why), "{words:?}: {} {}", ended.code, ended.err);
        }
    };
    let impossible = |act: &str| {
        for (less, why) in [
            (["--rows", "nosuch = 1"], "there is no column"),
            (["--rows", "id = 1 OR"], "id = 1 OR"),
            (["--rows", "id > 1) OR (id > 0"], "id > 1) OR (id > 0"),
            (["--mask", "id=id"], "needs the subscription's `key`"),
            (["--without", "id"], "needs the subscription's `key`"),
        ] {
            refused(&["subscription", act, "pension", less[0], less[1]], 4, why);
        }
    };
    town.says(&["subscription", "request", "pension"]);
    impossible("approve");
    refused(&["subscription", "approve", "pension", "--until", "2020-12-31"], 4, "that day is over");
    let listed = town.says(&["subscription", "list"]);
    assert!(listed.contains("waits"), "{listed}");
    town.says(&["subscription", "approve", "pension", "--rows", "id > 1 OR id = 0"]);
    impossible("narrow");
    refused(&["subscription", "narrow", "pension", "--until", "2199-12-31"], 5, "2099-12-31");
    let shown = town.says(&["subscription", "narrow", "pension", "--rows", "id > 2", "--preview"]);
    assert!(shown.contains("(id > 1 OR id = 0) AND (id > 2)"), "{shown}");
    town.says(&["subscription", "suspend", "pension", "--reason", "核查"]);
    refused(&["subscription", "suspend", "pension", "--reason", "核查"], 5, "not active");
    let shown = town.says(&["subscription", "show", "pension"]);
    assert!(shown.contains("suspended: 核查"), "{shown}");

    // What would stand in the ledger for good.
    let number = town.asks(&["subscription", "revoke", "pension", "--reason", "见 990100199001010018"]);
    assert!(number.code == 2 && number.err.contains("somebody's number"), "{}", number.err);
    let key = town.key("gongan").public().to_string();
    let refused: [(&[&str], &str); 4] = [
        (&["ledger", "join", "nosuch", &key], "knows no such department"),
        (&["ledger", "join", "renshe", &key], "--again gives it another key"),
        (&["ledger", "join", "renshe", &key, "--again"], "`gongan` has this key"),
        (&["ledger", "root", "nosuch"], "it has no receipts"),
    ];
    for (words, why) in refused {
        let ended = town.asks(words);
        assert!(ended.code != 0 && ended.err.contains(why), "{words:?}: {}", ended.err);
    }
    let whole = town.says(&["ledger", "verify"]);
    assert!(whole.contains("every record counts"), "{whole}");

    // Another department's key of the charter: nothing counts, and that is said.
    let text = std::fs::read_to_string(town.installation.path("hutong.toml")).unwrap();
    let own = town.key("shuju").public().to_string();
    town.installation.write("other.toml", &text.replace(&own, &key));
    let verified = town.asks(&["-c", "other.toml", "ledger", "verify"]).expect(1);
    assert!(verified.contains("FAIL none of the"), "{verified}");
    let listed = town.asks(&["-c", "other.toml", "subscription", "list"]);
    assert!(listed.code == 0 && listed.err.contains("warning: none of the"), "{}", listed.err);
}
