//! Hostile words: conditions, contracts, ledger records, positions, notes. Each is refused or means what it says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use hutong_core::filter::Dialect;
use hutong_core::ledger::{
    Act, Audit, Book, Charter, Condition, Digest, Entry, Head, Offer, PrivateKey, Proof, PublicKey, Receipt,
    Taken,
};
use hutong_core::mask::Key;
use hutong_core::{
    Checkpoint, Contract, ErrorKind, Field, Filter, Hold, Mask, Order, Position, Secret, Truth, Type, Value,
    Verb,
};
use hutong_testkit::hostile;

fn contract() -> Contract {
    let text = r#"{"type":"record","name":"s","sharing":"unconditional","key":["id"],"fields":[{"name":"id","type":"string"}]}"#;
    let mut contract = Contract::parse(text).unwrap();
    let texts = || Type::Text { length: None };
    contract.fields = vec![
        Field::new("id", texts()),
        Field { column: Some("姓名".into()), ..Field::new("xm", texts()) },
        Field::new("age", Type::Int),
        Field::new("csrq", Type::Date),
        Field::new("fee", Type::Decimal { precision: 12, scale: 2 }),
        Field::new("seen", Type::TimestampTz),
        Field::new("alive", Type::Boolean),
        Field::new("height", Type::Double),
        Field::new("photo", Type::Bytes),
        Field::new("card", Type::Uuid),
        Field::new("state", Type::Enum { allowed: vec!["正常".into(), "注销".into()] }),
    ];
    contract
}

fn rows() -> [Vec<Value>; 3] {
    let row = vec![
        Value::text("990101199003070015"),
        Value::text("张三"),
        Value::Integer(36),
        Value::Date(7370),
        Value::Decimal("9999.50".parse().unwrap()),
        Value::TimestampTz(0),
        Value::Boolean(true),
        Value::Double(f64::NAN),
        Value::Unknown,
        Value::text("00000000-0000-0000-0000-00000000000A"),
        Value::text("正常"),
    ];
    [row, vec![Value::Null; 11], vec![Value::Unknown; 11]]
}

const CONDITIONS: [&str; 8] = [
    "id LIKE '9901%' AND age >= 18 OR NOT (姓名 = '张三')",
    "age IN (1, 36, -99.5) AND \"姓名\" <> 'it''s'",
    "csrq BETWEEN DATE '1990-01-01' AND '1991-12-31'",
    "seen < TIMESTAMPTZ '1970-01-01 00:00:00.000001Z' OR seen IS NULL",
    "fee > 9999.49 AND fee NOT IN (1, 2.50) AND height <= 1.75",
    "((alive = TRUE) AND ((state = '正常') OR (state IS NOT NULL)))",
    "xm NOT LIKE '李!_%' ESCAPE '!' AND card = '00000000-0000-0000-0000-00000000000a'",
    "NOT (EXISTS (SELECT 1 FROM ((a JOIN b ON 1 = 1))) OR CASE WHEN age = 1 THEN f(x) ELSE (CAST(age AS text)) END = '1')",
];

#[test]
fn i5_a_hostile_condition_is_refused_with_its_place_or_decides_as_its_negation_does_not() {
    let (contract, rows) = (contract(), rows());
    let name = "i5_a_hostile_condition_is_refused_with_its_place_or_decides_as_its_negation_does_not";
    hostile::feed_texts(name, 1_500, &CONDITIONS, |text| match Filter::compile(text, &contract) {
        Ok(filter) => {
            let decided = rows.each_ref().map(|row| filter.matches(row));
            for dialect in [Dialect::Postgres, Dialect::Sqlite] {
                let _ = filter.to_sql(dialect);
            }
            // One that fills its limits exactly has no room for a NOT.
            if let Ok(not) = Filter::compile(&format!("NOT ({text})\n"), &contract) {
                assert_eq!(rows.each_ref().map(|row| !not.matches(row)), decided, "{text}");
            }
            assert!(decided.iter().all(|truth| *truth != Truth::True || !filter.columns().is_empty()));
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            let within = |span: &std::ops::Range<usize>| text.get(span.clone()).is_some();
            assert!(problems.iter().all(|p| p.span.as_ref().is_none_or(within)), "{text}: {problems:?}");
        }
    });
}

/// What recurses, backtracks or multiplies in a parser of SQL.
#[test]
fn i5_conditions_of_every_excess_are_refused_in_time() {
    let contract = contract();
    let deep = |open: &str, inside: &str, close: &str, depth| {
        format!("{}{inside}{}", open.repeat(depth), close.repeat(depth))
    };
    for depth in [12, 200, 6_000] {
        for condition in [
            deep("(", "age = 1", ")", depth),
            deep("NOT (", "age = 1", ")", depth),
            deep("EXISTS (SELECT 1 FROM (", "t", "))", depth),
            format!("EXISTS (SELECT 1 FROM {})", deep("(", "t", ")", depth)),
            format!("age IN {}", deep("(SELECT ", "1", ")", depth)),
            deep("CASE WHEN age = 1 AND ", "age = 1", " THEN 1 ELSE 2 END = 1", depth),
            deep("f(", "age", ")", depth),
            deep("CAST(", "age", " AS int)", depth),
            deep("ARRAY[", "1", "]", depth),
            deep("a[", "1", "]", depth),
            deep("INTERVAL (", "age = 1", ")", depth),
            deep("(SELECT ", "1", ") > ", depth),
            format!("age{}", "::int".repeat(depth)),
            format!("xm = {}", "'a' || ".repeat(depth)),
            format!("age = 1 {}", "UNION SELECT 1 ".repeat(depth)),
            format!("age = {}1", "- ".repeat(depth)),
            format!("age = {}", "9".repeat(depth)),
            format!("age IN ({}1)", "1, ".repeat(depth)),
            format!("xm LIKE '{}'", "%a".repeat(depth)),
            format!("xm = {}", "$a$".repeat(depth)),
            format!("{}age = 1", "/*".repeat(depth)),
            format!("xm = U&'{}'", "\\0061".repeat(depth)),
            deep("(", "(age, xm) OVERLAPS (1, 2)", ")", depth),
            deep("(VALUES (", "1", ")) = 1", depth),
            format!("age = {}", deep("JSON_OBJECT('a' VALUE ", "1", ")", depth)),
            format!("age = 1 COLLATE {}", "a.".repeat(depth)),
        ] {
            let told: String = condition.chars().take(60).collect();
            let started = std::time::Instant::now();
            let _ = Filter::compile(&condition, &contract);
            // Most take a millisecond; what multiplies with each level would not end at all.
            assert!(
                started.elapsed().as_secs() < 10,
                "{told}… of {} bytes takes {:?}",
                condition.len(),
                started.elapsed()
            );
        }
    }
}

#[test]
fn a_hostile_contract_is_refused_or_reads_back() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/population_base.avsc");
    let own = std::fs::read_to_string(file).unwrap();
    let types = r#"{"type":"record","name":"s","sharing":"conditional","condition":"按需","key":["id"],"fields":[
        {"name":"id","type":"long"},{"name":"a","type":["null",{"type":"array","items":["null","string"]}],"default":null},
        {"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
        {"name":"e","type":{"type":"string","connect.name":"io.debezium.data.Enum","connect.parameters":{"allowed":"a,b"}}},
        {"name":"t","type":{"type":"string","length":18},"mask":"name","checks":[{"kind":"pattern","pattern":"^[0-9]{2}$"}]}]}"#;
    hostile::feed_texts("a_hostile_contract_is_refused_or_reads_back", 2_000, &[&own, types], |text| {
        match Contract::parse(text) {
            Ok(contract) => {
                let fields = contract.fields.len();
                assert!(fields > 0 && contract.key.iter().all(|at| *at < fields) && !contract.key.is_empty());
                let again =
                    contract.fields.iter().map(|f| f.ty.to_contract().to_string()).collect::<Vec<_>>();
                assert_eq!(again.len(), fields);
            }
            Err(error) => assert_eq!(error.kind, ErrorKind::Config),
        }
    });
    let field = |at| format!(r#",{{"name":"f{at}","type":"int"}}"#);
    let wide = |count: usize| {
        let more: String = (1..count).map(field).collect();
        format!(
            r#"{{"type":"record","name":"s","sharing":"unconditional","key":["id"],"fields":[{{"name":"id","type":"long"}}{more}]}}"#
        )
    };
    assert!(Contract::parse(&wide(2_000)).is_ok());
    let error = Contract::parse(&wide(2_001)).unwrap_err();
    assert!(error.to_string().contains("at most 2000") && error.hint.is_some(), "{error}");
}

#[test]
fn i5_a_hostile_ledger_record_says_nothing() {
    let key = |seed: u8| PrivateKey::new([seed; 32]);
    let charter = Charter { id: "test".into(), governing: "shuju".into(), key: key(1).public() };
    let mut book = Book::new(charter.clone());
    let mut records = Vec::new();
    let joined = Act::Joined { department: "gongan".into(), key: key(2).public().to_string() };
    let offer = Offer {
        stream: "population".into(),
        sharing: Condition::Conditional("按需".into()),
        columns: vec!["id".into(), "name".into()],
    };
    for (department, seed, act) in [("shuju", 1, joined), ("gongan", 2, Act::Offered(offer))] {
        let entry = Entry { department: department.into(), at_us: 7, seen: book.head(), act };
        let record = entry.sign(&charter, &key(seed));
        assert!(matches!(book.read(Some(&record)).unwrap(), Taken::Entry { .. }));
        records.push(record);
    }
    let (members, offers) = (book.members().clone(), book.offers().clone());
    hostile::feed("i5_a_hostile_ledger_record_says_nothing", 3_000, &records, |bytes| {
        let mut book = book.clone();
        let mut taken = None;
        hostile::within((64 << 10) + 16 * bytes.len(), || taken = Some(book.read(Some(bytes)).unwrap()));
        // What was signed stands already, and nothing else was signed.
        let Some(Taken::Skipped(skipped)) = taken else { panic!("it counts") };
        assert!(records.iter().any(|record| record == bytes) == (skipped.rule == "replay"), "{skipped:?}");
        assert!(*book.members() == members && *book.offers() == offers);
    });
}

#[test]
fn hostile_keys_heads_and_positions_are_refused_or_write_themselves_again() {
    let public = PrivateKey::new([7; 32]).public().to_string();
    let head = format!("7:{}", "0f".repeat(32));
    let position = Position::wal(1, 7, 8, 1).to_string();
    let valid =
        [public.as_str(), &head, &position, "snapshot.public.t", r#"{"rows":5,"estimate":9,"done":false}"#];
    let name = "hostile_keys_heads_and_positions_are_refused_or_write_themselves_again";
    hostile::feed_texts(name, 10_000, &valid, |text| {
        if let Ok(key) = PublicKey::parse(text) {
            assert_eq!(key.to_string(), text.to_ascii_lowercase());
        }
        if let Some(head) = Head::parse(text) {
            assert_eq!(Head::parse(&head.to_string()), Some(head));
        }
        if let Some(digest) = Digest::parse(text) {
            assert_eq!(digest.to_string(), text.to_ascii_lowercase());
        }
        if let Ok(position) = text.parse::<Position>() {
            assert_eq!(position.to_string(), text.to_ascii_lowercase());
        }
        let _ = PrivateKey::parse(text);
        let mut checkpoint = Checkpoint::default();
        checkpoint.notes.insert("snapshot.t".into(), text.to_owned());
        checkpoint.notes.insert(text.to_owned(), "x".into());
        assert!(checkpoint.snapshots().len() <= 2);
        let _ = (checkpoint.suspended(), serde_json::from_str::<Checkpoint>(text));
    });
}

#[test]
fn i5_a_mask_hides_hostile_words_too() {
    let key = Key::new(&Secret::new("a key"));
    let masks = ["name", "id", "id_short", "phone", "address", "amount", "year", "pseudonym"];
    let masks = masks.map(|name| Mask::parse(name).unwrap());
    let valid = ["990101199003070015", "张三", "13900000000", "某省某市某区某路1号", "欧阳·娜娜"];
    hostile::feed_texts("i5_a_mask_hides_hostile_words_too", 4_000, &valid, |text| {
        for mask in masks {
            let masked = mask.apply(&Value::text(text.to_owned()), &key);
            let Value::Text(masked) = masked else { panic!("{mask} makes {masked:?} of a text") };
            let (before, after) = (text.chars().count(), masked.chars().count());
            // Of numbers that people are known by, no more than the ends stay.
            if matches!(mask, Mask::Id | Mask::IdShort | Mask::Phone) {
                let shown = masked.chars().filter(|c| *c != '*').count();
                assert!(shown <= 10 && (shown < before || before == 0), "{mask} shows {masked} of {text}");
            }
            assert!(after <= before.max(64), "{mask} makes {after} characters of {before}");
        }
    });
}

#[test]
fn a_hostile_receipt_is_none_or_says_what_its_bytes_say_and_the_audit_goes_on() {
    let receipt = |number: u64| Receipt {
        number,
        department: "renshe".into(),
        subscription: "pension".into(),
        stream: "population".into(),
        lane: "replicate.pension.0".into(),
        proof: Proof {
            sequence: number,
            grant: 4,
            ranges: [("gongan.population.v1/0".to_owned(), (Position::START, Position::offset(number)))]
                .into(),
            changes: 2,
            rejected: 1,
            content: Digest::of(b"a"),
            chain: Digest::of(b"b"),
        },
        written: 1,
        deleted: 1,
        quarantined: 1,
        at_us: 1_767_225_600_000_000,
    };
    let valid: Vec<Vec<u8>> = [1, 2, u64::MAX].map(|number| receipt(number).record()).to_vec();
    let charter =
        Charter { id: "test".into(), governing: "gongan".into(), key: PrivateKey::new([1; 32]).public() };
    let book = Book::new(charter);
    let mut last: Option<Vec<u8>> = None;
    let name = "a_hostile_receipt_is_none_or_says_what_its_bytes_say_and_the_audit_goes_on";
    hostile::feed(name, 4_000, &valid, |bytes| {
        let mut read = None;
        hostile::within((64 << 10) + 64 * bytes.len(), || read = Some(Receipt::read(bytes)));
        match read.unwrap() {
            // Written again it is the same receipt: no number was guessed.
            Ok(read) => assert_eq!(Receipt::read(&read.record()).unwrap(), read),
            Err(why) => assert!(!why.is_empty()),
        }
        // Beside another hostile one, and beside whole ones.
        let mut audit = Audit::new(&book, "gongan");
        let whole = [&valid[0], &valid[1]].map(|whole| Some(whole.as_slice()));
        for record in [whole[0], last.as_deref(), Some(bytes), None, whole[1]] {
            audit.take(record);
        }
        let audited = audit.end();
        assert!(audited.wrong_count > 0 && audited.receipts <= 5, "no grant is known here: {audited:?}");
        last = Some(bytes.to_vec());
    });
}

#[test]
fn i4_hostile_notes_of_what_people_did_pause_a_lane_and_hand_it_to_nobody() {
    let pause = r#"{"since_us":7,"by":"李","reason":"维护"}"#;
    let acts = r#"[{"verb":"pause","at_us":7,"by":"李","reason":"维护"},{"verb":"rewind","at_us":8,"by":"x","to_us":5}]"#;
    let turn = "8 9";
    let name = "i4_hostile_notes_of_what_people_did_pause_a_lane_and_hand_it_to_nobody";
    hostile::feed_texts(name, 5_000, &[pause, acts, turn], |text| {
        let mut checkpoint = Checkpoint::default();
        for note in ["steer.pause", "steer.acts", "steer.turn", "ledger.receipt", "ledger.head"] {
            checkpoint.notes.insert(note.into(), text.to_owned());
        }
        assert!(checkpoint.pause().is_some(), "what cannot be read is a pause all the same");
        let acts = checkpoint.acts();
        assert!(acts.len() <= text.len() / 20);
        for epoch in [8, 9, 10, i64::MAX, i64::MIN] {
            for own in [8, 9, 10] {
                let held = checkpoint.hold(epoch, own) == Hold::Held;
                assert_eq!(held, epoch == own, "nobody holds by a note what has another epoch");
            }
            checkpoint.clone().turn(epoch);
        }
        // A person can take it back.
        let act = hutong_core::Act {
            verb: Verb::Resume,
            at_us: 1,
            by: "x".into(),
            reason: String::new(),
            to_us: None,
        };
        let resumed = Order { act, back: Default::default() }.apply("replicate.a.0", &checkpoint).unwrap();
        assert!(resumed.pause().is_none() && resumed.acts().len() <= 10);
        assert_eq!(resumed.acts().last().map(|act| act.verb), Some(Verb::Resume));
    });
}
