//! What a department may not say, it is told before anything is written into the ledger.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value as Json;

use crate::ledger::Town;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_department_may_not_say_is_not_written() {
    let town = Town::embedded("ledgerrefusals").await;
    let key = town.installation.path("renshe.key");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let refused = town.asks(&["subscription", "request", "pension"]);
    assert!(refused.code == 5 && refused.err.contains("others may use it"), "{}", refused.err);
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let preview = town.says(&["subscription", "request", "pension", "--preview"]);
    assert!(preview.contains("敏感") && preview.contains("社会保险法"), "{preview}");
    assert_eq!(town.says(&["subscription", "list", "-o", "json"]).trim(), "[]", "a preview writes nothing");
    town.says(&["subscription", "request", "pension"]);
    let list: Json = serde_json::from_str(&town.says(&["subscription", "list", "-o", "json"])).unwrap();
    assert!(
        list[0]["state"] == "waits" && list[0]["overdue"] == false && list[0]["due"].is_string(),
        "{list}"
    );

    // With the key of somebody else.
    std::fs::copy(town.installation.path("minzheng.key"), town.installation.path("gongan.key")).unwrap();
    let refused = town.asks(&["subscription", "approve", "pension"]);
    assert!(refused.code == 5 && refused.err.contains("not the one that `gongan` has"), "{}", refused.err);
    let refused = town.asks(&["subscription", "suspend", "pension", "--reason", "x"]);
    assert!(refused.code == 4 && refused.err.contains("nothing of that name was granted"), "{}", refused.err);
    assert_eq!(town.read().await.0.len(), 5, "three joined, one offered, one asked");
}
