//! Golden files: each folder of `tests/broken` is a configuration and `expected.txt`, what `hutong check` says of it.
//!
//! `UPDATE_GOLDEN=1` writes what it says now; read the difference before you keep it.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn now() -> Timestamp {
    "2026-11-23T00:00:00Z".parse().unwrap()
}

/// Returns what a check prints, with the case's own folder taken off the paths.
fn told(path: &Path) -> String {
    let report = load_at(path, now()).map_or_else(|report| report, |loaded| loaded.warnings);
    let folder = if path.is_dir() { path } else { path.parent().unwrap() };
    let text = report.to_string().replace(&format!("{}/", folder.display()), "");
    text.replace(&folder.display().to_string(), ".")
}

#[test]
fn every_broken_configuration_is_told_as_expected() {
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut cases: Vec<_> =
        fs::read_dir(root().join("tests/broken")).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    for case in cases.into_iter().filter(|case| case.is_dir()) {
        let one = case.join("hutong.toml");
        let told = told(if one.is_file() { &one } else { &case });
        let golden = case.join("expected.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &told).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if told != expected {
            wrong.push(format!("{}\n--- expected\n{expected}--- told\n{told}", case.display()));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 15, "the folders of tests/broken");
}

#[test]
fn no_secret_is_ever_told() {
    let folder = root().join("tests/broken/secret");
    let text = fs::read_to_string(folder.join("hutong.toml")).unwrap();
    let report = load_at(&folder.join("hutong.toml"), now()).unwrap_err();
    for secret in ["hunter2", "20260901"] {
        assert!(text.contains(secret) && !format!("{report} {report:?}").contains(secret), "{report}");
    }
}

/// Copies the compose configuration to where its contracts lie beside it, as in its image.
fn compose() -> (tempfile::TempDir, PathBuf, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("schemas")).unwrap();
    let contract = "schemas/population_base.avsc";
    fs::copy(root().join(contract), folder.path().join(contract)).unwrap();
    let text = fs::read_to_string(root().join("deploy/compose/hutong.toml")).unwrap();
    let path = folder.path().join("hutong.toml");
    fs::write(&path, &text).unwrap();
    (folder, path, text)
}

#[test]
fn the_compose_configuration_becomes_a_plan() {
    let (_folder, path, _) = compose();
    let loaded = load_at(&path, now()).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.warnings.problems, []);
    let plan = loaded.plan;
    let plan::BusSystem::Kafka(kafka) = &plan.bus.system else { panic!("Kafka") };
    assert_eq!(kafka.brokers, "kafka:9092");
    assert_eq!(plan.bus.name, "hutong");
    let stream = &plan.streams["population_base"];
    assert_eq!(stream.topic(), "gongan.population_base.v1");
    assert_eq!(stream.quarantine_topic(), "gongan.population_base.quarantine");
    assert_eq!((stream.partitions, stream.capture.as_deref()), (4, Some("gongan")));
    assert_eq!(plan.captures[0].pipeline().to_string(), "capture.gongan");
    let subscription = &plan.subscriptions[0];
    assert_eq!(subscription.pipeline().to_string(), "replicate.renshe_population");
    assert_eq!(subscription.until.unwrap().to_string(), "2027-12-31");
    let grant = subscription.grant().unwrap();
    hutong_core::grant::Permit::new(std::sync::Arc::clone(&stream.contract), &grant).unwrap();
    assert_eq!(grant.masks.keys().collect::<Vec<_>>(), ["lxdh"]);
    // The addresses are places of secrets, so no check can leak them.
    assert!(format!("{plan:?}").contains("env GONGAN_URL"));
}

#[test]
fn every_key_of_a_file_reaches_the_plan() {
    let (folder, path, text) = compose();
    let start = text.find("[department.gongan]").unwrap();
    let head = r#"
[bus]
name = "city"
timezone = "UTC"
history = "400d"
partitions = 2
[bus.kafka]
brokers = "a:1, b:2"
replication = 2
registry = "https://registry/apis/"
registry_login = { user = "r", password = { env = "R" } }
security = { tls = { ca_file = "ca.pem" }, sasl = { scram_sha_512 = { user = "k", password = { file = "k" } } } }
[http]
address = "[::1]:80"
kafka_lag_exporter = "city"
token_file = "token"
open_metrics = true
[limits]
quarantine = 5
[store.office.sqlite]
path = "office.db"
[subscription.counts]
department = "renshe"
stream = "population_base"
purpose = "统计"
legal_basis = "统计法 第七条"
until = 2027-01-01
columns = ["hjdz", "lxdh", "csrq"]
mask = { csrq = "year" }
clear = ["hjdz"]
key = { file = "key" }
freshness = "5m"
into = { store = "office", table = "counts" }
"#;
    fs::write(&path, format!("{head}{}", &text[start..])).unwrap();
    let plan = load_at(&path, now()).unwrap_or_else(|report| panic!("{report}")).plan;
    assert_eq!(plan.bus.name, "city");
    assert_eq!(plan.bus.zone.iana_name(), Some("UTC"));
    assert_eq!(plan.bus.history.as_secs(), 400 * 86_400);
    let plan::BusSystem::Kafka(kafka) = &plan.bus.system else { panic!("Kafka") };
    assert_eq!((kafka.registry.as_str(), kafka.replication), ("https://registry/apis", Some(2)));
    assert_eq!(kafka.tls.as_ref().unwrap().ca_file, Some(folder.path().join("ca.pem")));
    let sasl = kafka.sasl.as_ref().unwrap();
    assert_eq!((sasl.mechanism.name(), sasl.login.user.as_str()), ("SCRAM-SHA-512", "k"));
    assert_eq!(sasl.login.password, SecretSource::File(folder.path().join("k")));
    assert_eq!(kafka.registry_login.as_ref().unwrap().password, SecretSource::Env("R".into()));
    assert_eq!((plan.http.address.to_string().as_str(), plan.limits.quarantine), ("[::1]:80", 5));
    assert_eq!(plan.http.kafka_lag_exporter.as_deref(), Some("city"));
    assert_eq!((&plan.http.token_file, plan.http.open_metrics), (&Some(folder.path().join("token")), true));
    assert_eq!(plan.streams["population_base"].partitions, 2);
    let counts = &plan.subscriptions[0];
    assert_eq!(
        counts.into.store().unwrap().system,
        plan::StoreSystem::Sqlite { path: folder.path().join("office.db") }
    );
    assert_eq!(counts.freshness.as_secs(), 300);
    let masks: Vec<_> = counts.masks.iter().map(|(column, mask)| (column.as_str(), mask.name())).collect();
    assert_eq!(masks, [("csrq", "year"), ("lxdh", "phone")]);
    // The key is read when the grant is, not before.
    assert_eq!(counts.grant().unwrap_err().kind, hutong_core::ErrorKind::Denied);
    fs::write(folder.path().join("key"), "0123\n").unwrap();
    assert_eq!(counts.grant().unwrap().key.reveal(), "0123");
}

#[test]
fn without_a_bus_it_is_a_folder_beside_the_file() {
    let (folder, path, text) = compose();
    let start = text.find("[http]").unwrap();
    fs::write(&path, &text[start..]).unwrap();
    let plan = load_at(&path, now()).unwrap_or_else(|report| panic!("{report}")).plan;
    let plan::BusSystem::Embedded(embedded) = plan.bus.system else { panic!("embedded") };
    assert_eq!(embedded.folder, folder.path().join(".hutong"));
    assert!(embedded.registry.ip().is_loopback());
}

#[test]
fn every_truncation_of_a_file_is_told_and_never_panics() {
    let (_folder, path, text) = compose();
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        fs::write(&path, &text[..end]).unwrap();
        if let Err(report) = load_at(&path, now()) {
            assert!(report.stops() && !report.to_string().is_empty(), "{end}");
        }
    }
}

/// Returns the valid file and all broken ones.
fn seeds() -> &'static [String] {
    static SEEDS: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    SEEDS.get_or_init(|| {
        let broken =
            fs::read_dir(root().join("tests/broken")).unwrap().map(|e| e.unwrap().path().join("hutong.toml"));
        let all = broken.chain([root().join("deploy/compose/hutong.toml")]);
        all.filter_map(|path| fs::read_to_string(path).ok()).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let (document, _) = read::read(vec![place::SourceText::new("a.toml", text)]);
        check::check(&document, &check::Contracts::new(), now());
    }

    #[test]
    fn no_change_of_a_file_panics(which in 0usize..100, at in 0.0..1.0f64, remove in 0usize..40, insert in r#"[\[\]{}="',.a-z0-9\\\n#\u{4e00}]{0,6}"#) {
        let text = &seeds()[which % seeds().len()];
        let start = text.floor_char_boundary((at * text.len() as f64) as usize);
        let end = text.ceil_char_boundary((start + remove).min(text.len()));
        let text = format!("{}{insert}{}", &text[..start], &text[end..]);
        let (document, wrong) = read::read(vec![place::SourceText::new("a.toml", text)]);
        prop_assert!(document.readable || !wrong.is_empty());
        let contract = fs::read_to_string(root().join("schemas/population_base.avsc")).unwrap();
        let contract = hutong_core::Contract::parse(&contract).map_err(|error| hutong_core::problem::Problem::new(error.why()));
        let contracts = check::Contracts::from([("population_base".to_owned(), contract)]);
        check::check(&document, &contracts, now());
    }
}
