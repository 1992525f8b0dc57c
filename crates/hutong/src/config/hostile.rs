//! Hostile configurations: whatever the text, every problem has a place in it, and nothing panics.

use std::fs;
use std::path::Path;

use hutong_core::Contract;
use hutong_core::problem::Problem as Unreadable;
use hutong_testkit::hostile;
use jiff::Timestamp;

use super::place::SourceText;
use super::{check, load, read};

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn now() -> Timestamp {
    "2026-11-23T00:00:00Z".parse().unwrap()
}

/// The valid configuration, all broken ones, and what the tests of the ledger and of filters write.
fn texts() -> Vec<String> {
    let cases = fs::read_dir(root().join("tests/broken")).unwrap();
    let broken = cases.map(|case| case.unwrap().path().join("hutong.toml"));
    let all = broken.chain([root().join("deploy/compose/hutong.toml")]);
    let texts: Vec<String> = all.filter_map(|path| fs::read_to_string(path).ok()).collect();
    assert!(texts.len() > 15, "the folders of tests/broken");
    texts
}

/// Reads and checks a text as `hutong check` does, and asserts that what is wrong has a place.
fn told(text: &str, contract: &Result<Contract, Unreadable>) -> usize {
    let lines = text.matches('\n').count() + 1;
    let (document, mut problems) = read::read(vec![SourceText::new("a.toml", text)]);
    assert!(document.readable || !problems.is_empty());
    let contracts = check::Contracts::from([("population_base".to_owned(), contract.clone())]);
    let (plan, wrong) = check::check(&document, &contracts, now());
    problems.extend(wrong);
    for problem in &problems {
        let placed = problem.file == "a.toml" && (1..=lines).contains(&problem.line) && problem.column > 0;
        assert!(placed && !problem.message.is_empty(), "{problem:?} has no place");
    }
    assert!(plan.is_some() || !problems.is_empty(), "what cannot run says why");
    problems.len()
}

fn contract() -> Result<Contract, Unreadable> {
    let text = fs::read_to_string(root().join("schemas/population_base.avsc")).unwrap();
    Contract::parse(&text).map_err(|error| Unreadable::new(error.why()))
}

#[test]
fn a_damaged_configuration_is_told_with_its_places() {
    let (texts, contract) = (texts(), contract());
    let valid: Vec<&str> = texts.iter().map(String::as_str).collect();
    hostile::feed_texts("a_damaged_configuration_is_told_with_its_places", 1_000, &valid, |text| {
        told(text, &contract);
    });
}

#[test]
fn configurations_of_every_excess_are_told() {
    let contract = contract();
    let deep =
        |open: &str, close: &str, depth: usize| format!("{}{}", open.repeat(depth), close.repeat(depth));
    for text in [
        format!("x = {}", deep("[", "]", 100_000)),
        format!("x = {}", deep("{a = ", "1}", 50_000)),
        format!("x{} = 1", ".a".repeat(50_000)),
        format!("[store{}]", ".a".repeat(50_000)),
        format!("[bus]\nname = \"{}\"", "n".repeat(1 << 20)),
        format!("[stream.{}]\nowner = \"a\"", "s".repeat(1 << 16)),
        (0..2_000).fold("[bus]\n".into(), |text, at| format!("{text}k{at} = {at}\n")),
        (0..2_000).fold(String::new(), |text, at| format!("{text}[stream.s{at}]\nowner = \"nobody\"\n")),
    ] {
        assert!(told(&text, &contract) > 0);
    }
}

#[test]
fn a_file_beyond_the_limit_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hutong.toml");
    fs::write(&path, "#".repeat(load::FILE_LIMIT_BYTES as usize + 1)).unwrap();
    let report = load::load_at(&path, now()).unwrap_err().to_string();
    assert!(report.contains("at most 1048576") && report.contains("*.toml"), "{report}");
}
