//! `hutong demo` proves itself, in a folder and over real servers.

use hutong_testkit::launch::{Kafka, Registry};
use tempfile::TempDir;

use crate::cli::{ended, hutong};

/// Asserts that the last line of a demonstration is its proof.
#[track_caller]
fn assert_proved(out: &str) {
    let last = out.lines().last().unwrap_or_default();
    assert!(last.starts_with("PROVED"), "{out}");
    for replica in ["renshe_population", "weijian_contacts", "weijian_births"] {
        let line = out.lines().find(|line| line.starts_with(&format!("{replica}: "))).unwrap_or_default();
        assert!(
            line.ends_with("rows, 0 missing, 0 surplus") && !line.contains(": 0 rows"),
            "{replica}\n{out}"
        );
    }
    assert!(!out.contains('\u{1b}'), "no colours in a pipe:\n{out}");
}

#[test]
fn proves_its_replicas_and_leaves_its_folder() {
    let place = TempDir::new().unwrap();
    let folder = place.path().join("new").join("demo");
    let chosen = folder.to_str().unwrap();

    let out =
        ended(hutong(place.path(), &["demo", "--seconds", "8", "--seed", "7", "--folder", chosen])).expect(0);

    assert_proved(&out);
    assert!(out.contains(chosen) && out.contains("seed 7"), "{out}");
    for kept in ["hutong.toml", "population_base.avsc", "gongan.db", "renshe.db", "weijian.db", "bus"] {
        assert!(folder.join(kept).exists(), "{kept} is kept");
    }
    // What it wrote is a configuration for the other commands, as it says.
    let checked = ended(hutong(&folder, &["check"])).expect(0);
    assert_eq!(checked, "hutong.toml: no problems\n");
    let waits = ended(hutong(&folder, &["quarantine", "list", "capture.gongan"]));
    let list = waits.expect(0);
    assert!(list.contains("waiting") && list.contains("gmsfhm is no citizen number (GB 11643)"), "{list}");
    assert!(!list.contains("990101199003070016"), "a list shows no value: {list}");
    assert!(list.contains("\npopulation_base/0 "), "each stream counts for itself: {list}");
    let shown =
        ended(hutong(&folder, &["quarantine", "show", "capture.gongan", "population_base/0"])).expect(0);
    assert!(shown.contains("\"stream\": \"population_base\""), "{shown}");
}

#[test]
fn refuses_a_folder_that_is_not_empty() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("mine.txt"), "mine").unwrap();
    let chosen = folder.path().to_str().unwrap();

    let refused = ended(hutong(folder.path(), &["demo", "--seconds", "8", "--folder", chosen]));

    assert_eq!(refused.code, 4, "{}", refused.err);
    assert!(refused.err.contains("not empty") && refused.err.contains(chosen), "{}", refused.err);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "it wrote nothing");
}

#[tokio::test]
async fn proves_its_replicas_over_kafka_and_a_registry() {
    let (kafka, registry) = (Kafka::shared().await.unwrap(), Registry::shared().await.unwrap());
    let folder = TempDir::new().unwrap();
    let (brokers, url) = (kafka.bootstrap(), registry.url());

    let out =
        ended(hutong(folder.path(), &["demo", "--seconds", "8", "--kafka", &brokers, "--registry", &url]))
            .expect(0);

    assert_proved(&out);
    assert!(out.contains(&brokers), "{out}");
}

#[test]
fn needs_both_kafka_and_a_registry() {
    let folder = TempDir::new().unwrap();
    let refused = ended(hutong(folder.path(), &["demo", "--kafka", "127.0.0.1:1"]));
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("--registry"), "{}", refused.err);
}
