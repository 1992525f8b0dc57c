//! Forged, reordered, dropped, replayed, rewritten, cut, by the wrong department, and rubbish.

mod answers;

use jiff::civil::date;

use super::*;
use crate::contract::Contract;
use crate::error::ErrorKind;

fn key(seed: u8) -> PrivateKey {
    PrivateKey::new([seed; 32])
}

/// The departments of the tests and the seeds of their keys.
const DEPARTMENTS: [(&str, u8); 4] = [("shuju", 1), ("gongan", 2), ("renshe", 3), ("minzheng", 4)];

fn charter() -> Charter {
    Charter { id: "test".into(), governing: "shuju".into(), key: key(1).public() }
}

/// A log and the book of it.
struct Scene {
    records: Vec<Vec<u8>>,
    book: Book,
    at_us: i64,
}

impl Scene {
    /// Everybody has joined, and `gongan` offers `population` conditionally and `notices` unconditionally.
    fn new() -> Self {
        let mut scene = Self { records: Vec::new(), book: Book::new(charter()), at_us: 0 };
        for (department, seed) in &DEPARTMENTS[1..] {
            let key = key(*seed).public().to_string();
            scene.taken("shuju", Act::Joined { department: (*department).into(), key });
        }
        let conditional = Condition::Conditional("按需".into());
        for (stream, sharing) in [("population", conditional), ("notices", Condition::Unconditional)] {
            let columns = ["id", "name", "phone", "state"].map(str::to_owned).to_vec();
            scene.taken("gongan", Act::Offered(Offer { stream: stream.into(), sharing, columns }));
        }
        scene
    }

    fn draft(&mut self, department: &str, act: Act) -> Entry {
        self.at_us += 1;
        Entry { department: department.into(), at_us: self.at_us, seen: self.book.head(), act }
    }

    fn signed(&mut self, department: &str, act: Act) -> Vec<u8> {
        let seed = DEPARTMENTS.iter().find(|(name, _)| *name == department).unwrap().1;
        self.draft(department, act).sign(&charter(), &key(seed))
    }

    fn append(&mut self, record: Vec<u8>) -> Taken {
        let taken = self.book.read(Some(&record)).unwrap();
        self.records.push(record);
        taken
    }

    /// Appends an entry that counts; returns its digest.
    fn taken(&mut self, department: &str, act: Act) -> Digest {
        let record = self.signed(department, act);
        match self.append(record) {
            Taken::Entry { digest, .. } => digest,
            Taken::Skipped(skipped) => panic!("{skipped}"),
        }
    }

    /// Appends an entry that does not count; returns the rule and the reason.
    fn skipped(&mut self, department: &str, act: Act) -> (&'static str, String) {
        let record = self.signed(department, act);
        self.skips(record)
    }

    fn skips(&mut self, record: Vec<u8>) -> (&'static str, String) {
        match self.append(record) {
            Taken::Skipped(skipped) => (skipped.rule, skipped.why),
            Taken::Entry { entry, .. } => panic!("{entry:?} counts"),
        }
    }

    fn request(&mut self, stream: &str) -> Digest {
        self.taken("renshe", Act::Requested(request(stream)))
    }

    fn granted(&self) -> &Granted {
        self.granted_of("population")
    }

    fn granted_of(&self, stream: &str) -> &Granted {
        self.book.granted("renshe", "pension", "gongan", stream).unwrap()
    }
}

fn terms(columns: &[&str]) -> Terms {
    Terms {
        columns: columns.iter().map(|c| (*c).into()).collect(),
        rows: vec!["state <> '注销'".into()],
        masks: [("phone".to_owned(), "phone".to_owned())].into(),
        until: Some(date(2027, 12, 31)),
    }
}

fn request(stream: &str) -> Request {
    Request {
        subscription: "pension".into(),
        owner: "gongan".into(),
        stream: stream.into(),
        purpose: "养老保险".into(),
        legal_basis: "社会保险法 第七十四条".into(),
        terms: terms(&["id", "name", "phone"]),
        into: "renshe share.population".into(),
    }
}

fn approve(request: Digest) -> Act {
    Act::Approved { request, narrower: None }
}

fn reread(records: &[Vec<u8>]) -> Book {
    let mut book = Book::new(charter());
    for record in records {
        book.read(Some(record)).unwrap();
    }
    book
}

#[test]
fn i5_a_grant_comes_of_a_request_and_its_owners_answer_and_changes_as_the_owner_says() {
    let mut scene = Scene::new();
    let asked = scene.request("population");
    assert!(scene.book.granted("renshe", "pension", "gongan", "population").is_none());

    scene.taken("gongan", approve(asked));
    let first = scene.granted().clone();
    assert_eq!((&first.state, &first.terms), (&State::Active, &terms(&["id", "name", "phone"])));

    scene.taken("gongan", Act::Suspended { grant: asked, reason: "核查".into() });
    assert_eq!(scene.granted().state, State::Suspended("核查".into()));
    scene.taken("gongan", Act::Resumed { grant: asked });
    // Its terms are those of before: the number stays, and nothing is filled anew.
    assert_eq!((scene.granted().number, &scene.granted().state), (first.number, &State::Active));

    scene.taken("gongan", Act::Narrowed { grant: asked, terms: terms(&["id", "name"]) });
    assert!(scene.granted().number > first.number);
    assert_eq!(scene.granted().terms.columns, ["id", "name"]);
    scene.taken("gongan", Act::Widened { grant: asked, terms: terms(&["id", "name", "phone"]) });

    scene.taken("gongan", Act::Revoked { grant: asked, recall: false, reason: "到期".into() });
    scene.taken("gongan", Act::Revoked { grant: asked, recall: true, reason: "收回".into() });
    assert_eq!(scene.granted().state, State::Revoked { recall: true, reason: "收回".into() });
    assert_eq!(scene.skipped("gongan", Act::Resumed { grant: asked }).0, "refused");
    assert_eq!(scene.book.skipped_counts().get("refused"), Some(&1));
}

#[test]
fn i5_terms_are_narrower_only_when_it_is_seen() {
    let wide = terms(&["id", "name", "phone"]);
    let more = |change: fn(&mut Terms)| {
        let mut terms = wide.clone();
        change(&mut terms);
        terms.exceed(&wide)
    };
    type Change = fn(&mut Terms);
    let narrower: [Change; 5] = [
        |_| {},
        |t| t.columns.truncate(1),
        |t| t.rows.push("id > '1'".into()),
        |t| t.until = Some(date(2026, 12, 31)),
        |t| drop(t.masks.insert("name".into(), "name".into())),
    ];
    for change in narrower {
        assert_eq!(more(change), None);
    }
    let wider: [Change; 6] = [
        |t| t.columns.push("state".into()),
        |t| t.rows.clear(),
        |t| t.rows = vec!["state <> '注销' OR 1 = 1".into()],
        |t| t.until = None,
        |t| t.masks.clear(),
        |t| drop(t.masks.insert("phone".into(), "band".into())),
    ];
    for (at, change) in wider.into_iter().enumerate() {
        assert!(more(change).is_some(), "{at}");
    }
}

#[test]
fn i5_what_two_grants_give_away_together_is_found_whichever_was_first() {
    let contract = r#"{"type":"record","name":"population","key":["id"],"sharing":"unconditional","fields":[
        {"name":"id","type":"long"},{"name":"gmsfhm","type":["null","string"]},
        {"name":"csrq","title":"出生日期","type":["null",{"type":"int","logicalType":"date"}]}]}"#;
    let contract = Contract::parse(contract).unwrap();
    let of = |columns: &[&str], masks: &[(&str, &str)]| Terms {
        masks: masks.iter().map(|(column, mask)| ((*column).into(), (*mask).into())).collect(),
        ..terms(columns)
    };
    let number = of(&["id", "gmsfhm"], &[("gmsfhm", "id")]);
    let birth = of(&["id", "csrq"], &[]);
    let same = |a: &Terms, b: &Terms| a.together(b, [Some(&contract); 2], true).unwrap();
    let found = |of_these| Completed { number: "gmsfhm".into(), birth: "csrq".into(), of_these };
    assert_eq!(same(&number, &birth), [found(true)]);
    assert_eq!(same(&birth, &number), [found(false)]);
    let year = of(&["id", "csrq"], &[("csrq", "year")]);
    assert!(same(&number, &year).is_empty());
    // What one of them holds in clear is no secret to keep; a column of another stream is another number.
    let both = of(&["id", "gmsfhm", "csrq"], &[]);
    assert!(same(&number, &both).is_empty());
    assert_eq!(number.together(&both, [Some(&contract); 2], false).unwrap(), [found(true)]);
    // Of a stream that nobody here has the contract of, the names say it.
    let deaths = of(&["cert_no", "birth"], &[]);
    let found = |other: Terms| number.together(&other, [Some(&contract), None], false).unwrap();
    assert_eq!(found(deaths), [Completed { number: "gmsfhm".into(), birth: "birth".into(), of_these: true }]);
    assert!(found(of(&["cert_no", "birth"], &[("birth", "year")])).is_empty());
    assert!(found(of(&["cert_no", "estdate"], &[])).is_empty());
}

#[test]
fn i5_an_unconditional_stream_is_granted_at_once_but_not_around_its_owner() {
    let mut scene = Scene::new();
    let asked = scene.request("notices");
    assert_eq!(scene.granted_of("notices").state, State::Active);
    scene.taken("gongan", Act::Suspended { grant: asked, reason: "核查".into() });
    let again = scene.request("notices");
    assert_eq!(scene.granted_of("notices").state, State::Suspended("核查".into()));
    assert_eq!(scene.book.request(&again).unwrap().answer, None);
}

#[test]
fn i5_the_same_name_for_another_stream_takes_no_revocation_back() {
    let mut scene = Scene::new();
    let request = scene.request("population");
    scene.taken("gongan", Act::Approved { request, narrower: None });
    scene.taken("gongan", Act::Revoked { grant: request, recall: true, reason: "收回".into() });
    scene.request("notices");
    assert_eq!(scene.granted_of("notices").state, State::Active);
    assert_eq!(scene.granted().state, State::Revoked { recall: true, reason: "收回".into() });
}

#[test]
fn i5_a_withdrawn_stream_that_is_offered_again_gives_nothing_that_was_granted_before() {
    let mut scene = Scene::new();
    let request = scene.request("notices");
    scene.taken("gongan", Act::Withdrawn { stream: "notices".into() });
    let offer =
        Offer { stream: "notices".into(), sharing: Condition::Unconditional, columns: vec!["id".into()] };
    scene.taken("gongan", Act::Offered(offer));
    assert!(matches!(scene.granted_of("notices").state, State::Revoked { recall: false, .. }));
    // Its rows may still be called back.
    scene.taken("gongan", Act::Revoked { grant: request, recall: true, reason: "收回".into() });
}

#[test]
fn a_stream_that_is_not_shared_says_by_which_law() {
    let mut scene = Scene::new();
    let sharing = Condition::None("保守国家秘密法".into());
    let offer = Offer { stream: "secret".into(), sharing, columns: vec!["id".into()] };
    scene.taken("gongan", Act::Offered(offer));
    let (rule, why) = scene.skipped("renshe", Act::Requested(request("secret")));
    assert!(rule == "refused" && why.contains("保守国家秘密法"), "{why}");
    scene.taken("gongan", Act::Withdrawn { stream: "population".into() });
    assert_eq!(scene.skipped("renshe", Act::Requested(request("population"))).0, "refused");
    assert_eq!(scene.skipped("renshe", Act::Requested(request("nowhere"))).0, "refused");
}

#[test]
fn i5_a_forged_answer_counts_for_nothing() {
    let mut scene = Scene::new();
    let asked = scene.request("population");
    // Signed with a key that is not the owner's.
    let forged = scene.draft("gongan", approve(asked)).sign(&charter(), &key(9));
    assert_eq!(scene.skips(forged).0, "signature");
    // By somebody whom nobody knows.
    let stranger = scene.draft("stranger", approve(asked)).sign(&charter(), &key(9));
    assert_eq!(scene.skips(stranger).0, "unknown_department");
    // Of another ledger, whose departments have the same keys.
    let elsewhere = Charter { id: "elsewhere".into(), ..charter() };
    let elsewhere = scene.draft("gongan", approve(asked)).sign(&elsewhere, &key(2));
    assert_eq!(scene.skips(elsewhere).0, "signature");
    assert!(scene.book.granted("renshe", "pension", "gongan", "population").is_none());
}

#[test]
fn i5_no_byte_of_an_entry_can_be_another() {
    let mut scene = Scene::new();
    let asked = scene.request("population");
    let record = scene.signed("gongan", approve(asked));
    for at in 0..record.len() {
        let mut other = record.clone();
        other[at] ^= 1;
        let taken = scene.book.clone().read(Some(&other)).unwrap();
        assert!(matches!(taken, Taken::Skipped(_)), "byte {at}");
    }
    for end in 0..record.len() {
        let taken = scene.book.clone().read(Some(&record[..end])).unwrap();
        assert!(matches!(taken, Taken::Skipped(_)), "cut at {end}");
    }
    assert!(matches!(scene.append(record), Taken::Entry { .. }));
}

#[test]
fn i5_only_the_owner_answers_and_only_the_governing_department_names_members() {
    let mut scene = Scene::new();
    let asked = scene.request("population");
    for department in ["renshe", "minzheng", "shuju"] {
        assert_eq!(scene.skipped(department, approve(asked)).0, "wrong_department", "{department}");
    }
    let stranger = Act::Joined { department: "x".into(), key: key(9).public().to_string() };
    assert_eq!(scene.skipped("gongan", stranger).0, "wrong_department");
    scene.taken("gongan", approve(asked));
    let over = Act::Revoked { grant: asked, recall: true, reason: "x".into() };
    assert_eq!(scene.skipped("renshe", over).0, "wrong_department");
    assert_eq!(scene.granted().state, State::Active);
}

#[test]
fn i5_an_approval_before_its_request_counts_for_nothing_then_or_later() {
    let mut scene = Scene::new();
    let mut aside = Scene::new();
    let asked = aside.request("population");
    let approval = scene.signed("gongan", approve(asked));
    assert_eq!(scene.skips(approval.clone()).0, "refused");
    let request = aside.records.pop().unwrap();
    // What its signer had seen is still there.
    assert!(matches!(scene.append(request), Taken::Entry { .. }));
    assert_eq!(scene.skips(approval).0, "replay");
    assert!(scene.book.granted("renshe", "pension", "gongan", "population").is_none());
}

#[test]
fn a_department_that_changed_its_key_signs_with_the_new_one_only() {
    let mut scene = Scene::new();
    let asked = scene.request("population");
    let new = key(7).public().to_string();
    scene.taken("shuju", Act::Rekeyed { department: "gongan".into(), key: new });
    assert_eq!(scene.skipped("gongan", approve(asked)).0, "signature");
    let approval = scene.draft("gongan", approve(asked)).sign(&charter(), &key(7));
    assert!(matches!(scene.append(approval), Taken::Entry { .. }));
    let new = key(8).public().to_string();
    scene.taken("shuju", Act::Rekeyed { department: "shuju".into(), key: new });
    let joined = Act::Joined { department: "x".into(), key: key(9).public().to_string() };
    assert_eq!(scene.skipped("shuju", joined.clone()).0, "signature");
    let joined = scene.draft("shuju", joined).sign(&charter(), &key(8));
    assert!(matches!(scene.append(joined), Taken::Entry { .. }));
}

#[test]
fn rubbish_stops_nobody_and_is_counted() {
    let mut scene = Scene::new();
    let asked = scene.request("population");
    let long = vec![0; RECORD_LIMIT_BYTES + 1];
    for rubbish in [&b""[..], b"x", b"hutong.ledger\0", b"hutong.ledger\0\0\x09\0\x06shuju", &long] {
        assert_eq!(scene.skips(rubbish.to_vec()).0, "malformed");
    }
    assert!(matches!(scene.book.read(None).unwrap(), Taken::Skipped(_)));
    assert_eq!(scene.book.skipped_counts().get("malformed"), Some(&6));
    assert!(scene.book.contradiction("gongan").is_none());
    scene.taken("gongan", approve(asked));
}

#[test]
fn a_newer_version_halts_what_its_signer_may_speak_of_and_an_unsigned_claim_is_rubbish() {
    let mut scene = Scene::new();
    let withdrawn = || Act::Withdrawn { stream: "population".into() };
    let mut claim = scene.signed("gongan", withdrawn());
    claim[15] = 4;
    assert_eq!(scene.skips(claim).0, "signature");
    assert_eq!(scene.book.stops("gongan"), None);
    // Of its own streams a department may have said that nothing flows any more; it stops nobody else.
    let newer = scene.draft("gongan", withdrawn()).sign_as(9, &charter(), &key(2));
    assert_eq!(scene.skips(newer).0, "newer_version");
    assert!(scene.book.stops("gongan").unwrap().contains("newer Hutong"));
    assert_eq!(scene.book.stops("minzheng"), None);
    let joined = || Act::Joined { department: "x".into(), key: "sm2:00".to_owned() };
    let not_its_turn = scene.signed("renshe", joined());
    assert_eq!(scene.skips(not_its_turn).0, "wrong_department");
    // The governing department speaks of everybody.
    let newer = scene.draft("shuju", withdrawn()).sign_as(9, &charter(), &key(1));
    let unknown = scene.signed("shuju", joined());
    for record in [newer, unknown] {
        let before = scene.book.head();
        let error = scene.book.read(Some(&record)).unwrap_err();
        assert_eq!((error.kind, scene.book.head()), (ErrorKind::Config, before));
    }
}

/// Returns what somebody who has remembered a head, and what the entries themselves, say of another history.
fn judged(records: &[Vec<u8>], remembered: Head) -> (bool, bool) {
    let book = reread(records);
    (book.check("this process", remembered).is_err(), book.contradiction("gongan").is_some())
}

#[test]
fn a_history_that_was_changed_contradicts_the_heads_that_were_pinned() {
    let mut scene = Scene::new();
    let asked = scene.request("population");
    scene.taken("gongan", approve(asked));
    scene.skips(b"rubbish".to_vec());
    scene.taken("gongan", Act::Suspended { grant: asked, reason: "x".into() });
    let (whole, head) = (scene.records.clone(), scene.book.head());
    assert_eq!(reread(&whole).head(), head);
    assert_eq!(judged(&whole, head), (false, false));

    // Cut: nobody but who remembers can tell.
    assert_eq!(judged(&whole[..whole.len() - 1], head), (true, false));
    // Dropped, one before the owner's last word, be it rubbish.
    let mut dropped = whole.clone();
    dropped.remove(whole.len() - 2);
    assert_eq!(judged(&dropped, head), (true, true));
    // In another order.
    let mut reordered = whole.clone();
    reordered.swap(whole.len() - 2, whole.len() - 3);
    assert_eq!(judged(&reordered, head), (true, true));
    // Rewritten.
    let mut rewritten = whole.clone();
    rewritten[whole.len() - 2] = b"other rubbish".to_vec();
    assert_eq!(judged(&rewritten, head), (true, true));
    // One more in between.
    let mut inserted = whole.clone();
    inserted.insert(whole.len() - 1, b"more".to_vec());
    assert_eq!(judged(&inserted, head), (true, false), "an entry may come after what its signer had seen");
}

#[test]
fn a_contradiction_of_somebody_else_stops_no_owner() {
    let mut scene = Scene::new();
    let mut entry = scene.draft("renshe", Act::Requested(request("population")));
    entry.seen.sequence += 7;
    let record = entry.sign(&charter(), &key(3));
    assert_eq!(scene.skips(record).0, "contradiction");
    assert!(scene.book.contradiction("gongan").is_none() && scene.book.contradiction("renshe").is_some());
    let mut entry = scene.draft("shuju", Act::Withdrawn { stream: "x".into() });
    entry.seen.digest = Digest::of(b"other");
    let record = entry.sign(&charter(), &key(1));
    assert_eq!(scene.skips(record).0, "contradiction");
    assert!(scene.book.contradiction("gongan").is_some(), "the governing department speaks for all");
}

#[test]
fn keys_and_heads_come_back_from_their_texts_and_a_private_key_is_never_printed() {
    let private = key(5);
    let text = private.reveal();
    assert_eq!(PrivateKey::parse(&text).unwrap().public(), private.public());
    assert_eq!(format!("{private:?}"), "***");
    let public = private.public().to_string();
    assert_eq!(PublicKey::parse(&public).unwrap(), private.public());
    for wrong in ["", "ed25519:", "ed25519:00", &public[8..], &format!("{public}0")] {
        assert!(PublicKey::parse(wrong).is_err(), "{wrong}");
    }
    // A key of small order would verify what nobody signed.
    let weak = format!("ed25519:01{}", "00".repeat(31));
    assert!(PublicKey::parse(&weak).is_err());
    assert!(PrivateKey::parse("hutong-private-key ed25519 00").is_err());
    let head = charter().genesis();
    assert_eq!(Head::parse(&head.to_string()), Some(head));
    assert_eq!(Head::parse("1:xyz"), None);
}
