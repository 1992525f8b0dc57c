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
