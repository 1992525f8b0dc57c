//! What a grant lets through: rows of change and verdict, and a replica that is compared with its definition.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::content::Noted;
use super::*;
use crate::Checkpoint;
use crate::change::{Before, Change, Op, Origin};
use crate::port::{Step, Verdict};
use crate::position::Position;
use crate::value::{Row, Value};

fn contract() -> Arc<Contract> {
    let text = r#"{"type":"record","name":"people","sharing":"conditional","condition":"on request","key":["id"],"fields":[
        {"name":"id","type":{"type":"string","length":18},"checks":[{"kind":"citizen_number"}]},
        {"name":"xm","type":["null","string"]},
        {"name":"csrq","type":["null",{"type":"int","logicalType":"date"}],"title":"出生日期"},
        {"name":"state","type":["null","string"],"mask":"name"},
        {"name":"phone","type":["null",{"type":"string","length":20}],"mask":"phone"}]}"#;
    Contract::parse(text).unwrap().shared()
}

fn grant(columns: &[&str], rows: Option<&str>, masks: &[(&str, Mask)]) -> Grant {
    Grant {
        subscription: "renshe".into(),
        stream: "people".into(),
        columns: columns.iter().map(|c| (*c).to_owned()).collect(),
        rows: rows.map(str::to_owned),
        masks: masks.iter().map(|(name, mask)| ((*name).to_owned(), *mask)).collect(),
        until: None,
        key: Secret::new("k"),
    }
}

fn change(contract: &Arc<Contract>, op: Op, before: Before, after: Option<Row>) -> Change {
    Change {
        contract: Arc::clone(contract),
        op,
        before,
        after,
        position: Position::offset(7),
        source_position: Position::offset(7),
        origin: Origin {
            place: Arc::default(),
            committed_us: 0,
            xid: None,
            lsn: None,
            transaction: None,
            last: true,
        },
    }
}

const ID: &str = "990101199003070015";

fn person(xm: &str, state: Value) -> Row {
    let phone = Value::text("13900000000");
    vec![Value::text(ID), Value::text(xm.to_owned()), Value::Date(7370), state, phone]
}

fn known_key() -> Row {
    let mut row = vec![Value::Unknown; 5];
    row[0] = Value::text(ID);
    row
}

/// Says what comes out, in short: the letter, what is known of the old row, and the new row's second column.
fn outcome(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Drop { reason } => (*reason).to_owned(),
        Verdict::Reject(rejected) => format!("reject {} {}", rejected.rule, rejected.change.is_some()),
        Verdict::Pass(change) => {
            let name = change.after.as_ref().map_or("-", |row| row[1].as_text().unwrap_or("?"));
            format!("{} {} {name}", change.op.letter(), change.before.word())
        }
    }
}

#[test]
fn i5_a_row_filter_is_a_promise_about_the_replica() {
    let (inside, outside) = (|| Value::text("正常"), || Value::text("注销"));
    let contract = contract();
    let full = |state: Value| Before::Full(person("旧名", state));
    let rows = [
        (Op::Read, Before::None, Some(inside()), "r none 新名"),
        (Op::Read, Before::None, Some(outside()), "d key -"),
        (Op::Insert, Before::None, Some(inside()), "c none 新名"),
        (Op::Insert, Before::None, Some(outside()), "filtered"),
        (Op::Insert, Before::None, Some(Value::Null), "filtered"),
        (Op::Update, Before::Key(known_key()), Some(inside()), "u key 新名"),
        (Op::Update, Before::Key(known_key()), Some(outside()), "d key -"),
        (Op::Update, Before::None, Some(outside()), "d key -"),
        (Op::Update, full(inside()), Some(inside()), "u full 新名"),
        (Op::Update, full(inside()), Some(outside()), "d key -"),
        (Op::Update, full(inside()), Some(Value::Null), "d key -"),
        // The old row was never granted, so its image stays here.
        (Op::Update, full(outside()), Some(inside()), "c none 新名"),
        (Op::Update, full(Value::Null), Some(inside()), "c none 新名"),
        (Op::Update, full(outside()), Some(outside()), "filtered"),
        (Op::Update, Before::Full(person("新名", inside())), Some(inside()), "outside_grant"),
        // What the source did not tell is as the old image says; without one nobody knows.
        (Op::Update, full(inside()), Some(Value::Unknown), "u full 新名"),
        (Op::Update, full(outside()), Some(Value::Unknown), "filtered"),
        (Op::Update, Before::Key(known_key()), Some(Value::Unknown), "reject unknown_value false"),
        (Op::Delete, Before::Key(known_key()), None, "d key -"),
        (Op::Delete, full(inside()), None, "d full -"),
        (Op::Delete, full(outside()), None, "filtered"),
        (Op::Delete, Before::None, None, "reject unknown_value false"),
        (Op::Truncate, Before::None, None, "t none -"),
    ];
    let mut permit =
        Permit::new(Arc::clone(&contract), &grant(&["id", "xm"], Some("state = '正常'"), &[])).unwrap();
    for (op, before, state, expected) in rows {
        let says = format!("{op:?} {before:?} {state:?}");
        let verdict = permit.apply(change(&contract, op, before, state.map(|state| person("新名", state))));
        assert_eq!(outcome(&verdict), expected, "{says}");
        if let Verdict::Pass(change) = verdict {
            assert!(Arc::ptr_eq(&change.contract, &permit.projection()));
            let width = change.contract.fields.len();
            assert!(change.after.iter().chain(change.before.row()).all(|row| row.len() == width), "{says}");
        }
    }
}

#[test]
fn a_filter_on_the_key_is_decided_without_the_old_image() {
    let contract = contract();
    let mut permit =
        Permit::new(Arc::clone(&contract), &grant(&["id", "xm"], Some("id LIKE '98%'"), &[])).unwrap();
    for (op, after) in [(Op::Delete, None), (Op::Update, Some(person("新名", Value::Null)))] {
        let verdict = permit.apply(change(&contract, op, Before::Key(known_key()), after));
        assert_eq!(outcome(&verdict), "filtered");
    }
}

#[test]
fn i5_what_is_told_names_no_row_that_may_never_have_been_granted() {
    let (inside, outside) = (|| Value::text("正常"), || Value::text("注销"));
    let contract = contract();
    let full = |state: Value| Before::Full(person("旧名", state));
    let rows = [
        (Op::Read, Before::None, Some(inside()), "r none 新名"),
        (Op::Read, Before::None, Some(outside()), "filtered"),
        (Op::Insert, Before::None, Some(outside()), "filtered"),
        (Op::Update, Before::None, Some(inside()), "u none 新名"),
        (Op::Update, full(inside()), Some(outside()), "d key -"),
        (Op::Update, full(outside()), Some(outside()), "filtered"),
        (Op::Update, full(outside()), Some(inside()), "c none 新名"),
        (Op::Update, Before::None, Some(outside()), "reject unknown_value false"),
        (Op::Update, Before::Key(known_key()), Some(outside()), "reject unknown_value false"),
        (Op::Delete, full(inside()), None, "d full -"),
        (Op::Delete, full(outside()), None, "filtered"),
        (Op::Delete, Before::Key(known_key()), None, "reject unknown_value false"),
        (Op::Truncate, Before::None, None, "t none -"),
    ];
    let permit = |rows| Permit::new(Arc::clone(&contract), &grant(&["id", "xm"], rows, &[])).unwrap().told();
    let mut filtered = permit(Some("state = '正常'"));
    assert!(filtered.needs_old_row());
    for (op, before, state, expected) in rows {
        let says = format!("{op:?} {before:?} {state:?}");
        let change = change(&contract, op, before, state.map(|state| person("新名", state)));
        assert_eq!(outcome(&filtered.apply(change)), expected, "{says}");
    }
    // What the key alone decides, and what is granted whole, needs no old row.
    for (rows, updated, deleted) in [
        (None, "u none 新名", "d key -"),
        (Some("id LIKE '99%'"), "u none 新名", "d key -"),
        (Some("id LIKE '98%'"), "filtered", "filtered"),
    ] {
        let mut permit = permit(rows);
        assert!(!permit.needs_old_row());
        let update = change(&contract, Op::Update, Before::None, Some(person("新名", outside())));
        let delete = change(&contract, Op::Delete, Before::Key(known_key()), None);
        assert_eq!(outcome(&permit.apply(update)), updated, "{rows:?}");
        assert_eq!(outcome(&permit.apply(delete)), deleted, "{rows:?}");
    }
}

#[test]
fn i5_projects_and_masks_the_old_row_and_the_new() {
    let contract = contract();
    let masks = [("phone", Mask::Phone), ("csrq", Mask::Year)];
    let mut permit =
        Permit::new(Arc::clone(&contract), &grant(&["phone", "id", "csrq"], None, &masks)).unwrap();
    let projection = permit.projection();
    assert_eq!(projection.key, [1]);
    assert_eq!(projection.fields[2].ty, Type::Text { length: None });
    let before = Before::Full(person("旧名", Value::Null));
    let mut after = person("新名", Value::Null);
    after[4] = Value::text("13911110000");
    // The masked number is the same: nothing of what is granted has changed.
    let verdict = permit.apply(change(&contract, Op::Update, before.clone(), Some(after.clone())));
    assert_eq!(outcome(&verdict), "outside_grant");
    after[4] = Value::Null;
    let Verdict::Pass(passed) = permit.apply(change(&contract, Op::Update, before, Some(after))) else {
        panic!()
    };
    assert_eq!(passed.after, Some(vec![Value::Null, Value::text(ID), Value::text("1990")]));
    let masked = vec![Value::text("139****0000"), Value::text(ID), Value::text("1990")];
    assert_eq!(passed.before, Before::Full(masked));
}

#[test]
fn a_key_that_is_not_granted_in_clear_is_hidden() {
    let contract = contract();
    for (columns, masks) in [(&["xm"][..], vec![]), (&["xm", "id"][..], vec![("id", Mask::IdShort)])] {
        let mut permit = Permit::new(Arc::clone(&contract), &grant(columns, None, &masks)).unwrap();
        let projection = permit.projection();
        assert_eq!((projection.fields[0].name.as_str(), &projection.key[..]), (HIDDEN_KEY, &[0][..]));
        assert_eq!(projection.fields[0].ty, Type::Text { length: Some(64) });
        let read = permit.apply(change(&contract, Op::Read, Before::None, Some(person("张三", Value::Null))));
        let delete = permit.apply(change(&contract, Op::Delete, Before::Key(known_key()), None));
        let (Verdict::Pass(read), Verdict::Pass(delete)) = (read, delete) else { panic!() };
        // HMAC-SHA-256 under `k` of t, the length 18 in four bytes, and the number.
        let bytes = [b"t\0\0\0\x12", ID.as_bytes()].concat();
        let expected = Value::Text(Key::new(&Secret::new("k")).digest(&bytes));
        assert_eq!(read.key(), Some(vec![expected.clone()]));
        assert_eq!(delete.key(), Some(vec![expected]));
        assert_eq!(delete.before.row().unwrap()[1], Value::Unknown);
    }
}

#[test]
fn i5_refuses_a_grant_that_the_contract_does_not_bear() {
    let rows = [
        (grant(&[], None, &[]), "names no column"),
        (grant(&["id", "xn"], None, &[]), "no column `xn` in `people` (hint: did you mean `xm`?)"),
        (grant(&["id", "id"], None, &[]), "granted twice"),
        (grant(&["id"], None, &[("xm", Mask::Name)]), "mask on `xm`, which is not granted"),
        (grant(&["csrq"], None, &[("csrq", Mask::Phone)]), "`phone` does not fit column `csrq`"),
        (grant(&["id"], Some("stat = '1'"), &[]), "did you mean `state`?"),
        (grant(&["id", "csrq"], None, &[("id", Mask::Id)]), "gives the masked digits away"),
        (Grant { stream: "houses".into(), ..grant(&["id"], None, &[]) }, "is for `houses`"),
    ];
    for (grant, says) in rows {
        let problems = Permit::new(contract(), &grant).unwrap_err();
        let [problem] = &problems[..] else { panic!("{says}: {problems:?}") };
        assert!(problem.to_string().contains(says), "{problem}");
    }
    let denied = Contract {
        sharing: crate::contract::Sharing::Denied("某法 第一条".into()),
        ..(*contract()).clone()
    };
    assert!(Permit::new(Arc::new(denied), &grant(&["id"], None, &[])).is_err());
    let year = [("id", Mask::Id), ("csrq", Mask::Year)];
    assert!(Permit::new(contract(), &grant(&["id", "csrq"], None, &year)).is_ok());
}

#[test]
fn another_version_of_the_contract_is_read_by_field_name() {
    let own = contract();
    let mut other = (*own).clone();
    other.fields.swap(1, 4);
    other.fields.remove(3);
    other.fields[2].ty = Type::Timestamp;
    let other = Arc::new(other);
    let row = vec![Value::text(ID), Value::Null, Value::Timestamp(0), Value::text("张三")];
    let mut permit = Permit::new(own, &grant(&["id", "xm", "csrq", "state"], None, &[])).unwrap();
    for (op, absent) in [(Op::Insert, Value::Null), (Op::Update, Value::Unknown)] {
        let Verdict::Pass(passed) = permit.apply(change(&other, op, Before::None, Some(row.clone()))) else {
            panic!()
        };
        let expected = vec![Value::text(ID), Value::text("张三"), Value::Unknown, absent];
        assert_eq!(passed.after, Some(expected), "{op:?}");
    }
}

#[test]
fn the_digest_follows_what_decides_the_replica() {
    let base = grant(&["id", "xm"], Some("state = '1'"), &[("xm", Mask::Name)]);
    let same = [
        Grant { columns: vec!["xm".into(), "id".into()], ..base.clone() },
        Grant { rows: Some(" state = '1'\n".into()), until: Some(civil::date(2027, 12, 31)), ..base.clone() },
    ];
    let different = [
        Grant { columns: vec!["id".into()], ..base.clone() },
        Grant { rows: None, ..base.clone() },
        Grant { masks: BTreeMap::new(), ..base.clone() },
        Grant { key: Secret::new("other"), ..base.clone() },
        Grant { stream: "houses".into(), ..base.clone() },
    ];
    assert!(same.iter().all(|grant| grant.digest() == base.digest()));
    assert!(different.iter().all(|grant| grant.digest() != base.digest()));
    assert_eq!(base.digest().len(), 64);
    assert!(!format!("{base:?}").contains("\"k\""));
}

fn content(grant: &Grant, place: &str) -> Content {
    grant.content(Permit::new(contract(), grant).unwrap(), place, "mark")
}

#[test]
fn i5_a_grant_that_lets_less_through_is_told_from_every_other() {
    let base = grant(&["id", "xm", "csrq"], Some("state = '1'"), &[("xm", Mask::Name)]);
    let before = content(&base, "t 2");
    let gone = |grant: &Grant| content(grant, "t 2").narrows(before.noted()).map(|narrowing| narrowing.gone);
    let fewer = grant(&["id", "xm"], Some(" (state = '1')"), &[("xm", Mask::Name)]);
    assert_eq!(gone(&fewer), Some(vec!["csrq".to_owned()]));
    assert_eq!(
        gone(&grant(&["id"], Some("state = '1'"), &[])),
        Some(vec!["csrq".to_owned(), "xm".to_owned()])
    );
    let longer = Grant { until: Some(civil::Date::MAX), ..base.clone() };
    assert_eq!(content(&longer, "t 2").noted(), before.noted());
    // What it needs is in the replica, in clear.
    let rows = "csrq IS NOT NULL AND state = '1'";
    assert_eq!(gone(&grant(&["id", "xm"], Some(rows), &[("xm", Mask::Name)])), Some(vec!["csrq".to_owned()]));
    let others = [
        (base.clone(), "t 3"),
        (grant(&["id", "xm", "csrq", "state"], Some("state = '1'"), &[("xm", Mask::Name)]), "t 2"),
        (grant(&["id", "xm"], Some("state = '1'"), &[]), "t 2"),
        // A year is a text, and the column one of dates.
        (grant(&["id", "csrq"], Some("state = '1'"), &[("csrq", Mask::Year)]), "t 2"),
        (grant(&["id", "xm"], None, &[("xm", Mask::Name)]), "t 2"),
        (grant(&["id", "xm"], Some("state = '1' OR csrq IS NOT NULL"), &[("xm", Mask::Name)]), "t 2"),
        (grant(&["id", "xm"], Some("state = '1' AND xm = '张三'"), &[("xm", Mask::Name)]), "t 2"),
        (grant(&["id", "xm"], Some("state = '1' AND phone IS NULL"), &[("xm", Mask::Name)]), "t 2"),
        // Without its key in clear, no row of the replica is found again.
        (grant(&["xm", "csrq"], Some("state = '1'"), &[("xm", Mask::Name)]), "t 2"),
        (Grant { key: Secret::new("other"), ..fewer.clone() }, "t 2"),
    ];
    for (other, place) in others {
        assert!(content(&other, place).narrows(before.noted()).is_none(), "{other:?} {place}");
    }
    // It is noted with the checkpoint, and counts under its own mark only.
    let mut here = Checkpoint::default();
    assert!(before.note(&mut here) && !before.note(&mut here) && here.is_empty());
    assert_eq!(Noted::read(&here.clone().anew(), "mark").as_ref(), Some(before.noted()));
    assert_eq!(Noted::read(&here, "reload"), None);
    here.notes.insert(NOTE.into(), "{".into());
    assert_eq!(Noted::read(&here, "mark"), None);
}

#[test]
fn i5_each_row_is_kept_masked_or_removed_as_a_narrower_grant_says() {
    let before = content(&grant(&["id", "xm", "csrq", "phone"], None, &[]), "t 2");
    let rows = "csrq > '1990-01-01'";
    let masks = [("xm", Mask::Name), ("phone", Mask::Phone)];
    let less = content(&grant(&["id", "xm", "phone"], Some(rows), &masks), "t 2");
    let narrowing = less.narrows(before.noted()).unwrap();
    let names = |fields: Vec<&Field>| fields.iter().map(|f| f.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(narrowing.reads()).len(), 3);
    assert_eq!((names(narrowing.masks()).len(), &*narrowing.gone), (2, &["csrq".to_owned()][..]));
    let (old, young) = (Value::Date(0), Value::Date(10_000));
    let fate = |csrq: &Value, xm: Value, phone: Value| {
        let value = |field: &&Field| match field.name.as_str() {
            "csrq" => csrq.clone(),
            "xm" => xm.clone(),
            _ => phone.clone(),
        };
        narrowing.fate(narrowing.reads().iter().map(value).collect())
    };
    let masked = |xm: Value, phone: Value| {
        let value = |field: &&Field| if field.name == "xm" { xm.clone() } else { phone.clone() };
        Fate::Masked(narrowing.masks().iter().map(value).collect())
    };
    assert_eq!(fate(&old, Value::text("张三"), Value::Null), Fate::Goes);
    assert_eq!(fate(&Value::Null, Value::text("张三"), Value::Null), Fate::Goes);
    assert_eq!(fate(&young, Value::Null, Value::Null), Fate::Stays);
    assert_eq!(fate(&young, Value::text("张三"), Value::Null), masked(Value::text("张*"), Value::Null));
    // What a table has made of a value decides nothing, and shows nothing.
    assert_eq!(fate(&Value::text("1990"), Value::Null, Value::Null), Fate::Untold);
    let odd = fate(&young, Value::Integer(139), Value::Null);
    assert_eq!(odd, masked(Value::text("*"), Value::Null));
    // A mask alone asks of every row, columns that go alone of none.
    let mask = content(&grant(&["id", "xm", "csrq", "phone"], None, &[("xm", Mask::Name)]), "t 2");
    assert_eq!(names(mask.narrows(before.noted()).unwrap().reads()), ["xm"]);
    let fewer = content(&grant(&["id"], None, &[]), "t 2");
    assert!(fewer.narrows(before.noted()).unwrap().reads().is_empty());
}

#[test]
fn rows_of_a_narrower_grant_are_covered_by_a_wider_one() {
    let (more, less) = (grant(&["id", "xm"], None, &[]), grant(&["id", "xm"], Some("state = '1'"), &[]));
    let noted = |grant: &Grant| {
        let mut here = Checkpoint::default();
        content(grant, "t 2").note(&mut here);
        here
    };
    assert!(content(&more, "t 2").covers(&noted(&less), Some("mark")));
    assert!(!content(&less, "t 2").covers(&noted(&more), Some("mark")));
}

#[test]
fn a_grant_ends_at_midnight_after_its_last_day() {
    let zone = TimeZone::get("Asia/Shanghai").unwrap();
    let until = civil::date(2027, 12, 31);
    let end = "2027-12-31T16:00:00Z".parse::<jiff::Timestamp>().unwrap().as_microsecond();
    assert!(!expired(until, &zone, end - 1));
    assert!(expired(until, &zone, end));
    assert!(!expired(civil::Date::MAX, &zone, i64::MAX));
}

#[test]
fn default_masks_are_those_of_granted_columns() {
    let masks = default_masks(&contract(), &["id".into(), "phone".into()]).unwrap();
    assert_eq!(masks, BTreeMap::from([("phone".into(), Mask::Phone)]));
}

/// Applies a change as every store does.
fn store(replica: &mut BTreeMap<String, Row>, change: Change) {
    if change.op == Op::Truncate {
        return replica.clear();
    }
    let key = format!("{:?}", change.key().unwrap());
    let Some(after) = change.after else {
        replica.remove(&key);
        return;
    };
    replica.insert(key, after);
}

proptest! {
    #[test]
    fn i5_the_replica_holds_exactly_the_granted_rows(
        steps in proptest::collection::vec((0u8..4, 0u8..4, 0u8..4, 0u8..3, 0u8..10, any::<bool>()), 0..60),
        hidden in any::<bool>(),
    ) {
        let contract = contract();
        let columns: &[&str] = if hidden { &["xm"] } else { &["id", "xm"] };
        let grant = grant(columns, Some("state <> '2' OR xm = '1'"), &[]);
        let mut permit = Permit::new(Arc::clone(&contract), &grant).unwrap();
        let mut source: BTreeMap<u8, Row> = BTreeMap::new();
        let mut replica = BTreeMap::new();
        for (id, xm, state, phone, action, full) in steps {
            let old = source.get(&id).cloned();
            let state = if state == 0 { Value::Null } else { Value::text(state.to_string()) };
            let row = vec![Value::text(id.to_string()), Value::text(xm.to_string()), Value::Null, state, Value::text(phone.to_string())];
            let before = |old: &Row| match full {
                true => Before::Full(old.clone()),
                false => Before::Key(contract.key_row(&contract.key_of(old))),
            };
            let (op, before, after) = match (action, old) {
                (0, _) if id == 0 => (Op::Truncate, Before::None, None),
                (0..=2, Some(old)) => (Op::Delete, before(&old), None),
                (0..=2, None) => continue,
                (3, Some(old)) => (Op::Read, Before::None, Some(old)),
                (3, None) => continue,
                (_, Some(old)) => (Op::Update, before(&old), Some(row)),
                (_, None) => (Op::Insert, Before::None, Some(row)),
            };
            match (op, &after) {
                (Op::Truncate, _) => source.clear(),
                (_, Some(row)) => { source.insert(id, row.clone()); }
                (_, None) => { source.remove(&id); }
            }
            match permit.apply(change(&contract, op, before, after)) {
                Verdict::Pass(change) => store(&mut replica, change),
                Verdict::Drop { .. } => {}
                Verdict::Reject(rejected) => panic!("{rejected:?}"),
            }
        }
        let granted = source.values().filter(|row| {
            row[3].as_text().is_some_and(|state| state != "2") || row[1].as_text() == Some("1")
        });
        let names: Vec<_> = granted.map(|row| row[1].clone()).collect();
        let mut held: Vec<_> = replica.values().map(|row| row.last().unwrap().clone()).collect();
        let mut expected = names;
        let text = |value: &Value| value.as_text().unwrap().to_owned();
        held.sort_by_key(text);
        expected.sort_by_key(text);
        prop_assert_eq!(held, expected);
    }
}
