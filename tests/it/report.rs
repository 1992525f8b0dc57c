//! `hutong report` over the built program: what the ledger and the receipts hold of a time, for whom it concerns.

use serde_json::Value as Json;

use crate::installation::until;
use crate::ledger::{Town, ten};

fn report(town: &Town, arguments: &[&str]) -> Json {
    let whole = [&["report"], arguments, &["-o", "json"]].concat();
    serde_json::from_str(&town.says(&whole)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_tells_what_was_offered_asked_answered_delivered_and_recalled() {
    let town = Town::embedded("reported").await;
    let run = town.installation.run();
    town.says(&["subscription", "request", "pension"]);
    town.says(&["subscription", "reject", "pension", "--reason", "超出职责范围，按需最小化"]);
    town.says(&["subscription", "request", "pension"]);
    town.says(&["subscription", "approve", "pension", "--without", "phone"]);
    town.reaches("ten rows", ten).await;
    let all = &["--from", "2020-01-01"];
    let delivered = until("ten changes are receipted", async || {
        let told = report(&town, all);
        (told["sums"]["changes judged"] == 10).then_some(told)
    })
    .await;
    let row = &delivered["delivered"][0];
    assert_eq!(
        (&row["department"], &row["rows_written"], &row["grants"][0]),
        (&"renshe".into(), &10.into(), &8.into())
    );
    town.says(&["subscription", "suspend", "pension", "--reason", "核查"]);
    town.says(&["subscription", "revoke", "pension", "--reason", "收回", "--recall"]);
    town.reaches("nothing", Vec::is_empty).await;
    until("what the recall has deleted is receipted", async || {
        (report(&town, all)["sums"]["rows recalled"] == 10).then_some(())
    })
    .await;
    run.stop().await;
    town.says(&["ledger", "root", "gongan"]);

    let whole = report(&town, all);
    for (name, count) in [
        ("offered", 1),
        ("asked", 2),
        ("refused", 1),
        ("granted", 1),
        ("waiting", 0),
        ("answered in time", 2),
        ("suspended", 1),
        ("revoked", 1),
        ("recalled", 1),
        ("changes judged", 10),
        ("receipts that do not fit", 0),
    ] {
        assert_eq!(whole["sums"][name], count, "{name}: {whole:#}");
    }
    let acts: Vec<&str> =
        whole["grants"].as_array().unwrap().iter().map(|row| row["act"].as_str().unwrap()).collect();
    assert_eq!(acts, ["rejected", "approved narrower", "suspended", "revoked with recall"]);
    assert_eq!(whole["requests"][0]["reason"], "超出职责范围，按需最小化");
    assert_eq!(whole["roots"].as_array().unwrap().len(), 1);
    // The owner and the subscriber are told the same of each other, a stranger nothing, another year nothing.
    for department in ["gongan", "renshe"] {
        assert_eq!(report(&town, &[department, "--from", "2020-01-01"])["delivered"], whole["delivered"]);
    }
    let stranger = report(&town, &["minzheng", "--from", "2020-01-01"]);
    assert!(stranger["sums"].as_object().unwrap().values().all(|count| *count == 0), "{stranger:#}");
    let earlier = report(&town, &["--year", "2001"]);
    assert!(earlier["sums"]["asked"] == 0 && earlier["sums"]["changes judged"] == 0, "{earlier:#}");

    let text = town.says(&["report", "renshe", "--from", "2020-01-01"]);
    assert!(text.contains("changes judged") && text.contains("社会保险法"), "{text}");
    town.says(&["report", "--from", "2020-01-01", "--csv", "tables"]);
    let csv = std::fs::read_to_string(town.installation.path("tables/requests.csv")).unwrap();
    assert!(
        csv.starts_with("day,department,subscription,owner,stream,") && csv.lines().count() == 3,
        "{csv}"
    );
    assert_eq!(town.asks(&["report"]).code, 4, "a report is about a time");
    assert_eq!(town.asks(&["report", "nobody", "--year", "2026"]).code, 4);
}
