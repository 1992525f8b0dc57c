//! `hutong trace` over the built program: it agrees with what the replica held after every word of the owner.

use serde_json::Value as Json;

use crate::installation::until;
use crate::ledger::Town;

/// The row that is traced.
const ID: i64 = 7;

fn traced(town: &Town) -> Json {
    let id = ID.to_string();
    let answer = town.says(&["trace", "entry", &id, "-o", "json"]);
    serde_json::from_str(&answer).unwrap()
}

/// Waits until the replica holds the row as it is wanted, with the columns that are wanted, and asserts that the trace
/// says the same; returns it.
async fn agrees(town: &Town, what: &str, wanted: Option<(&str, bool)>) -> Json {
    until(what, async || {
        let rows = town.replica().await;
        let row = rows.iter().find(|row| row.0 == ID);
        let seen = row.map(|row| (row.1.as_deref().unwrap_or_default(), row.2.is_some()));
        (seen == wanted).then_some(())
    })
    .await;
    let traced = traced(town);
    let one = &traced["subscriptions"][0];
    assert_eq!(one["holds"], wanted.is_some(), "{what}: {traced:#}");
    if let Some((_, phone)) = wanted {
        let last = one["holdings"].as_array().unwrap().last().unwrap();
        let grant = last["grants"].as_array().unwrap().last().unwrap();
        let columns = grant["terms"]["columns"].as_array().unwrap();
        assert_eq!(columns.contains(&"phone".into()), phone, "{what}: {traced:#}");
        assert!(last["ended"].is_null(), "{what}: {traced:#}");
    }
    traced
}

fn numbers(list: &Json) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_says_what_the_replica_held_through_every_grant() {
    let town = Town::embedded("traced").await;
    let run = town.installation.run();
    town.says(&["subscription", "request", "pension"]);
    town.captured().await;
    // Row 1 is changed to see that the capture goes on; the traced one is not.
    assert_eq!(traced(&town)["subscriptions"], serde_json::json!([]), "nobody was granted anything");
    town.says(&["subscription", "approve", "pension", "--without", "phone"]);
    agrees(&town, "granted without the phone", Some(("甲7", false))).await;
    town.says(&["subscription", "widen", "pension"]);
    agrees(&town, "with the phone", Some(("甲7", true))).await;
    town.change("UPDATE entry SET name = '乙' WHERE id = 7");
    agrees(&town, "changed", Some(("乙", true))).await;
    town.says(&["subscription", "narrow", "pension", "--rows", "id > 8"]);
    agrees(&town, "narrowed away", None).await;
    town.says(&["subscription", "widen", "pension"]);
    agrees(&town, "widened again", Some(("乙", true))).await;
    town.change("DELETE FROM entry WHERE id = 7");
    agrees(&town, "deleted", None).await;
    town.change("INSERT INTO entry VALUES (7, '丙', '9907')");
    agrees(&town, "inserted", Some(("丙", true))).await;
    town.says(&["subscription", "suspend", "pension", "--reason", "核查"]);
    town.held("核查").await;
    town.change("UPDATE entry SET name = '丁' WHERE id = 7");
    let suspended = until("the change waits", async || {
        let traced = traced(&town);
        (!numbers(&traced["subscriptions"][0]["waiting"]).is_empty()).then_some(traced)
    })
    .await;
    assert_eq!(suspended["subscriptions"][0]["holds"], true, "the replica stays: {suspended:#}");
    town.says(&["subscription", "resume", "pension"]);
    agrees(&town, "resumed", Some(("丁", true))).await;
    town.says(&["subscription", "narrow", "pension", "--without", "phone"]);
    agrees(&town, "a column emptied where it stands", Some(("丁", false))).await;

    // Whoever does not reach the store goes by the receipts.
    let text = std::fs::read_to_string(town.installation.path("hutong.toml")).unwrap();
    let (without, _) = text.split_once("[subscription.pension]").unwrap();
    town.installation.write("other.toml", without);
    until("the receipts tell the same", async || {
        let answer = town.says(&["-c", "other.toml", "trace", "entry", "7", "-o", "json"]);
        let other: Json = serde_json::from_str(&answer).unwrap();
        let one = &other["subscriptions"][0];
        let same = |name: &str| one["holdings"].as_array().unwrap().len() == 4 && one[name] == true;
        (same("holds") && numbers(&one["waiting"]).is_empty()).then_some(())
    })
    .await;
    town.says(&["subscription", "revoke", "pension", "--reason", "收回", "--recall"]);
    town.reaches("nothing", Vec::is_empty).await;
    let last = agrees(&town, "recalled", None).await;
    run.stop().await;

    // What a replay of all versions through all grants finds, written out.
    let versions = last["versions"].as_array().unwrap();
    let ops: Vec<&str> = versions.iter().map(|version| version["op"].as_str().unwrap()).collect();
    assert_eq!(ops, ["r", "u", "d", "c", "u"], "{last:#}");
    let at: Vec<u64> = versions.iter().map(|version| version["offset"].as_u64().unwrap()).collect();
    let holdings = last["subscriptions"][0]["holdings"].as_array().unwrap();
    let told = |holding: &Json| {
        let grants: Vec<u64> =
            holding["grants"].as_array().unwrap().iter().map(|g| g["number"].as_u64().unwrap()).collect();
        let offset = |name: &str| holding[name]["offset"].as_u64().unwrap();
        (grants, offset("since"), offset("last"), holding["ended"]["left"]["offset"].as_u64())
    };
    let expected = [
        (vec![6], at[0], at[0], None),
        (vec![7], at[0], at[1], None),
        (vec![9], at[0], at[1], Some(at[2])),
        (vec![9, 12], at[3], at[4], None),
    ];
    assert_eq!(holdings.iter().map(told).collect::<Vec<_>>(), expected, "{last:#}");
    let text = town.says(&["trace", "entry", "7"]);
    for words in [
        "does not hold it: as its receipts tell",
        "it was recalled",
        "养老保险待遇资格核验",
        "known only so far: gongan.entry.v1",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(town.asks(&["trace", "entry", "x"]).expect(4).is_empty());
}
