//! `hutong policy` over the built program: rows are tried against grants before anybody relies on them.

use serde_json::Value as Json;

use crate::installation::{Bus, Installation};
use crate::ledger::Town;

const CONTRACT: &str = r#"{"type":"record","name":"people","key":["gmsfhm"],
    "sharing":"conditional","condition":"用于履行法定职责","fields":[
    {"name":"gmsfhm","type":{"type":"string","length":18},"title":"公民身份号码"},
    {"name":"xm","type":["null","string"],"title":"姓名"},
    {"name":"lxdh","type":["null",{"type":"string","length":20}],"title":"电话","mask":"phone"},
    {"name":"csrq","type":["null",{"type":"int","logicalType":"date"}],"title":"出生日期"},
    {"name":"pay","type":["null",{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}]},
    {"name":"rkzt","type":["null","string"],"title":"状态"}]}"#;

const CONFIGURATION: &str = r#"
[department.gongan]
[department.renshe]
[department.minzheng]
[store.office.sqlite]
path = "office.db"
[stream.people]
owner = "gongan"
contract = "people.avsc"
[capture.register]
from = "office"
tables = { people = "people" }
[subscription.pension]
department = "renshe"
stream = "people"
purpose = "养老保险待遇资格核验"
legal_basis = "社会保险法 第七十四条"
until = 2099-12-31
columns = ["gmsfhm", "xm", "lxdh", "csrq", "pay"]
rows = "rkzt <> '注销'"
mask = { xm = "name" }
into = { store = "office", table = "replica" }
"#;

const CASES: &str = r#"
[[case]]
name = "names and phones are masked"
subscription = "pension"
row = { gmsfhm = "990101199003070015", xm = "张三", lxdh = "13900000000", csrq = 1990-03-07, pay = 100.5, rkzt = "正常" }
sees = { gmsfhm = "990101199003070015", xm = "张*", lxdh = "139****0000", csrq = "1990-03-07", pay = "100.50" }

[[case]]
name = "who is deregistered is not seen"
subscription = "pension"
row = { gmsfhm = "990101199003070015", rkzt = "注销" }
nothing = true

[[case]]
name = "neither is whose state is not known"
subscription = "pension"
row = { gmsfhm = "990101199003070015" }
nothing = true

[[case]]
name = "who is deregistered leaves"
subscription = "pension"
before = { gmsfhm = "990101199003070015", rkzt = "正常" }
row = { gmsfhm = "990101199003070015", rkzt = "注销" }
deleted = true

[[case]]
name = "the state itself is nobody's"
subscription = "pension"
before = { gmsfhm = "990101199003070015", rkzt = "正常" }
row = { gmsfhm = "990101199003070015", rkzt = "失踪" }
nothing = true
"#;

async fn office() -> Installation {
    let office = Installation::new(Bus::Embedded, "policy", CONFIGURATION).await;
    office.write("people.avsc", CONTRACT);
    office.write("cases.toml", CASES);
    office
}

#[tokio::test]
async fn i5_cases_say_what_a_subscriber_sees_and_a_wrong_one_is_shown() {
    let office = office().await;
    let told = office.ask(&["policy", "test", "cases.toml"]).expect(0);
    assert!(told.contains("5 cases, 0 failed"), "{told}");
    // A mask that somebody has forgotten.
    let path = office.path("hutong.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("mask = { xm = \"name\" }\n", "");
    std::fs::write(&path, text).unwrap();
    let told = office.ask(&["policy", "test", "cases.toml"]).expect(1);
    assert!(told.contains("FAIL pension: names and phones are masked"), "{told}");
    assert!(told.contains("\"xm\":\"张三\"") && told.contains("5 cases, 1 failed"), "{told}");
    let told: Json =
        serde_json::from_str(&office.ask(&["policy", "test", "cases.toml", "-o", "json"]).expect(1)).unwrap();
    assert!(told["failed"] == 1 && told["cases"][1]["ok"] == true, "{told}");
    for (case, why) in [
        ("subscription = \"pension\"\nrow = { gmsfhm = \"x\" }", "it has to say one of"),
        (
            "subscription = \"nobody\"\nrow = { gmsfhm = \"x\" }\nnothing = true",
            "the subscriptions are: pension",
        ),
        ("subscription = \"pension\"\nrow = { gmsfhn = \"x\" }\nnothing = true", "did you mean `gmsfhm`?"),
        ("subscription = \"pension\"\nrow = { xm = \"x\" }\nnothing = true", "`gmsfhm` is not named"),
        (
            "subscription = \"pension\"\nrow = { gmsfhm = \"x\", csrq = \"y\" }\nnothing = true",
            "no value of `csrq`",
        ),
    ] {
        office.write("wrong.toml", &format!("[[case]]\nname = \"wrong\"\n{case}\n"));
        let told = office.ask(&["policy", "test", "wrong.toml"]);
        assert!(told.code == 4 && told.err.contains(why), "{why}: {}", told.err);
    }
}

#[tokio::test]
async fn an_explanation_names_the_rule_of_every_column() {
    let office = office().await;
    let row = ["--row", "gmsfhm=990101199003070015", "--row", "xm=张三", "--row", "rkzt=正常"];
    let asked = |department| vec!["policy", "explain", "people", department];
    let told = office.ask(&[&asked("renshe")[..], &row].concat()).expect(0);
    for words in [
        "the row is delivered",
        "rows rkzt <> '注销': true",
        "by `name`, as the subscription says",
        "by `phone`, as the contract says",
        "the subscription does not name it",
        "张*",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let json = [&asked("renshe")[..], &row, &["-o", "json"]].concat();
    let json: Json = serde_json::from_str(&office.ask(&json).expect(0)).unwrap();
    let rules: Vec<&str> = json[0]["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["rule"].as_str().unwrap())
        .collect();
    assert_eq!(rules, ["clear", "masked", "masked", "clear", "clear", "withheld"]);
    let gone = ["--row", "gmsfhm=990101199003070015", "--row", "rkzt=注销"];
    let told = office.ask(&[&asked("renshe")[..], &gone].concat()).expect(0);
    assert!(told.contains("it is outside of the condition") && told.contains(": false"), "{told}");
    let told = office.ask(&[&asked("minzheng")[..], &row].concat()).expect(0);
    assert!(told.contains("minzheng has no subscription to people"), "{told}");
    assert_eq!(office.ask(&[&asked("nobody")[..], &row].concat()).code, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_what_the_ledger_grants_is_tried_and_not_what_was_asked_for() {
    let town = Town::embedded("policygranted").await;
    town.says(&["subscription", "request", "pension"]);
    let explain =
        ["policy", "explain", "entry", "renshe", "--row", "id=1", "--row", "phone=9901", "--granted"];
    assert!(town.says(&explain).contains("nothing of it moves"), "nothing is granted yet");
    town.says(&["subscription", "approve", "pension", "--without", "phone"]);
    let granted = town.says(&explain);
    assert!(granted.contains("withheld") && !granted.contains("9901"), "{granted}");
    let asked = town.says(&explain[..explain.len() - 1]);
    assert!(!asked.contains("withheld") && asked.contains("9901"), "{asked}");
}
