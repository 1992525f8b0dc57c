//! What a comparison says of itself: that nothing differs only where everything was compared.

use hutong_core::Value;
use hutong_core::contract::Sharing;
use hutong_core::verify::{Aside, Outcome};
use hutong_core::{Field, Type};

use super::*;

fn contract() -> Contract {
    Contract {
        stream: "s".into(),
        doc: String::new(),
        sharing: Sharing::Unconditional,
        fields: vec![Field::new("id", Type::Long)],
        key: vec![0],
        catalogue: Default::default(),
    }
}

fn options() -> Verify {
    Verify {
        subscription: "pension".into(),
        repair: false,
        dry_run: false,
        half: None,
        rounds: 6,
        patience: 1,
        output: Output::Text,
    }
}

/// Returns the first line, the rest, and what a program reads of whether all was compared.
fn told(report: &Report) -> (String, String, Json) {
    let contract = contract();
    let told = Told { subscription: "pension", contract: &contract, report };
    let text = told.text(&options());
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    (first.to_owned(), rest.to_owned(), told.json()["whole"].clone())
}

fn with(outcome: Outcome) -> Report {
    let suspect = Suspect { key: vec![Value::Integer(7)], outcome };
    Report { suspects: [(KeyDigest([7; 16]), suspect)].into(), rounds: 2, ..Report::default() }
}

#[test]
fn nothing_differs_is_said_only_where_everything_was_compared() {
    let (first, rest, whole) = told(&Report { source_rows: 3, replica_rows: 3, ..Report::default() });
    assert!(first.starts_with("subscription pension: nothing differs ("), "{first}");
    assert_eq!((rest.as_str(), whole), ("", json!(true)));

    let aside = Aside { rule: "check".into(), at_replica: true };
    for (report, said) in [
        (with(Outcome::Moving(3)), "changed during the check 3 times"),
        (with(Outcome::Undecided), "was not looked at again"),
        (with(Outcome::Waits(aside)), "1 rows wait in the quarantine of pension by the rule check"),
        (Report { unknown: 2, ..Report::default() }, "2 items wait in a quarantine without a key"),
        (Report { left: 5, ..Report::default() }, "5 rows stand in ranges"),
        (Report { left_keys: 4, ..Report::default() }, "4 keys were not looked at"),
        (
            Report { uncertain: vec![("id".into(), "why".into())], ..Report::default() },
            "was not compared: why",
        ),
    ] {
        let (first, rest, whole) = told(&report);
        assert!(first.contains("nothing differs in what could be compared, which is not all"), "{first}");
        assert!(rest.contains(said), "{rest}");
        assert_eq!(whole, json!(false));
    }
    // A row that differs was compared.
    let (first, rest, whole) = told(&with(Outcome::Differs(Difference::Missing)));
    assert!(first.contains("1 row differs") && rest.contains("missing"), "{first}{rest}");
    assert_eq!(whole, json!(true));
}

#[test]
fn rows_that_are_not_hutongs_are_counted_and_are_no_difference() {
    let (first, rest, whole) = told(&Report { foreign: 2, ..Report::default() });
    assert!(first.contains("nothing differs ("), "{first}");
    assert!(rest.contains("2 rows of the table are not Hutong's"), "{rest}");
    assert_eq!(whole, json!(true));
}

#[test]
fn records_that_were_passed_over_are_said() {
    let (first, rest, whole) = told(&Report { passed_over: 2, ..Report::default() });
    assert!(first.contains("nothing differs (") && rest.contains("2 records of the topic"), "{first}{rest}");
    assert_eq!(whole, json!(true));
}
