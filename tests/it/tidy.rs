//! The house stays as DESIGN section 4 says: edges between crates, who names what, file sizes, names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&root().join("crates"), &mut found);
    files(&root().join("tests"), &mut found);
    assert!(found.len() > 20, "the walk finds the sources");
    found
}

fn packages() -> Vec<serde_json::Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Returns the dependencies of a package as (name, kind); kind is `normal` or `dev`.
fn dependencies(package: &serde_json::Value) -> Vec<(String, String)> {
    let list = package["dependencies"].as_array().unwrap();
    list.iter()
        .map(|d| (d["name"].as_str().unwrap().to_owned(), d["kind"].as_str().unwrap_or("normal").to_owned()))
        .collect()
}

#[test]
fn crates_depend_in_one_direction() {
    let allowed = [
        ("hutong-core", &[][..]),
        ("hutong-bus", &["hutong-core"]),
        ("hutong-stores", &["hutong-core"]),
        ("hutong-engine", &["hutong-core"]),
        ("hutong", &["hutong-core", "hutong-bus", "hutong-stores", "hutong-engine"]),
        ("hutong-testkit", &["hutong-core"]),
        ("hutong-tests", &[]),
        // It decodes what it measures.
        ("hutong-bench", &["hutong-core", "hutong-bus", "hutong-testkit", "hutong-tests"]),
    ];
    let packages = packages();
    assert_eq!(packages.len(), allowed.len(), "a new crate is named here first");
    for package in &packages {
        let name = package["name"].as_str().unwrap();
        let (_, edges) = allowed.iter().find(|(n, _)| *n == name).expect("a crate that is named here");
        for (dependency, kind) in dependencies(package) {
            let ours = dependency == "hutong" || dependency.starts_with("hutong-");
            if !ours || kind == "dev" && (dependency == "hutong-testkit" || name == "hutong-tests") {
                continue;
            }
            assert!(edges.contains(&dependency.as_str()), "{name} may not depend on {dependency}");
        }
    }
}

#[test]
fn each_outside_system_has_one_crate_that_names_it() {
    let owners = [
        ("rdkafka", &["hutong-bus"][..]),
        ("apache-avro", &["hutong-bus"]),
        ("schema_registry_converter", &["hutong-bus"]),
        ("tokio-postgres", &["hutong-stores"]),
        ("pgwire-replication", &["hutong-stores"]),
        // The embedded bus keeps its log in SQLite, see crates/ARCHITECTURE.md.
        ("rusqlite", &["hutong-stores", "hutong-bus"]),
    ];
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        for (dependency, kind) in dependencies(&package) {
            let Some((_, allowed)) = owners.iter().find(|(n, _)| *n == dependency) else { continue };
            let test_only =
                kind == "dev" || matches!(name, "hutong-testkit" | "hutong-tests" | "hutong-bench");
            assert!(test_only || allowed.contains(&name), "{name} may not name {dependency}");
        }
    }
}

#[test]
fn core_has_no_input_output_and_no_runtime() {
    let core = packages().into_iter().find(|p| p["name"] == "hutong-core").unwrap();
    for (dependency, kind) in dependencies(&core) {
        let outside = ["tokio", "reqwest", "rusqlite", "axum"].contains(&dependency.as_str());
        assert!(kind == "dev" || !outside, "core may not name {dependency}");
    }
}

#[test]
fn one_file_speaks_to_a_library_without_the_compilers_care() {
    let says = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        // Put together, so that this file does not say it.
        text.contains(&["unsafe", "_code"].concat())
    };
    let found: Vec<PathBuf> = sources().into_iter().filter(says).collect();
    assert_eq!(found, [root().join("crates/bus/src/kafka/acl.rs")]);
}

#[test]
fn files_are_small_and_have_names_of_their_own() {
    let forbidden: BTreeSet<_> = [
        "util", "utils", "common", "helper", "helpers", "types", "manager", "info", "data", "misc", "process",
    ]
    .into();
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        assert!(lines <= 500, "{} has {lines} lines, at most 500", path.display());
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(!forbidden.contains(stem.as_str()), "{}: find a word that says what it is", path.display());
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//!"), "{} does not say what it is for", path.display());
    }
}

#[test]
fn every_scenario_is_in_main() {
    let main = std::fs::read_to_string(root().join("tests/it/main.rs")).unwrap();
    for path in sources().iter().filter(|p| p.parent().unwrap().ends_with("tests/it")) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(name == "main" || main.contains(&format!("mod {name};")), "{name}.rs is not in main.rs");
    }
}

#[test]
fn nothing_is_left_to_be_filled_in() {
    for name in ["README.md", "README.zh-CN.md"] {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        let hole = text.lines().find(|line| line.len() > 2 && line.starts_with('@') && line.ends_with('@'));
        assert_eq!(hole, None, "{name}");
    }
}

#[test]
fn the_readme_copies_the_tables_that_the_code_keeps() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let readme = read("README.md");
    for path in ["crates/stores/src/postgres/column.rs", "crates/stores/src/sqlite/values.rs"] {
        let text = read(path);
        let rows: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("//! |")).collect();
        assert!(rows.len() > 10, "{path} has its table");
        for row in rows {
            assert!(readme.contains(&format!("|{row}")), "the README lacks a row of {path}: {row}");
        }
    }
}

/// Returns what is written as code in the first two cells of a text's table rows, row by row.
fn named_by_tables(text: &str) -> Vec<[Vec<&str>; 2]> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    rows.map(|row| {
        let mut start = 0;
        // `\|` is a bar of the cell's own text.
        let ends = row.match_indices('|').map(|(at, _)| at).filter(|at| !row[..*at].ends_with('\\'));
        let mut cells = ends.map(|end| {
            let cell = &row[start..end];
            start = end + 1;
            cell.split('`').skip(1).step_by(2).collect()
        });
        [cells.next().unwrap_or_default(), cells.next().unwrap_or_default()]
    })
    .collect()
}

#[test]
fn both_readmes_name_the_same_keys_commands_and_metrics() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let (english, chinese) = (read("README.md"), read("README.zh-CN.md"));
    let (english, chinese) = (named_by_tables(&english), named_by_tables(&chinese));
    let named = |name: &str| english.iter().any(|[first, _]| first.contains(&name));
    assert!(named("hutong version") && named("[bus.kafka]"), "the tables are found");
    for (at, row) in english.iter().enumerate() {
        assert_eq!(chinese.get(at), Some(row), "row {at} of the tables of README.zh-CN.md");
    }
    assert_eq!(chinese.len(), english.len());
}

/// Returns what is written as code in a text.
fn spans(text: &str) -> Vec<&str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn the_pages_of_faults_and_limits_name_what_is_there() {
    let sources: Vec<String> = sources().iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let named = |name: &str| {
        sources
            .iter()
            .any(|text| text.contains(&format!("fn {name}(")) || text.contains(&format!("fn {name}<")))
    };
    for (page, least) in [("FAULTS.md", 60), ("LIMITS.md", 12)] {
        let text = std::fs::read_to_string(root().join("crates").join(page)).unwrap();
        let (mut tests, mut last) = (0, None);
        for span in spans(&text) {
            let word = span.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if span.contains('/') && !span.contains(' ') {
                assert!(root().join(span).exists(), "{page} names {span}, which is not there");
                last = Some(std::fs::read_to_string(root().join(span)).unwrap_or_default());
            } else if word && span.matches('_').count() > 2 {
                assert!(named(span), "{page} names the test {span}, which is not there");
                tests += 1;
            } else if span.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') && span.contains("LIMIT") {
                let text = last.as_deref().unwrap_or_default();
                assert!(text.contains(&format!("const {span}:")), "{page}: {span} is not where it says");
            }
        }
        assert!(tests >= least, "{page} names {tests} tests");
    }
}
