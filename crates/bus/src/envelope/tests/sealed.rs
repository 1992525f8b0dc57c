//! Sealed columns on the wire: they come back where there is a key, and stay unknown where there is none.

use std::sync::Arc;

use bytes::Bytes;
use hutong_core::seal::{Custody as _, Sealer};
use hutong_core::seal::{Key, Nonces, PrivateKey, Ring, Wrapped, ring};
use hutong_core::{Before, Change, Contract, ErrorKind, Value};
use proptest::prelude::*;

use super::super::{Decoded, Encoded, Encoder, Plan, Unseal, schemas};
use super::any_change;
use crate::framing;

const TOPIC: &str = "a.all.v1";

fn owner() -> PrivateKey {
    PrivateKey::new([1; 32]).unwrap()
}

/// The contract of every type with every second column sealed, and with the key or without.
fn contract(key: bool) -> Arc<Contract> {
    let mut contract = (*any_change::contract()).clone();
    for (at, field) in contract.fields.iter_mut().enumerate() {
        field.sealed = if at < 2 { key } else { at % 2 == 0 };
    }
    contract.shared()
}

fn begun() -> (Vec<Wrapped>, Sealer) {
    let mut ring = Ring::of(TOPIC, &[], &owner());
    let mut byte = 0;
    let fresh = || {
        byte += 1;
        Ok(Key::new([byte; 32]))
    };
    let (epoch, records) = ring.begin(None, &[], &owner(), fresh).unwrap();
    (records, ring.sealer(epoch, &Nonces::new(1)).unwrap())
}

fn unseal(records: &[Wrapped], fields: &[String]) -> Option<Unseal> {
    let opener = ring::opener(TOPIC, records, &owner(), &owner().public(), None, fields).unwrap();
    Some(Unseal { opener: Arc::new(opener), fields: fields.to_vec() })
}

fn all(contract: &Contract) -> Vec<String> {
    contract.sealed().map(|field| field.name.clone()).collect()
}

fn plan(contract: &Arc<Contract>, unseal: Option<Unseal>) -> Plan {
    Plan::compile(&schemas(contract, TOPIC).value, contract).unwrap().unsealing(unseal)
}

/// Splits a record into its body and its key, both without framing.
fn parts(encoded: &Encoded) -> (Bytes, Bytes) {
    let body = |record: &Bytes| framing::split(record).unwrap().1;
    (body(&encoded.value), encoded.key.as_ref().map(body).unwrap_or_default())
}

/// A change by the sealed contract.
fn sealed(contract: &Arc<Contract>, change: Change) -> Change {
    Change { contract: Arc::clone(contract), ..change }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn i6_a_sealed_change_comes_back_as_it_was(change in any_change::change(&any_change::contract()), key: bool) {
        let contract = contract(key);
        let change = sealed(&contract, change);
        let (records, sealer) = begun();
        let encoded = Encoder::new(Arc::clone(&contract), 1, 2).sealing(sealer).encode(&change, 77).unwrap();
        let (body, record_key) = parts(&encoded);
        if key {
            let wanted = if encoded.key.is_some() { 33 } else { 0 };
            prop_assert_eq!(record_key.len(), wanted, "a digest of 32 bytes");
        }
        let mut plan = plan(&contract, unseal(&records, &all(&contract)));
        let decoded = plan.decode_keyed(&body, 9, &record_key).unwrap();
        prop_assert_eq!(decoded, Decoded::Change(Box::new(change)));
    }

    /// What is damaged anywhere is an error or another change of what is not sealed: never another sealed value.
    #[test]
    fn hostile_bytes_never_panic_and_never_change_a_sealed_value(
        change in any_change::change(&any_change::contract()),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 1..=u8::MAX), 1..4),
    ) {
        let contract = contract(true);
        let change = sealed(&contract, change);
        let (records, sealer) = begun();
        let encoded = Encoder::new(Arc::clone(&contract), 1, 2).sealing(sealer).encode(&change, 77).unwrap();
        let (body, key) = parts(&encoded);
        let mut damaged = body.to_vec();
        for (at, byte) in flips {
            let at = at.index(damaged.len());
            damaged[at] ^= byte;
        }
        let mut plan = plan(&contract, unseal(&records, &all(&contract)));
        if let Ok(Decoded::Change(read)) = plan.decode_keyed(&damaged.into(), 9, &key) {
            let pairs = [(&read.after, &change.after)];
            for (read, wrote) in pairs.into_iter().filter_map(|(a, b)| Some((a.as_ref()?, b.as_ref()?))) {
                for (at, field) in contract.fields.iter().enumerate().filter(|(_, field)| field.sealed) {
                    let same = read[at] == wrote[at] || read[at].is_unknown();
                    prop_assert!(same, "{} became another value", field.name);
                }
            }
        }
    }
}

fn small() -> (Arc<Contract>, Change) {
    let text = r#"{"type":"record","name":"s","sharing":"unconditional","key":["id"],"fields":[
        {"name":"id","type":"string","sealed":true},{"name":"name","type":["null","string"],"sealed":true},
        {"name":"phone","type":["null","string"],"sealed":true},{"name":"state","type":["null","string"]}]}"#;
    let contract = Contract::parse(text).unwrap().shared();
    let row = ["99000019900101000X", "欧阳", "13900000000", "正常"].map(Value::text).to_vec();
    let mut change = Change { after: Some(row.clone()), before: Before::Full(row), ..template(&contract) };
    change.op = hutong_core::Op::Update;
    (contract, change)
}

fn template(contract: &Arc<Contract>) -> Change {
    let position = hutong_core::Position::wal(0, 7, 0, 0);
    Change {
        contract: Arc::clone(contract),
        op: hutong_core::Op::Update,
        before: Before::None,
        after: None,
        position,
        source_position: position,
        origin: hutong_core::Origin {
            place: Arc::default(),
            committed_us: 1,
            xid: None,
            lsn: None,
            transaction: None,
            last: true,
        },
    }
}

fn encoded() -> (Arc<Contract>, Vec<Wrapped>, Encoded) {
    let (contract, change) = small();
    let (records, sealer) = begun();
    let encoded = Encoder::new(Arc::clone(&contract), 1, 2).sealing(sealer).encode(&change, 77).unwrap();
    (contract, records, encoded)
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[test]
fn what_is_sealed_is_not_on_the_wire_and_what_is_not_is() {
    let (_, _, encoded) = encoded();
    let record = [&encoded.value[..], encoded.key.as_deref().unwrap_or_default()].concat();
    for hidden in ["99000019900101000X", "欧阳", "13900000000"] {
        assert!(!holds(&record, hidden), "{hidden}");
    }
    assert!(holds(&record, "正常"));
}

#[test]
fn a_contract_with_sealed_columns_is_not_written_without_a_key() {
    let (contract, change) = small();
    let error = Encoder::new(Arc::clone(&contract), 1, 2).encode(&change, 77).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.to_string().contains("no key to seal by"), "{error}");
    let open =
        Contract::parse(&contract.to_avsc().replacen("\"sealed\": true", "\"x\": true", 1)).unwrap().shared();
    let change = Change { contract: Arc::clone(&open), ..change };
    assert!(Encoder::new(open, 1, 2).encode(&change, 77).is_err());
}

#[test]
fn i5_a_column_that_is_not_wanted_stays_unknown_and_a_key_that_does_not_open_is_said() {
    let (contract, records, encoded) = encoded();
    let (body, key) = parts(&encoded);
    let fields = ["id", "name"].map(str::to_owned);
    let mut narrow = plan(&contract, unseal(&records, &fields));
    let Decoded::Change(change) = narrow.decode_keyed(&body, 9, &key).unwrap() else { panic!("a change") };
    let row = change.after.unwrap();
    assert_eq!((row[1].as_text(), row[2].is_unknown()), (Some("欧阳"), true));
    let mut shut = plan(&contract, None);
    let error = shut.decode_keyed(&body, 9, &key).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    let mut keyless = plan(&contract, unseal(&[], &all(&contract)));
    let error = keyless.decode_keyed(&body, 9, &key).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("epoch 1"), "{error}");
}

#[test]
fn a_value_in_another_record_is_an_error_that_names_column_and_position() {
    let (contract, records, encoded) = encoded();
    let (body, key) = parts(&encoded);
    let mut plan = plan(&contract, unseal(&records, &all(&contract)));
    let mut other = key.to_vec();
    other[5] ^= 1;
    let error = plan.decode_keyed(&body, 9, &other).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    let position = hutong_core::Position::wal(0, 7, 0, 0).to_string();
    let told = error.to_string();
    assert!(told.contains("`id`") && told.contains(&position) && told.contains("another place"), "{told}");
}

#[test]
fn i6_sealed_and_clear_are_two_schemas_that_are_not_read_as_each_other() {
    let clear = any_change::contract();
    for (writer, reader) in [(&contract(false), &clear), (&clear, &contract(false))] {
        let error = Plan::compile(&schemas(writer, TOPIC).value, reader).unwrap_err();
        assert_eq!(error.kind, ErrorKind::SchemaConflict);
        assert!(error.to_string().contains("sealed"), "{error}");
    }
}
