//! What the lanes of a process go by: nothing that was not verified, or not for a while, or of another history.

use std::sync::Arc;
use std::time::Duration;

use hutong_bus::embedded::{Bus, Options};
use hutong_core::ErrorKind;
use hutong_core::ledger::{Act, Condition, Digest, Head, Offer, PrivateKey};

use super::follow::Word;
use super::{Ledger, Reading, asked};
use crate::config;
use crate::config::Plan;

const CONTRACT: &str = r#"{"type":"record","name":"entry","key":["id"],"sharing":"conditional","condition":"c",
    "fields":[{"name":"id","type":"long"},{"name":"number","type":["null","string"]},
        {"name":"csrq","title":"出生日期","type":["null",{"type":"int","logicalType":"date"}]}]}"#;

const CONFIGURATION: &str = r#"
[ledger]
governing = "gongan"
governing_key = "KEY"
[department.gongan]
[department.renshe]
[store.a.sqlite]
path = "a.db"
[store.b.sqlite]
path = "b.db"
[stream.entry]
owner = "gongan"
contract = "entry.avsc"
[capture.a]
from = "a"
tables = { entry = "entry" }
[subscription.pension]
department = "renshe"
stream = "entry"
purpose = "p"
legal_basis = "l"
until = 2099-12-31
columns = ["id", "number"]
mask = { number = "id" }
into = { store = "b", table = "entry" }
"#;

pub(super) struct Scene {
    pub(super) plan: Plan,
    pub(super) bus: Arc<Bus>,
    pub(super) writer: Reading,
    pub(super) folder: tempfile::TempDir,
}

/// One key for both departments: who may say what is the core's, and is tested there.
pub(super) fn key() -> PrivateKey {
    PrivateKey::new([3; 32])
}

impl Scene {
    /// A ledger in which `pension` is asked for and granted.
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = CONFIGURATION.replace("KEY", &key().public().to_string());
        std::fs::write(folder.path().join("hutong.toml"), text).unwrap();
        std::fs::write(folder.path().join("entry.avsc"), CONTRACT).unwrap();
        let plan = config::load(&folder.path().join("hutong.toml")).unwrap().plan;
        let bus = Bus::open(&folder.path().join("bus"), Options::default()).unwrap();
        let charter = plan.ledger.as_ref().unwrap().charter.clone();
        let writer = Reading::new(&plan.bus.name, charter, false);
        let mut scene = Self { plan, bus, writer, folder };
        let key = key().public().to_string();
        scene.says("gongan", Act::Joined { department: "renshe".into(), key }).await;
        let columns = ["id", "number", "csrq"].map(str::to_owned).to_vec();
        let sharing = Condition::Conditional("c".into());
        scene.says("gongan", Act::Offered(Offer { stream: "entry".into(), sharing, columns })).await;
        let request = asked(&scene.plan.subscriptions[0]);
        let request = scene.says("renshe", Act::Requested(request)).await;
        scene.says("gongan", Act::Approved { request, narrower: None }).await;
        scene
    }

    pub(super) async fn says(&mut self, department: &str, act: Act) -> Digest {
        let ends = (self.bus.as_ref() as _, self.bus.as_ref() as _);
        self.writer.append(ends, department, &key(), act).await.unwrap()
    }

    pub(super) fn ledger(&self, patience: Duration) -> Ledger {
        let mut plan = self.plan.ledger.clone().unwrap();
        plan.patience = patience;
        Ledger::new(&plan, &self.plan, Arc::clone(&self.bus) as _)
    }

    fn flows(&self, ledger: &Ledger) -> Result<u64, String> {
        match ledger.word(&self.plan.subscriptions[0]) {
            Word::Flows { number, .. } => Ok(number),
            Word::Held { why, .. } | Word::Recalled { why, .. } => Err(why),
        }
    }
}

pub(super) const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn i5_nothing_flows_before_the_ledger_was_read_or_longer_than_patience_lasts() {
    let scene = Scene::new().await;
    let ledger = scene.ledger(HOUR);
    assert!(scene.flows(&ledger).unwrap_err().contains("was not read yet"));
    ledger.catch_up().await.unwrap();
    assert_eq!(scene.flows(&ledger), Ok(4));
    let impatient = scene.ledger(Duration::ZERO);
    impatient.catch_up().await.unwrap();
    assert!(scene.flows(&impatient).unwrap_err().contains("was not reached"));
}

#[tokio::test]
async fn i5_a_commit_is_permitted_only_under_the_grant_that_stands() {
    let mut scene = Scene::new().await;
    let ledger = scene.ledger(HOUR);
    ledger.catch_up().await.unwrap();
    let subscription = scene.plan.subscriptions[0].clone();
    ledger.permits(&subscription, 4).unwrap();
    let elsewhere = config::plan::SubscriptionPlan {
        into: config::plan::Target::Topic,
        ..scene.plan.subscriptions[0].clone()
    };
    let error = ledger.permits(&elsewhere, 4).unwrap_err().to_string();
    assert!(error.contains("it is granted into"), "{error}");
    let granted = scene.writer.book.granted("renshe", "pension", "gongan", "entry").unwrap().clone();
    let mut terms = granted.terms.clone();
    terms.columns.truncate(1);
    terms.masks.clear();
    scene.says("gongan", Act::Narrowed { grant: granted.request, terms }).await;
    ledger.catch_up().await.unwrap();
    assert_eq!(ledger.permits(&subscription, 4).unwrap_err().kind, ErrorKind::Denied);
    ledger.permits(&subscription, 5).unwrap();
    scene.says("gongan", Act::Withdrawn { stream: "entry".into() }).await;
    ledger.catch_up().await.unwrap();
    assert!(ledger.permits(&subscription, 5).unwrap_err().to_string().contains("withdrawn"));
    let recall = Act::Revoked { grant: granted.request, recall: true, reason: "x".into() };
    scene.says("gongan", recall).await;
    ledger.catch_up().await.unwrap();
    assert!(matches!(ledger.word(&subscription), Word::Recalled { .. }), "a withdrawn offer hides no recall");
    // Another department's file may use the same name: it is not its grant.
    let other = config::plan::SubscriptionPlan { department: "gongan".into(), ..subscription };
    assert!(ledger.permits(&other, 5).unwrap_err().to_string().contains("no request"));
}

/// Returns the subscription over a contract that somebody has changed since.
fn relabelled(
    subscription: &config::plan::SubscriptionPlan,
    change: impl FnOnce(&mut hutong_core::Contract),
) -> config::plan::SubscriptionPlan {
    let mut stream = (*subscription.stream).clone();
    let mut contract = (*stream.contract).clone();
    change(&mut contract);
    stream.contract = contract.shared();
    config::plan::SubscriptionPlan { stream: Arc::new(stream), ..subscription.clone() }
}

#[tokio::test]
async fn i5_what_the_contract_masks_or_withholds_does_not_flow_because_somebody_has_asked() {
    let mut scene = Scene::new().await;
    let ledger = scene.ledger(HOUR);
    ledger.catch_up().await.unwrap();
    let subscription = scene.plan.subscriptions[0].clone();
    let masked = relabelled(&subscription, |contract| contract.fields[0].mask = Some("pseudonym".into()));
    ledger.permits(&masked, 4).unwrap();
    let withheld = relabelled(&subscription, |contract| {
        contract.fields[0].catalogue.insert("sharing".into(), "none".into());
    });
    assert!(ledger.permits(&withheld, 4).unwrap_err().to_string().contains("is not shared"));

    // Granted at once, without a word of the owner.
    let columns = ["id", "number", "csrq"].map(str::to_owned).to_vec();
    let open = Offer { stream: "entry".into(), sharing: Condition::Unconditional, columns };
    scene.says("gongan", Act::Changed(open.clone())).await;
    scene.says("renshe", Act::Requested(asked(&subscription))).await;
    ledger.catch_up().await.unwrap();
    ledger.permits(&subscription, 6).unwrap();
    assert!(ledger.permits(&masked, 6).unwrap_err().to_string().contains("the contract masks"));
    scene.says("gongan", Act::Changed(Offer { columns: vec!["id".into()], ..open })).await;
    ledger.catch_up().await.unwrap();
    assert!(ledger.permits(&subscription, 6).unwrap_err().to_string().contains("not offered any more"));
}

#[tokio::test]
async fn i5_a_remembered_head_is_looked_for_in_what_is_new_before_it_contradicts_anything() {
    let scene = Scene::new().await;
    let ledger = scene.ledger(HOUR);
    // Another process has read further than this one, which has read nothing.
    ledger.remembered("renshe", "replicate.pension.0", scene.writer.book.head()).await.unwrap();
    assert_eq!(scene.flows(&ledger), Ok(4));
    let other = Head { sequence: 2, digest: Digest::of(b"another history") };
    // What another department's store says, it may have written there itself.
    let error = ledger.remembered("minzheng", "replicate.births.0", other).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Broken);
    assert_eq!(scene.flows(&ledger), Ok(4));
    ledger.permits(&scene.plan.subscriptions[0], 4).unwrap();
    ledger.remembered("renshe", "replicate.pension.1", other).await.unwrap_err();
    // For every lane into the department's stores, and until the process is started again.
    ledger.catch_up().await.unwrap();
    assert!(scene.flows(&ledger).unwrap_err().contains("rewritten"));
    assert!(!ledger.is_verified("renshe"), "what was permitted under this head is not any more");
}

#[tokio::test]
async fn i5_two_grants_that_give_away_more_together_wait_until_one_of_them_is_recalled() {
    let mut scene = Scene::new().await;
    // From another configuration of the same department, whose check cannot see both.
    let mut births = asked(&scene.plan.subscriptions[0]);
    births.subscription = "births".into();
    births.terms.columns = vec!["id".into(), "csrq".into()];
    births.terms.masks.clear();
    let plan = &scene.plan.subscriptions[0];
    let births_plan = config::plan::SubscriptionPlan { name: "births".into(), ..plan.clone() };
    let request = scene.says("renshe", Act::Requested(births)).await;
    scene.says("gongan", Act::Approved { request, narrower: None }).await;
    let ledger = scene.ledger(HOUR);
    ledger.catch_up().await.unwrap();
    assert!(scene.flows(&ledger).unwrap_err().contains("together with `births`"));
    let error = ledger.permits(&births_plan, 6).unwrap_err().to_string();
    assert!(error.contains("together with `pension`"), "{error}");
    let grant = scene.writer.book.granted("renshe", "pension", "gongan", "entry").unwrap().request;
    // Its rows are still there.
    scene.says("gongan", Act::Revoked { grant, recall: false, reason: "x".into() }).await;
    ledger.catch_up().await.unwrap();
    ledger.permits(&births_plan, 6).unwrap_err();
    scene.says("gongan", Act::Revoked { grant, recall: true, reason: "x".into() }).await;
    ledger.catch_up().await.unwrap();
    ledger.permits(&births_plan, 6).unwrap();
}

#[tokio::test]
async fn i5_two_grants_of_different_streams_that_give_away_more_together_wait_too() {
    let mut scene = Scene::new().await;
    // A stream of another owner's, of which this configuration has no contract.
    let columns = ["cert_no", "birth"].map(str::to_owned).to_vec();
    let offer =
        Offer { stream: "deaths".into(), sharing: Condition::Unconditional, columns: columns.clone() };
    scene.says("gongan", Act::Offered(offer)).await;
    let mut deaths = asked(&scene.plan.subscriptions[0]);
    (deaths.subscription, deaths.stream, deaths.terms.columns) = ("deaths".into(), "deaths".into(), columns);
    deaths.terms.masks.clear();
    let grant = scene.says("renshe", Act::Requested(deaths)).await;
    let ledger = scene.ledger(HOUR);
    ledger.catch_up().await.unwrap();
    let why = scene.flows(&ledger).unwrap_err();
    assert!(why.contains("together with `deaths`"), "{why}");
    assert!(why.contains("`number` of gongan.entry") && why.contains("`birth` of gongan.deaths"), "{why}");
    scene.says("gongan", Act::Revoked { grant, recall: true, reason: "x".into() }).await;
    ledger.catch_up().await.unwrap();
    assert_eq!(scene.flows(&ledger), Ok(4));
}
