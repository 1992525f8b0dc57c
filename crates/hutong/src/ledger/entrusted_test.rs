//! Who is given keys: nobody under a grant that does not flow, that hides the column, or that nobody has verified.

use std::time::Duration;

use hutong_core::ledger::{Act, Digest, Head, Request};
use hutong_core::seal::{Custody, PrivateKey, PublicKey};
use hutong_core::{Class, ErrorKind};
use jiff::tz::TimeZone;

use super::super::asked;
use super::super::tests::{HOUR, Scene};
use super::*;

fn public() -> PublicKey {
    PrivateKey::new([7; 32]).unwrap().public()
}

/// What the capture goes by: `number` is sealed.
fn capture(scene: &Scene) -> Asked {
    let mut stream = (*scene.plan.subscriptions[0].stream).clone();
    let mut contract = (*stream.contract).clone();
    contract.fields[1].sealed = true;
    stream.contract = contract.shared();
    let public = BTreeMap::from([("renshe".to_owned(), public())]);
    Asked { streams: vec![Arc::new(stream)], public, zone: TimeZone::UTC }
}

/// Returns who may open what, as text.
fn may(ledger: &Ledger, asked: &Asked) -> Vec<String> {
    let entrusted = ledger.entrusted(asked).unwrap();
    assert!(ledger.still(&entrusted) || !entrusted.is_verified());
    let readers = entrusted.readers.into_values().flatten();
    readers.map(|reader| format!("{} {}", reader.grant, reader.fields.join(","))).collect()
}

/// The request of a grant that gives the sealed column in clear.
fn clear(scene: &Scene, name: &str) -> Request {
    let mut request = asked(&scene.plan.subscriptions[0]);
    request.subscription = name.into();
    request.terms.masks.clear();
    request
}

#[tokio::test]
async fn i5_keys_are_wrapped_for_grants_that_flow_and_give_the_column_in_every_row_and_unmasked() {
    let mut scene = Scene::new().await;
    let (ledger, asked) = (scene.ledger(HOUR), capture(&scene));
    let error = ledger.entrusted(&asked).err().unwrap();
    assert_eq!((error.kind, error.class()), (ErrorKind::Unavailable, Class::Retry), "{error}");
    ledger.catch_up().await.unwrap();
    assert_eq!(may(&ledger, &asked), [""; 0], "it is masked");

    // Asked for is not granted; what another configuration carries is.
    let grant = scene.says("renshe", Act::Requested(clear(&scene, "apart"))).await;
    ledger.catch_up().await.unwrap();
    assert_eq!(may(&ledger, &asked), [""; 0]);
    let before = ledger.entrusted(&asked).unwrap();
    scene.says("gongan", Act::Approved { request: grant, narrower: None }).await;
    ledger.catch_up().await.unwrap();
    assert!(!ledger.still(&before), "the ledger says something else");
    assert_eq!(may(&ledger, &asked), ["apart number"]);
    let nameless = Asked { public: BTreeMap::new(), ..capture(&scene) };
    assert_eq!(may(&ledger, &nameless), [""; 0], "nobody wraps for a key that nobody has named");

    let terms = clear(&scene, "apart").terms;
    let mut some = terms.clone();
    some.rows = vec!["id > 5".into()];
    for (act, who) in [
        (Act::Suspended { grant, reason: "x".into() }, None),
        (Act::Resumed { grant }, Some("apart number")),
        (Act::Narrowed { grant, terms: some }, None),
        (Act::Widened { grant, terms: terms.clone() }, Some("apart number")),
        (Act::Withdrawn { stream: "entry".into() }, None),
    ] {
        scene.says("gongan", act.clone()).await;
        ledger.catch_up().await.unwrap();
        assert_eq!(may(&ledger, &asked), who.as_slice(), "{act:?}");
    }
}

#[tokio::test]
async fn i5_nobody_is_given_keys_after_the_last_day_or_by_a_ledger_that_is_not_verified() {
    let mut scene = Scene::new().await;
    let request = clear(&scene, "apart");
    let mut over = request.clone();
    over.subscription = "over".into();
    over.terms.until = Some("2020-01-01".parse().unwrap());
    let mut topic = request.clone();
    (topic.subscription, topic.into) = ("topic".into(), INTO_TOPIC.into());
    for request in [request, over, topic] {
        let request = scene.says("renshe", Act::Requested(request)).await;
        scene.says("gongan", Act::Approved { request, narrower: None }).await;
    }
    let (ledger, asked) = (scene.ledger(HOUR), capture(&scene));
    ledger.catch_up().await.unwrap();
    assert_eq!(may(&ledger, &asked), ["apart number"]);
    let mut ending = ledger.entrusted(&asked).unwrap();
    assert!(ending.ends_us.is_some_and(|ends_us| ends_us > now_us()), "it will be asked again at the end");
    ending.ends_us = Some(now_us());
    assert!(!ledger.still(&ending));

    let impatient = scene.ledger(Duration::ZERO);
    impatient.catch_up().await.unwrap();
    assert!(!impatient.entrusted(&asked).unwrap().is_verified());
    assert_eq!(may(&impatient, &asked), [""; 0]);
    let other = Head { sequence: 2, digest: Digest::of(b"another history") };
    ledger.remembered("renshe", "replicate.apart.0", other).await.unwrap_err();
    assert_eq!(may(&ledger, &asked), [""; 0], "its own store contradicts the ledger");
}
