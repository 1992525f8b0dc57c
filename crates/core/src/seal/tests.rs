//! What sealing must hold: values open in their place only, nonces never come twice, keys reach whom they are for.

use std::collections::HashSet;

use proptest::prelude::*;

use super::cell::{Cell, Fault, Image, Nonces, Opener, Sealer};
use super::ring::{Reader, Ring, opener};
use super::wrap::Wrapped;
use super::{Custody, Key, PrivateKey, PublicKey};
use crate::error::{ErrorKind, Result};

const TOPIC: &str = "gongan.population_base.v1";

fn private(byte: u8) -> PrivateKey {
    PrivateKey::new([byte; 32]).unwrap()
}

/// Draws keys that can be told apart.
fn counted() -> impl FnMut() -> Result<Key> {
    let mut number = 0;
    move || {
        number += 1;
        Ok(Key::new([number; 32]))
    }
}

fn reader(grant: &str, key: &PrivateKey, fields: &[&str]) -> Reader {
    let fields = fields.iter().map(|field| (*field).to_owned()).collect();
    Reader { grant: grant.into(), to: key.public(), fields }
}

fn cell<'a>(record_key: &'a [u8], position: &'a str, image: Image, field: &'a str) -> Cell<'a> {
    Cell { record_key, position, image, field }
}

fn owners_opener(records: &[Wrapped], owner: &PrivateKey, fields: &[&str]) -> Opener {
    let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
    opener(TOPIC, records, owner, &owner.public(), None, &fields).unwrap()
}

/// Begins a topic for some readers; returns its records and a sealer of its first opening.
fn begun(owner: &PrivateKey, readers: &[Reader]) -> (Vec<Wrapped>, Sealer) {
    let mut ring = Ring::of(TOPIC, &[], owner);
    let (epoch, records) = ring.begin(None, readers, owner, counted()).unwrap();
    (records, ring.sealer(epoch, &Nonces::new(1)).unwrap())
}

#[test]
fn a_value_opens_in_its_own_place_and_in_no_other() {
    let owner = private(1);
    let (records, mut sealer) = begun(&owner, &[]);
    let place = cell(b"key", "0001", Image::After, "xm");
    let sealed = sealer.seal(&place, "张三".as_bytes()).unwrap();
    assert!(!sealed.windows(3).any(|part| part == "张".as_bytes()));
    let opener = owners_opener(&records, &owner, &["xm", "lxdh"]);
    assert_eq!(opener.open(&place, &sealed).unwrap(), "张三".as_bytes());
    for other in [
        cell(b"other", "0001", Image::After, "xm"),
        cell(b"key", "0002", Image::After, "xm"),
        cell(b"key", "0001", Image::Before, "xm"),
        cell(b"key", "0001", Image::After, "lxdh"),
    ] {
        assert_eq!(opener.open(&other, &sealed), Err(Fault::Tampered), "{other:?}");
    }
    // A column that is not asked for has no key, and another topic opens nothing.
    let narrow = owners_opener(&records, &owner, &["lxdh"]);
    assert_eq!(narrow.open(&place, &sealed), Err(Fault::NoKey(1)));
    assert!(super::ring::opener("b.c.v1", &records, &owner, &owner.public(), None, &[]).unwrap().is_empty());
}

#[test]
fn every_changed_byte_is_found_and_hostile_bytes_open_nothing() {
    let owner = private(1);
    let (records, mut sealer) = begun(&owner, &[]);
    let place = cell(b"key", "0001", Image::After, "xm");
    let sealed = sealer.seal(&place, b"value").unwrap();
    let opener = owners_opener(&records, &owner, &["xm"]);
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        let wanted = match at {
            0 => Fault::Form,
            1..5 => Fault::NoKey(u32::from_be_bytes(changed[1..5].try_into().unwrap())),
            _ => Fault::Tampered,
        };
        assert_eq!(opener.open(&place, &changed), Err(wanted), "byte {at}");
    }
    for end in 0..sealed.len() {
        assert!(opener.open(&place, &sealed[..end]).is_err(), "{end} bytes");
    }
}

#[test]
fn no_nonce_comes_twice_over_sealers_of_one_opening_and_over_openings() {
    let owner = private(1);
    let mut ring = Ring::of(TOPIC, &[], &owner);
    let (epoch, _) = ring.begin(None, &[], &owner, counted()).unwrap();
    let mut seen = HashSet::new();
    for opening in 1..4 {
        // A contract that is prepared again makes another sealer of the same opening.
        let nonces = Nonces::new(opening);
        for _ in 0..2 {
            let mut sealer = ring.sealer(epoch, &nonces).unwrap();
            for _ in 0..50 {
                let sealed = sealer.seal(&cell(b"k", "p", Image::After, "xm"), b"same").unwrap();
                assert!(seen.insert(sealed[5..17].to_vec()), "the nonce {:?} comes twice", &sealed[5..17]);
            }
        }
    }
    assert_eq!(seen.len(), 300);
}

#[test]
fn i5_a_grant_opens_its_own_columns_and_a_stranger_none() {
    let (owner, renshe, stranger) = (private(1), private(2), private(3));
    let (records, mut sealer) = begun(&owner, &[reader("renshe_population", &renshe, &["xm"])]);
    let sealed =
        |sealer: &mut Sealer, field| sealer.seal(&cell(b"k", "p", Image::After, field), b"v").unwrap();
    let (name, phone) = (sealed(&mut sealer, "xm"), sealed(&mut sealer, "lxdh"));
    let fields = ["xm".to_owned(), "lxdh".to_owned()];
    let open =
        |own: &PrivateKey, by: &PublicKey, grant| opener(TOPIC, &records, own, by, grant, &fields).unwrap();
    let granted = open(&renshe, &owner.public(), Some("renshe_population"));
    assert_eq!(granted.open(&cell(b"k", "p", Image::After, "xm"), &name).unwrap(), b"v");
    assert_eq!(granted.open(&cell(b"k", "p", Image::After, "lxdh"), &phone), Err(Fault::NoKey(1)));
    for (own, by, grant) in [
        (&stranger, owner.public(), Some("renshe_population")),
        (&renshe, owner.public(), Some("another")),
        (&renshe, owner.public(), None),
        // A key that somebody else has wrapped does not count.
        (&renshe, stranger.public(), Some("renshe_population")),
    ] {
        assert!(open(own, &by, grant).is_empty());
    }
}

#[test]
fn a_forged_or_changed_record_of_keys_opens_nothing() {
    let (owner, stranger) = (private(1), private(3));
    let (records, _) = begun(&owner, &[]);
    // The stranger wraps a key of its own and says that the owner did.
    let (forged, _) = begun(&stranger, &[]);
    let claims: Vec<Wrapped> = forged
        .into_iter()
        .map(|record| Wrapped { by: owner.public(), to: owner.public(), ..record })
        .collect();
    assert!(owners_opener(&claims, &owner, &["xm"]).is_empty());
    let mut moved = records.clone();
    moved.iter_mut().for_each(|record| record.epoch += 1);
    assert!(owners_opener(&moved, &owner, &["xm"]).is_empty());
    assert!(!owners_opener(&records, &owner, &["xm"]).is_empty());
    // So a capture that meets only such records begins anew, and never seals under a stranger's key.
    let mut ring = Ring::of(TOPIC, &claims, &owner);
    assert_eq!(ring.begin(None, &[], &owner, counted()).unwrap().1.len(), 2);
}

#[test]
fn i7_the_same_epoch_goes_on_while_its_nonces_are_known_and_a_new_one_begins_when_they_are_not() {
    let owner = private(1);
    let (records, mut first) = begun(&owner, &[]);
    let mut again = Ring::of(TOPIC, &records, &owner);
    assert_eq!(again.begin(Some(1), &[], &owner, counted()).unwrap(), (1, Vec::new()));
    let second = again.sealer(1, &Nonces::new(2)).unwrap();
    assert_eq!(first.record_key(b"k").unwrap(), second.record_key(b"k").unwrap());
    // A checkpoint that was lost says nothing of the nonces.
    let mut lost = Ring::of(TOPIC, &records, &owner);
    let (epoch, more) = lost.begin(None, &[], &owner, || Ok(Key::new([9; 32]))).unwrap();
    assert_eq!((epoch, more.len()), (2, 1));
    let third = lost.sealer(2, &Nonces::new(1)).unwrap();
    assert_eq!(
        first.record_key(b"k").unwrap(),
        third.record_key(b"k").unwrap(),
        "rows stay in their partitions"
    );
    let all: Vec<Wrapped> = records.iter().chain(&more).cloned().collect();
    let place = cell(b"k", "p", Image::After, "xm");
    let sealed = first.seal(&place, b"old").unwrap();
    assert_eq!(owners_opener(&all, &owner, &["xm"]).open(&place, &sealed).unwrap(), b"old");
}

#[test]
fn a_capture_whose_keys_are_gone_stops_instead_of_moving_rows() {
    let (owner, another) = (private(1), private(4));
    let (records, _) = begun(&owner, &[]);
    for (records, own) in [(&[][..], &owner), (&records[..], &another), (&records[..1], &owner)] {
        let mut ring = Ring::of(TOPIC, records, own);
        let error = ring.begin(Some(1), &[], own, counted()).unwrap_err();
        assert_eq!((error.kind, error.hint.is_some()), (ErrorKind::Denied, true), "{error}");
        let named = error.to_string().contains(&owner.public().to_string());
        assert!(named || records.is_empty(), "the key that would open them: {error}");
    }
    // The key of the record keys alone is gone.
    let mut ring = Ring::of(TOPIC, &records[1..], &owner);
    assert!(ring.begin(Some(1), &[], &owner, counted()).unwrap_err().to_string().contains("record keys"));
}

#[test]
fn i5_a_revocation_begins_an_epoch_that_the_revoked_cannot_open_and_a_new_grant_gets_all_epochs() {
    let (owner, renshe, weijian) = (private(1), private(2), private(5));
    let (a, b) = (reader("a", &renshe, &["xm", "lxdh"]), reader("b", &weijian, &["xm"]));
    let mut records = begun(&owner, &[a.clone(), b.clone()]).0;
    let mut at = Some(1);
    for (readers, epoch, written) in [
        (vec![a.clone(), b.clone()], 1, 0),
        // `a` is there no more: the owner's key and that of `b` in the new epoch.
        (vec![b.clone()], 2, 2),
        (vec![b.clone()], 2, 0),
        // Back again: it fills from the base, so it gets both epochs; it still holds the first.
        (vec![a.clone(), b.clone()], 2, 1),
        // Fewer columns.
        (vec![reader("a", &renshe, &["xm"]), b.clone()], 3, 3),
        // Another key of the same department: in all epochs, and the old one opens no later record.
        (vec![reader("a", &weijian, &["xm"]), b.clone()], 4, 6),
    ] {
        let mut ring = Ring::of(TOPIC, &records, &owner);
        let mut byte = 100 + epoch as u8;
        let fresh = || {
            byte += 1;
            Ok(Key::new([byte; 32]))
        };
        let (found, more) = ring.begin(at, &readers, &owner, fresh).unwrap();
        assert_eq!((found, more.len()), (epoch, written), "{readers:?}: {more:?}");
        records.extend(more);
        at = Some(found);
    }
    let fields = ["xm".to_owned(), "lxdh".to_owned()];
    let of = |own, grant| opener(TOPIC, &records, own, &owner.public(), Some(grant), &fields).unwrap();
    assert_eq!(format!("{:?}", of(&renshe, "a")), format!("Opener({TOPIC}, 3 epochs)"));
    assert_eq!(format!("{:?}", of(&weijian, "b")), format!("Opener({TOPIC}, 4 epochs)"));
}

#[test]
fn keys_are_texts_and_their_secrets_are_not_printed() {
    let key = private(7);
    let text = key.public().to_string();
    assert_eq!(PublicKey::parse(&text).unwrap(), key.public());
    assert_eq!(PrivateKey::parse(&key.reveal()).unwrap().public(), key.public());
    assert_eq!(format!("{key:?} {:?}", Key::new([7; 32])), "*** ***");
    for text in ["", "x25519:", "ed25519:00", &text[..60], "x25519:zz"] {
        assert_eq!(PublicKey::parse(text).unwrap_err().kind, ErrorKind::Malformed, "{text}");
    }
    for text in ["", "hutong-sealing-key x25519 00", "hutong-private-key ed25519 00"] {
        assert_eq!(PrivateKey::parse(text).unwrap_err().kind, ErrorKind::Denied, "{text}");
    }
    // RFC 7748, section 5.2, the first test vector.
    let scalar = "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4";
    let scalar = PrivateKey::parse(&format!("hutong-sealing-key x25519 {scalar}")).unwrap();
    let point = "x25519:e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c";
    let product = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552";
    let product = crate::hexadecimal::read(product).unwrap().try_into().unwrap();
    assert_eq!(scalar.agree(&PublicKey::parse(point).unwrap()).unwrap(), Key::new(product));
    let small = PublicKey::parse(&format!("x25519:{}", "0".repeat(64))).unwrap();
    assert_eq!(key.agree(&small).unwrap_err().kind, ErrorKind::Denied, "a point of small order");
}

proptest! {
    #[test]
    fn hostile_records_of_keys_are_passed_over(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(Wrapped::decode(&bytes), None);
    }

    #[test]
    fn a_record_of_keys_comes_back_whole(epoch in 1u32.., fields in proptest::collection::vec("[a-z]{1,8}", 1..5)) {
        let (owner, renshe) = (private(1), private(2));
        let grant = Some(("g", fields.as_slice()));
        let record = Wrapped::make((TOPIC, epoch), &Key::new([3; 32]), &owner, &renshe.public(), grant).unwrap();
        let again = Wrapped::decode(&record.encode()).unwrap();
        prop_assert_eq!(&again, &record);
        prop_assert_eq!(again.open(&renshe), again.open(&owner));
        prop_assert_eq!(again.open(&renshe).unwrap().len(), fields.len());
        prop_assert_eq!(again.open(&private(3)), None);
    }
}
