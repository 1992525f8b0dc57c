//! The commands as a person types them: what they print, where, and how they end.

use std::path::Path;
use std::process::{Command, Stdio};

use hutong_testkit::launch::{Postgres, connect, free_port};
use rusqlite::Connection;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::cli::{Ended, ended, hutong, python, root};
use crate::installation::{Bus, Installation, until};

/// Runs `hutong` in a folder; nothing here is a terminal, so nothing may be coloured.
#[track_caller]
fn ask(folder: &Path, arguments: &[&str]) -> Ended {
    let ended = ended(hutong(folder, arguments));
    assert!(!ended.out.contains('\u{1b}') && !ended.err.contains('\u{1b}'), "{}{}", ended.out, ended.err);
    ended
}

/// A folder with one store, one capture, one subscription, and an address at which nothing answers.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let config = format!(
        r#"[http]
address = "127.0.0.1:{}"

[bus.embedded]
folder = "bus"

[department.gongan]
name = "公安局"

[department.renshe]
name = "人社局"

[store.office.sqlite]
path = "office.db"

[store.renshe.sqlite]
path = "renshe.db"

[stream.population_base]
owner = "gongan"
contract = "population_base.avsc"

[capture.gongan]
from = "office"
tables = {{ population_base = "population_base" }}

[subscription.renshe_population]
department = "renshe"
stream = "population_base"
purpose = "养老保险待遇资格核验"
legal_basis = "社会保险法 第七十四条"
until = 2099-12-31
columns = ["gmsfhm", "xm"]
into = {{ store = "renshe", table = "population" }}
"#,
        free_port()
    );
    std::fs::write(folder.path().join("hutong.toml"), config).unwrap();
    std::fs::copy(root().join("schemas/population_base.avsc"), folder.path().join("population_base.avsc"))
        .unwrap();
    folder
}

#[test]
fn help_names_every_command() {
    let folder = TempDir::new().unwrap();
    let help = ask(folder.path(), &["--help"]).expect(0);
    for command in [
        "demo",
        "check",
        "run",
        "status",
        "tap",
        "quarantine",
        "contract",
        "source",
        "completions",
        "version",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} in\n{help}");
        let own = ask(folder.path(), &[command, "--help"]).expect(0);
        assert!(own.contains(&format!("Usage: hutong {command}")), "{own}");
    }
    assert_eq!(ask(folder.path(), &["version"]).expect(0), format!("hutong {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_are_a_script_that_bash_reads() {
    let folder = TempDir::new().unwrap();
    let script = ask(folder.path(), &["completions", "bash"]).expect(0);
    assert!(script.contains("complete -F _hutong"), "{script}");
    let path = folder.path().join("hutong.bash");
    std::fs::write(&path, script).unwrap();
    let mut bash = Command::new("bash");
    bash.arg("-n").arg(path);
    ended(bash).expect(0);
}

#[test]
fn ends_quietly_with_the_reader_of_its_output() {
    let folder = TempDir::new().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = hutong(folder.path(), &["completions", "zsh"]);
    let output = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn an_answer_that_cannot_be_written_ends_with_1_and_one_line() {
    let folder = TempDir::new().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = hutong(folder.path(), &["version"]);
    let output = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: failed to print the answer: No space left on device"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_complaint_that_nobody_reads_ends_with_the_same_code() {
    let folder = TempDir::new().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    // There is no configuration.
    let mut command = hutong(folder.path(), &["status"]);
    let gone = command.stdout(Stdio::null()).stderr(writer).status().unwrap();
    assert_eq!(gone.code(), Some(4));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = hutong(folder.path(), &["status"]);
    let untold = command.stdout(Stdio::null()).stderr(full).status().unwrap();
    assert_eq!(untold.code(), Some(4));
}

#[test]
fn a_wrong_command_line_ends_with_2_and_says_what_is_wrong() {
    let folder = folder();
    let rows: [(&[&str], &str); 5] = [
        (&[], "Usage: hutong"),
        (&["rum"], "similar subcommand exists: 'run'"),
        (&["status", "--outpot", "json"], "similar argument exists: '--output'"),
        (&["quarantine", "discard", "renshe_population"], "<IDS>"),
        (&["demo", "--seconds", "many"], "--seconds"),
    ];
    for (arguments, says) in rows {
        let refused = ask(folder.path(), arguments);
        assert_eq!((refused.code, refused.out.as_str()), (2, ""), "{arguments:?}");
        assert!(refused.err.contains(says), "{arguments:?}: {}", refused.err);
    }
}

#[test]
fn an_unknown_name_ends_with_4_and_names_the_known_ones() {
    let folder = folder();
    let rows: [(&[&str], &str); 6] = [
        (&["run", "--only", "capture.gonan"], "capture.gongan, replicate.renshe_population"),
        (&["tap", "population"], "population_base"),
        (&["quarantine", "list", "renshe"], "renshe_population"),
        (&["contract", "draft", "ofice", "population_base"], "office, renshe"),
        (&["contract", "check", "population"], "population_base"),
        (&["source", "install", "office"], "gongan"),
    ];
    for (arguments, hint) in rows {
        let refused = ask(folder.path(), arguments);
        assert_eq!((refused.code, refused.out.as_str()), (4, ""), "{arguments:?}: {}", refused.err);
        assert!(refused.err.starts_with("error: "), "{arguments:?}: {}", refused.err);
        let hinted = refused.err.lines().any(|line| line.starts_with("  hint: ") && line.contains(hint));
        assert!(hinted, "{arguments:?}: {}", refused.err);
    }
    assert!(!folder.path().join("bus").exists(), "a refused command makes nothing");
}

#[test]
fn i5_tap_shows_nothing_to_a_department_without_a_subscription() {
    let folder = folder();
    let refused = ask(folder.path(), &["tap", "population_base", "--as", "gongan"]);
    assert_eq!((refused.code, refused.out.as_str()), (5, ""), "{}", refused.err);
    assert!(refused.err.contains("has no subscription"), "{}", refused.err);
}

#[test]
fn tap_and_status_say_that_nothing_runs() {
    let folder = folder();
    let empty = ask(folder.path(), &["tap", "population_base"]);
    assert_eq!((empty.code, empty.out.as_str()), (3, ""), "{}", empty.err);
    assert!(empty.err.contains("  hint: start it with `hutong run`"), "{}", empty.err);
    let refused = ask(folder.path(), &["status"]);
    assert_eq!((refused.code, refused.out.as_str()), (3, ""), "{}", refused.err);
    assert!(
        refused.err.contains("  hint: nothing runs there: start it with `hutong run`"),
        "{}",
        refused.err
    );
}

#[test]
fn a_quarantine_that_cannot_be_read_is_told_beside_those_that_can() {
    let folder = folder();
    // The replica's store holds nothing yet; the bus, where a capture's items are, is not there.
    let all = ask(folder.path(), &["quarantine", "list"]);
    assert_eq!((all.code, all.out.as_str()), (3, "nothing waits in what could be read\n"), "{}", all.err);
    assert!(all.err.starts_with("error: capture.gongan: "), "{}", all.err);
    assert!(!all.err.contains("renshe_population"), "{}", all.err);
    let all = ask(folder.path(), &["quarantine", "list", "-o", "json"]);
    assert_eq!((all.code, all.out.as_str()), (3, "[]\n"), "{}", all.err);
}

#[test]
fn a_process_that_hangs_is_told_from_none() {
    let folder = folder();
    let config = std::fs::read_to_string(folder.path().join("hutong.toml")).unwrap();
    let address = config.split("address = \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    // Connections are taken by the system, and nobody answers.
    let hangs = std::net::TcpListener::bind(address).unwrap();
    let silent = ask(folder.path(), &["status"]);
    assert_eq!((silent.code, silent.out.as_str()), (3, ""), "{}", silent.err);
    assert!(silent.err.contains("no answer within 5 s"), "{}", silent.err);
    assert!(silent.err.contains("hint: something is there and does not answer"), "{}", silent.err);
    drop(hangs);
}

#[test]
fn problems_of_the_configuration_end_with_4_wherever_they_are_met() {
    let folder = folder();
    let path = folder.path().join("hutong.toml");
    let broken = std::fs::read_to_string(&path).unwrap().replace("\"gmsfhm\", \"xm\"", "\"gmsfhm\", \"xn\"");
    std::fs::write(&path, broken).unwrap();
    let said = ask(folder.path(), &["check"]).expect(4);
    assert!(said.starts_with("hutong.toml:33:22: ") && said.ends_with("1 problem in 1 file\n"), "{said}");
    for command in ["run", "status"] {
        let refused = ask(folder.path(), &[command]);
        assert_eq!((refused.code, refused.out.as_str()), (4, ""), "{command}");
        assert!(refused.err.starts_with(&said), "{command}: {}", refused.err);
    }
    let missing = ask(folder.path(), &["-c", "nowhere.toml", "check"]).expect(4);
    assert!(missing.contains("nowhere.toml"), "{missing}");
}

#[test]
fn a_draft_tells_what_is_wrong_with_the_stores_and_only_that() {
    let folder = folder();
    let draft = |text: &str| {
        std::fs::write(folder.path().join("draft.toml"), text).unwrap();
        ask(folder.path(), &["-c", "draft.toml", "contract", "draft", "office", "people"])
    };
    let rows = [
        ("[store.office.sqlite]\npaht = \"office.db\"\n", 4, "draft.toml:2:1: unknown key `paht`"),
        ("[stroe.office.sqlite]\npath = \"office.db\"\n", 4, "draft.toml:1:2: unknown table `stroe`"),
        ("[store.office.sqlite]\npath = \n", 4, "draft.toml:2:"),
        ("[store.office]\n", 4, "draft.toml:1:8: store `office` names no system"),
        ("[http]\n", 4, "hint: it names none: add [store.NAME.postgres]"),
        // What is wrong elsewhere is not in the way: here the table alone is missing.
        ("[stream.people]\nonwer = 1\n[store.office.sqlite]\npath = \"office.db\"\n", 6, "people"),
    ];
    Connection::open(folder.path().join("office.db")).unwrap().execute_batch("CREATE TABLE t (i)").unwrap();
    for (text, code, says) in rows {
        let refused = draft(text);
        assert_eq!((refused.code, refused.out.as_str()), (code, ""), "{text}{}", refused.err);
        assert!(refused.err.contains(says), "{text}{}", refused.err);
        assert!(!refused.err.contains("no problems"), "{text}{}", refused.err);
    }
}

#[test]
fn contract_diff_says_what_breaks() {
    let folder = folder();
    let text = std::fs::read_to_string(folder.path().join("population_base.avsc")).unwrap();
    let old: Json = serde_json::from_str(&text).unwrap();
    let diff = |change: fn(&mut Json)| {
        let mut new = old.clone();
        change(&mut new);
        std::fs::write(folder.path().join("new.avsc"), new.to_string()).unwrap();
        ask(folder.path(), &["contract", "diff", "population_base.avsc", "new.avsc"])
    };
    assert_eq!(diff(|_| {}).expect(0), "no difference\n");
    let grown = diff(|new| {
        let field = serde_json::json!({"name": "email", "type": ["null", "string"], "default": null});
        new["fields"].as_array_mut().unwrap().push(field);
    });
    assert!(grown.expect(0).starts_with("ok     email: is added"));
    let turned = diff(|new| new["fields"][1]["type"] = "int".into());
    let turned = turned.expect(6);
    assert!(turned.starts_with("BREAKS xm: "), "{turned}");
    let unreadable = ask(folder.path(), &["contract", "diff", "population_base.avsc", "hutong.toml"]);
    assert_eq!(unreadable.code, 4, "{}", unreadable.err);
}

fn subscription(name: &str, columns: &str, rows: &str) -> String {
    format!(
        "[subscription.{name}]\ndepartment = \"renshe\"\nstream = \"permit\"\npurpose = \"核验\"\n\
         columns = [{columns}]\n{rows}into = {{ store = \"replica\", table = \"{name}\" }}\n"
    )
}

#[tokio::test]
async fn contract_check_compares_with_the_table_and_with_what_is_registered() {
    let database = Postgres::shared().await.unwrap();
    let source = connect(&database.url).await.unwrap();
    source
        .batch_execute(
            "CREATE TABLE permit (id bigint PRIMARY KEY, holder varchar(20) NOT NULL, fee numeric(8,2));
             INSERT INTO permit VALUES (1, '测试甲', 3.50)",
        )
        .await
        .unwrap();
    let rest = format!(
        "[department.gongan]\nname = \"公安局\"\n[store.office.postgres]\nurl = \"{}\"\n\
         [stream.permit]\nowner = \"gongan\"\ncontract = \"permit.avsc\"\n\
         [capture.permits]\nfrom = \"office\"\ntables = {{ \"public.permit\" = \"permit\" }}\n\
         [department.renshe]\nname = \"人社局\"\n[store.replica.sqlite]\npath = \"replica.db\"\n{}{}{}",
        database.url,
        subscription("payer", "\"id\", \"fee\"", ""),
        subscription("holder", "\"id\", \"holder\"", ""),
        subscription("filtered", "\"id\"", "rows = \"holder IS NOT NULL\"\n"),
    );
    let installation = Installation::new(Bus::Embedded, "permits", &rest).await;
    installation.draft_contract(&database.url, "public.permit", "permit");

    // Nothing is registered yet, and the draft fits the table that it was made of.
    let fits = installation.ask(&["contract", "check"]).expect(0);
    assert!(fits.contains("permit and table public.permit of store office:\n  ok   "), "{fits}");
    assert!(!fits.contains("FAIL"), "{fits}");

    let run = installation.run();
    let committed = |lanes: Vec<Json>| lanes.iter().any(|lane| lane["committed"] == 1).then_some(());
    until("the row is in the topic", async || installation.lanes().and_then(committed)).await;
    run.stop().await;
    let fits = installation.ask(&["contract", "check", "permit"]).expect(0);
    for part in ["key", "value"] {
        assert!(fits.contains(&format!("gongan.permit.v1-{part}: fits what is registered")), "{fits}");
    }

    // A column of another type fits neither the registered version nor the contract.
    let contract = std::fs::read_to_string(installation.path("permit.avsc")).unwrap();
    let mut other: Json = serde_json::from_str(&contract).unwrap();
    other["fields"][1]["type"] = "long".into();
    installation.write("permit.avsc", &other.to_string());
    let broken = installation.ask(&["contract", "check"]).expect(6);
    assert!(broken.contains("  FAIL ") && broken.contains("holder"), "{broken}");
    let told = "gongan.permit.v1-value: would be refused\n  BREAKS holder: text(20) becomes long: another type on the wire\n  \
                subscriptions that use it: filtered, holder\n";
    assert!(broken.contains(told) && !broken.contains("oldSchema"), "{broken}");

    // A shorter text passes the wire and the registry, and breaks replicas all the same.
    other["fields"][1]["type"] = json!({"type": "string", "length": 10});
    installation.write("permit.avsc", &other.to_string());
    let narrowed = installation.ask(&["contract", "check"]).expect(6);
    let told = "gongan.permit.v1-value: would be refused\n  BREAKS holder: text(20) becomes text(10)";
    assert!(narrowed.contains(told), "{narrowed}");
    // The next generation takes it, and is told what it changes.
    let file = installation.path("hutong.toml");
    let configuration = std::fs::read_to_string(&file).unwrap();
    let next = configuration.replace("[stream.permit]", "[stream.permit]\ngeneration = 2");
    installation.write("hutong.toml", &next);
    let next = installation.ask(&["contract", "check"]);
    assert!(
        next.out.contains(
            "gongan.permit.v2 has not begun; what it changes of gongan.permit.v1:\n  BREAKS holder"
        ),
        "{}{}",
        next.out,
        next.err
    );
    assert!(next.out.contains("subscriptions that use it: filtered, holder"), "{}", next.out);
    installation.write("hutong.toml", &configuration);

    // A column that went fits the registered version, not the table.
    installation.write("permit.avsc", &contract);
    source.batch_execute("ALTER TABLE permit DROP COLUMN fee").await.unwrap();
    let gone = installation.ask(&["contract", "check"]).expect(6);
    assert!(gone.lines().any(|line| line.starts_with("  FAIL ") && line.contains("fee")), "{gone}");
}

/// Reads a YAML file as the tools read it that it is made for.
fn yaml(file: &str) -> Json {
    let path = root().join(file);
    serde_json::from_str(&ended(python("yaml_as_json.py", &[path.to_str().unwrap()])).expect(0)).unwrap()
}

#[test]
fn the_compose_stack_mounts_what_there_is_and_its_configuration_has_no_problems() {
    let compose = yaml("docker-compose.yml");
    let services = compose["services"].as_object().unwrap();
    let container = TempDir::new().unwrap();
    for (name, service) in services {
        for mount in service["volumes"].as_array().into_iter().flatten() {
            let mut parts = mount.as_str().unwrap().split(':');
            let (from, to) = (parts.next().unwrap(), parts.next().unwrap());
            let Some(path) = from.strip_prefix("./") else {
                assert!(compose["volumes"].get(from).is_some(), "{name}: the volume {from} is not declared");
                continue;
            };
            let path = root().join(path);
            assert!(path.exists(), "{name}: {from} does not exist");
            if name == "hutong" {
                // The same layout as in the container.
                let to = container.path().join(to.trim_start_matches('/'));
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                ended(copy(&path, &to)).expect(0);
            }
        }
        for other in service["depends_on"].as_object().into_iter().flat_map(|list| list.keys()) {
            assert!(
                services[other].get("healthcheck").is_some(),
                "{name} waits for {other}, which has no health"
            );
        }
    }
    let mut check = hutong(&container.path().join("etc/hutong"), &["check"]);
    let environment = services["hutong"]["environment"].as_object().unwrap();
    check.envs(environment.iter().map(|(name, value)| (name, value.as_str().unwrap())));
    assert_eq!(ended(check).expect(0), "hutong.toml: no problems\n");
    let config = std::fs::read_to_string(root().join("deploy/compose/hutong.toml")).unwrap();
    for (_, rest) in config.match_indices("env = \"").map(|(at, begin)| (at, &config[at + begin.len()..])) {
        let name = rest.split('"').next().unwrap();
        assert!(environment.contains_key(name), "docker-compose.yml does not give {name} to hutong");
    }
    let scraped = yaml("deploy/compose/prometheus.yml")["scrape_configs"][0]["static_configs"].to_string();
    assert!(scraped.contains("hutong:9464"), "{scraped}");
}

fn copy(from: &Path, to: &Path) -> Command {
    let mut command = Command::new("cp");
    command.arg("-r").arg(from).arg(to);
    command
}
