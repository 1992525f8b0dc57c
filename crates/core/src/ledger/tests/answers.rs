//! What an owner may answer to, and what an answer comes to.

use super::*;

#[test]
fn what_was_asked_before_is_known_from_what_is_asked_now() {
    let mut scene = Scene::new();
    let before = scene.request("population");
    let other = scene.request("notices");
    let now = scene.request("population");
    let is_asked_again =
        |scene: &Scene, of: &Digest| scene.book.is_asked_again(scene.book.request(of).unwrap());
    assert!(is_asked_again(&scene, &before));
    assert!(
        !is_asked_again(&scene, &now) && !is_asked_again(&scene, &other),
        "another stream's is another one"
    );
    scene.taken("gongan", approve(now));
    assert_eq!(scene.granted().request, now);
    // What an owner signs counts, as it always has.
    scene.taken("gongan", approve(before));
    assert_eq!(scene.granted().request, before);
}

#[test]
fn an_answer_is_no_older_than_what_it_answers() {
    let mut scene = Scene::new();
    for act in [approve, |request| Act::Rejected { request, reason: "x".into() }] {
        scene.at_us = 1_000;
        let asked = scene.request("population");
        scene.at_us = 10;
        scene.taken("gongan", act(asked));
        let answer = scene.book.request(&asked).unwrap().answer.clone();
        let (Some(Answer::Approved { at_us }) | Some(Answer::Rejected { at_us, .. })) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(at_us, 1_001);
    }
}

#[test]
fn i5_an_answer_that_grants_more_than_was_asked_for_is_refused() {
    let mut scene = Scene::new();
    let asked = scene.request("population");
    let wider = Act::Approved { request: asked, narrower: Some(terms(&["id", "name", "phone", "state"])) };
    assert_eq!(scene.skipped("gongan", wider).0, "refused");
    let narrower = Act::Approved { request: asked, narrower: Some(terms(&["id"])) };
    scene.taken("gongan", narrower);
    assert_eq!(scene.granted().terms.columns, ["id"]);
    let wider = Act::Widened { grant: asked, terms: terms(&["id", "state"]) };
    assert_eq!(scene.skipped("gongan", wider).0, "refused");
    let wider = Act::Narrowed { grant: asked, terms: terms(&["id", "name"]) };
    assert_eq!(scene.skipped("gongan", wider).0, "refused");
}

#[test]
fn i5_an_old_approval_is_void_after_a_revocation() {
    let mut scene = Scene::new();
    let asked = scene.request("population");
    let approval = scene.signed("gongan", approve(asked));
    scene.append(approval.clone());
    scene.taken("gongan", Act::Revoked { grant: asked, recall: false, reason: "x".into() });
    assert_eq!(scene.skips(approval).0, "replay");
    // Nor is it of use for the next request.
    let again = scene.request("population");
    assert!(scene.book.request(&again).unwrap().answer.is_none());
    assert!(matches!(scene.granted().state, State::Revoked { .. }));
}
