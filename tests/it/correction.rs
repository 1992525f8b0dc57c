//! A department doubts what it was given, and the owner answers: signed, listed, reported.

use serde_json::Value as Json;

use crate::ledger::Town;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_correction_is_asked_for_answered_listed_and_reported() {
    let town = Town::embedded("correction").await;
    let ask = |reason: &str| {
        let at = ["--at", "1/3", "--reason", reason];
        town.asks(&[&["correction", "request", "pension", "--column", "name"][..], &at].concat())
    };
    assert!(ask("错字").err.contains("nothing of that name was granted"));
    town.says(&["subscription", "request", "pension"]);
    town.says(&["subscription", "approve", "pension", "--without", "phone"]);
    // What stands in the ledger cannot be taken out again.
    let told = ask("990101199003070015 的姓名有误");
    assert!(told.code == 2 && told.err.contains("somebody's number"), "{} {}", told.code, told.err);
    let asked = ask("姓名用字有误").expect(0);
    assert!(asked.contains("`gongan` answers it"), "{asked}");
    let other = town.asks(&["correction", "request", "pension", "--column", "phone", "--reason", "x"]);
    assert!(other.code == 5 && other.err.contains("was never granted"), "{}", other.err);

    let listed =
        || -> Vec<Json> { serde_json::from_str(&town.says(&["correction", "list", "-o", "json"])).unwrap() };
    let one = listed().remove(0);
    assert!(one["state"] == "waits" && one["at"] == "1/3" && one["overdue"] == false, "{one:#}");
    assert!(one["due"].is_string(), "{one:#}");
    let id = one["correction"].as_str().unwrap()[..12].to_owned();
    assert_eq!(town.asks(&["correction", "answer", "12345678", "--accept", "--reason", "x"]).code, 4);
    town.says(&["correction", "answer", &id, "--accept", "--reason", "已在源头更正"]);
    let again = town.asks(&["correction", "answer", &id, "--refuse", "--reason", "无误"]);
    assert!(again.code == 5 && again.err.contains("answered already"), "{}", again.err);
    let one = listed().remove(0);
    assert!(
        one["state"] == "corrected" && one["answer"] == "已在源头更正" && one["due"].is_null(),
        "{one:#}"
    );
    assert!(town.says(&["correction", "list"]).contains("corrected"));

    let report = town.says(&["report", "renshe", "--from", "2020-01-01", "-o", "json"]);
    let report: Json = serde_json::from_str(&report).unwrap();
    assert_eq!(report["sums"]["corrections asked"], 1, "{report:#}");
    assert_eq!(report["sums"]["corrections answered"], 1, "{report:#}");
    assert!(town.says(&["ledger", "verify"]).contains("every record counts"));
}
