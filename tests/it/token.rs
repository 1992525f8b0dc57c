//! Who may ask a running process: whoever shows its token, and nobody else, whatever is asked.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use hutong_testkit::launch::free_port;
use rusqlite::Connection;

use crate::cli::ended;
use crate::installation::{Bus, Installation, until};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

const CONFIGURATION: &str = r#"
[department.gongan]
name = "市公安局"
[store.office.sqlite]
path = "office.db"
[stream.entry]
owner = "gongan"
contract = "entry.avsc"
[capture.gongan]
from = "office"
tables = { entry = "entry" }
"#;

/// Makes an installation with what `[http]` is to have beside its address.
async fn installed(name: &str, http: &str) -> Installation {
    let installation = Installation::new(Bus::Embedded, name, CONFIGURATION).await;
    let config = fs::read_to_string(installation.path("hutong.toml")).unwrap();
    installation.write("open.toml", &config);
    let (before, after) = config.split_once("[department.gongan]").unwrap();
    installation.write("hutong.toml", &format!("{}\n{http}\n[department.gongan]{after}", before.trim_end()));
    let contract = r#"{"type":"record","name":"entry","sharing":"unconditional","key":["id"],"fields":[{"name":"id","type":"long"}]}"#;
    installation.write("entry.avsc", contract);
    let office = Connection::open(installation.path("office.db")).unwrap();
    office.execute_batch("CREATE TABLE entry (id INTEGER PRIMARY KEY)").unwrap();
    installation.ask(&["source", "install", "gongan"]).expect(0);
    installation
}

fn write_token(installation: &Installation, token: &str, mode: u32) {
    installation.write("token", &format!("{token}\n"));
    fs::set_permissions(installation.path("token"), Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn i5_a_process_with_a_token_answers_nobody_else_and_the_commands_show_it() {
    let installation = installed("tokened", "token_file = \"token\"\nopen_metrics = true").await;
    let missing = ended(crate::cli::hutong(&installation.path("."), &["run"]));
    assert_eq!(missing.code, 5, "{}", missing.err);
    assert!(missing.err.contains("umask 077; openssl rand"), "{}", missing.err);
    write_token(&installation, TOKEN, 0o644);
    let readable = ended(crate::cli::hutong(&installation.path("."), &["run"]));
    assert_eq!(readable.code, 5);
    assert!(
        readable.err.contains("its mode is 644") && readable.err.contains("hint: chmod 600"),
        "{}",
        readable.err
    );

    write_token(&installation, TOKEN, 0o600);
    let run = installation.run();
    until("the lane runs", async || {
        installation.lanes()?.first().filter(|lane| lane["state"] == "running").map(|_| ())
    })
    .await;
    for command in [["lag"].as_slice(), &["top"], &["graph", "-o", "json"]] {
        let told = installation.ask(command);
        assert_eq!(told.code, 0, "{command:?}: {}", told.err);
        assert!(told.out.contains("capture.gongan") && !told.out.contains("\"live\": false"), "{}", told.out);
    }

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: &str, sent: Option<&str>| {
        let mut request = client.get(format!("http://{}{path}", installation.address()));
        if let Some(token) = sent {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        let challenged = answer.headers().contains_key("www-authenticate");
        (answer.status().as_u16(), challenged, answer.text().await.unwrap())
    };
    assert_eq!(get("/livez", None).await, (200, false, "ok\n".into()));
    assert_eq!(get("/metrics", None).await.0, 200, "it is open");
    for path in ["/status", "/readyz?verbose", "/nowhere", "/"] {
        for sent in [None, Some("0123456789abcdef0123456789abcdee"), Some("")] {
            let (code, challenged, text) = get(path, sent).await;
            assert_eq!((code, challenged), (401, true), "{path} {sent:?}");
            assert!(text.contains("Authorization: Bearer TOKEN") && text.contains("`token_file`"), "{text}");
            assert!(!text.contains("gongan") && !text.contains(TOKEN), "{text}");
        }
    }
    assert_eq!(get("/status", Some(TOKEN)).await.0, 200);

    // A configuration without the token is told so, and takes the refusal for no leave to go beside the process.
    for command in
        [["status"].as_slice(), &["graph"], &["top"], &["source", "reset", "gongan", "--reason", "t"]]
    {
        let refused = installation.ask(&[&["-c", "open.toml"], command].concat());
        assert_eq!(refused.code, 5, "{command:?}: {}{}", refused.out, refused.err);
        assert!(refused.err.contains("hint: set token_file of [http]"), "{}", refused.err);
    }
    let doctor = installation.ask(&["-c", "open.toml", "doctor", "-o", "json"]).expect(1);
    assert!(doctor.contains("\"code\": \"denied\"") && !doctor.contains("HutongGone"), "{doctor}");
    // The file has changed under the process.
    write_token(&installation, &TOKEN.replace('0', "f"), 0o600);
    let other = installation.ask(&["status"]);
    assert_eq!(other.code, 5);
    assert!(other.err.contains("another token"), "{}", other.err);
    write_token(&installation, TOKEN, 0o600);
    assert!(!installation.logged(TOKEN), "a token is never logged");
    run.stop().await;
}

#[tokio::test]
async fn i5_metrics_want_the_token_too_unless_they_are_open() {
    let installation = installed("closed", "token_file = \"token\"").await;
    write_token(&installation, TOKEN, 0o600);
    let run = installation.run();
    until("it answers", async || installation.lanes().map(|_| ())).await;
    let url = format!("http://{}/metrics", installation.address());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(client.get(&url).send().await.unwrap().status(), 401);
    let answer = client.get(&url).bearer_auth(TOKEN).send().await.unwrap();
    assert!(answer.text().await.unwrap().contains("hutong_lag_seconds"));
    run.stop().await;
}

#[tokio::test]
async fn i5_an_address_that_others_reach_is_refused_without_a_token() {
    let installation = installed("reached", "token_file = \"token\"").await;
    let config = fs::read_to_string(installation.path("open.toml")).unwrap();
    let address = installation.address();
    for other in ["0.0.0.0", "[::]", "192.0.2.1"] {
        let port = free_port();
        let open = config.replace(&address, &format!("{other}:{port}"));
        installation.write("open.toml", &open);
        let checked = installation.ask(&["-c", "open.toml", "check"]).expect(4);
        assert!(checked.contains("without a token anybody there reads"), "{checked}");
        let refused = installation.ask(&["-c", "open.toml", "run"]);
        assert_eq!(refused.code, 4, "{}", refused.err);
        installation.write("open.toml", &open.replace("[http]\n", "[http]\ntoken_file = \"token\"\n"));
        installation.ask(&["-c", "open.toml", "check"]).expect(0);
    }
}
