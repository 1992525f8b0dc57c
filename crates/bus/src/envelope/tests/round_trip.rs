//! What is written is read back; what is damaged is an error.

use bytes::Bytes;
use hutong_core::{ErrorKind, Value};
use proptest::prelude::*;

use super::super::{Decoded, Encoder, Plan, schemas};
use super::any_change;
use crate::framing;

fn config() -> ProptestConfig {
    ProptestConfig { cases: 64, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn i6_a_change_comes_back_as_it_was(change in any_change::change(&any_change::contract())) {
        let contract = any_change::contract();
        let mut plan = Plan::compile(&schemas(&contract, "a.all.v1").value, &contract).unwrap();
        let encoded = Encoder::new(contract, 1, 2).encode(&change, 77).unwrap();
        let (id, body) = framing::split(&encoded.value).unwrap();
        prop_assert_eq!(id, 2);
        let decoded = plan.decode(&body, 9).unwrap();
        prop_assert_eq!(decoded, Decoded::Change(Box::new(change)));
    }

    /// A record that was cut at any byte, or goes on too long, is an error, never a NULL.
    #[test]
    fn a_cut_record_is_an_error(change in any_change::change(&any_change::contract())) {
        let contract = any_change::contract();
        let mut plan = Plan::compile(&schemas(&contract, "a.all.v1").value, &contract).unwrap();
        let encoded = Encoder::new(contract, 1, 2).encode(&change, 77).unwrap();
        let (_, body) = framing::split(&encoded.value).unwrap();
        for end in 0..body.len() {
            let error = plan.decode(&body.slice(..end), 9).unwrap_err();
            prop_assert_eq!(error.kind, ErrorKind::Malformed);
        }
        let longer = Bytes::from([&body[..], &[0]].concat());
        prop_assert_eq!(plan.decode(&longer, 9).unwrap_err().kind, ErrorKind::Malformed);
    }

    #[test]
    fn damaged_and_random_bytes_never_panic(
        change in any_change::change(&any_change::contract()),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        noise in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let contract = any_change::contract();
        let mut plan = Plan::compile(&schemas(&contract, "a.all.v1").value, &contract).unwrap();
        let encoded = Encoder::new(contract, 1, 2).encode(&change, 77).unwrap();
        let mut damaged = framing::split(&encoded.value).unwrap().1.to_vec();
        for (at, byte) in flips {
            let at = at.index(damaged.len());
            damaged[at] = byte;
        }
        let _ = plan.decode(&damaged.into(), 9);
        let _ = plan.decode(&noise.into(), 9);
    }
}

/// An older reader's contract and a newer writer's, and the other way round.
#[test]
fn a_contract_may_grow() {
    let text = |more: &str| {
        format!(
            r#"{{"type":"record","name":"s","sharing":"unconditional","key":["id"],"fields":[
                {{"name":"id","type":"int"}}{more}]}}"#
        )
    };
    let old = hutong_core::Contract::parse(&text("")).unwrap().shared();
    let new = hutong_core::Contract::parse(&text(
        r#",{"name":"x","type":["null",{"type":"array","items":["null","string"]}]},{"name":"n","type":["null","long"]}"#,
    ))
    .unwrap()
    .shared();
    let row = vec![Value::Integer(1), Value::Array(vec![Value::Null, Value::text("a")]), Value::Integer(3)];
    let change = any_change::change(&any_change::contract());
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let template = proptest::strategy::ValueTree::current(&change.new_tree(&mut runner).unwrap());
    for (op, known) in [(hutong_core::Op::Update, Value::Unknown), (hutong_core::Op::Insert, Value::Null)] {
        let mut change = hutong_core::Change {
            contract: std::sync::Arc::clone(&new),
            op,
            before: hutong_core::Before::None,
            after: Some(row.clone()),
            ..template.clone()
        };
        // A newer writer: what the reader does not know is passed over.
        let encoded = Encoder::new(std::sync::Arc::clone(&new), 1, 2).encode(&change, 0).unwrap();
        let mut plan = Plan::compile(&schemas(&new, "t").value, &old).unwrap();
        let Decoded::Change(read) = plan.decode(&framing::split(&encoded.value).unwrap().1, 0).unwrap()
        else {
            panic!("a change");
        };
        assert_eq!(read.after, Some(vec![Value::Integer(1)]));
        // An older writer: what it did not know is unknown in an update, and NULL in a whole row.
        change.contract = std::sync::Arc::clone(&old);
        change.after = Some(vec![Value::Integer(1)]);
        let encoded = Encoder::new(std::sync::Arc::clone(&old), 1, 2).encode(&change, 0).unwrap();
        let mut plan = Plan::compile(&schemas(&old, "t").value, &new).unwrap();
        let Decoded::Change(read) = plan.decode(&framing::split(&encoded.value).unwrap().1, 0).unwrap()
        else {
            panic!("a change");
        };
        assert_eq!(read.after, Some(vec![Value::Integer(1), known.clone(), known]));
    }
}
