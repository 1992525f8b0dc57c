//! What a running process logs is changed without a restart, and back.

use serde_json::Value as Json;

use crate::installation::until;
use crate::ledger::{Town, ten};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_running_process_is_changed_and_what_is_no_filter_is_refused() {
    let town = Town::embedded("loglevel").await;
    let asked = town.asks(&["log"]);
    assert_eq!(asked.code, 3, "nothing runs: {}{}", asked.out, asked.err);
    town.says(&["subscription", "request", "pension"]);
    town.says(&["subscription", "approve", "pension"]);
    let run = town.installation.run();
    town.reaches("ten rows", ten).await;
    let committed = || town.installation.times_logged("\"message\":\"committed\"");
    let began = "info,hutong_stores=debug";
    assert_eq!(town.says(&["log"]).trim(), began);
    assert_eq!(committed(), 0, "commits are told to who asks for them");

    let changed: Json =
        serde_json::from_str(&town.says(&["log", "info,hutong_engine=debug", "-o", "json"])).unwrap();
    assert_eq!((&changed["old"], &changed["new"]), (&began.into(), &"info,hutong_engine=debug".into()));
    town.change("UPDATE entry SET name = '乙' WHERE id = 1");
    until("commits are logged", async || (committed() > 0).then_some(())).await;
    assert!(town.installation.logged("what is logged was changed"));

    for (wrong, why) in [
        ("wran", "`wran` is no level"),
        ("hutong=loud", "`loud` is no level"),
        ("a[b]=info", "names no target"),
    ] {
        let refused = town.asks(&["log", wrong]);
        assert!(refused.code == 4 && refused.err.contains(why), "{} {}", refused.code, refused.err);
    }
    let now: Json = serde_json::from_str(&town.says(&["log", "-o", "json"])).unwrap();
    assert_eq!(now["filter"], "info,hutong_engine=debug", "what was refused has changed nothing");

    assert_eq!(town.says(&["log", "default"]), format!("was info,hutong_engine=debug\nnow {began}\n"));
    let before = committed();
    town.change("UPDATE entry SET name = '丙' WHERE id = 1");
    let renamed = |rows: &crate::ledger::Rows| rows.iter().any(|row| row.1.as_deref() == Some("丙"));
    town.reaches("the change", renamed).await;
    assert_eq!(committed(), before, "and what is not asked for any more is not told");
    run.stop().await;
}
