//! `hutong check --probe`: touches the world once, with short connections of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hutong_bus::Subscriber;
use hutong_bus::kafka::{self, May, Right};
use hutong_core::grant::Permit;
use hutong_core::{Error, Result};
use hutong_stores::{Finding, postgres, sqlite};

use super::bus::cluster;
use crate::config::Plan;
use crate::config::plan::{
    BusSystem, CapturePlan, LedgerPlan, StorePlan, StoreSystem, SubscriptionPlan, Target,
};
use crate::http::token::Guard;
use crate::ledger::private_key;

/// How long one probe may take before it counts as no answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long the brokers have to answer: less than the probe, which would otherwise end before it knows why not.
const SHORTER: Duration = Duration::from_secs(10);

/// Tries the bus, each store, each captured table and each replica. Never stops at the first finding.
pub async fn all(plan: &Plan) -> Vec<Finding> {
    let mut findings = bus(plan).await;
    for store in plan.stores.values() {
        findings.push(reach(store).await);
    }
    for capture in &plan.captures {
        findings.extend(within(&format!("capture {}", capture.name), source(capture)).await);
    }
    for subscription in &plan.subscriptions {
        let target = target(plan, subscription);
        findings.extend(within(&format!("subscription {}", subscription.name), target).await);
    }
    findings.extend(plan.ledger.iter().flat_map(keys));
    if let Err(problem) = Guard::of(&plan.http) {
        findings.push(problem.into());
    }
    for (department, principal) in &plan.principals {
        findings
            .extend(within(&format!("department {department}"), rights(plan, department, principal)).await);
    }
    findings
}

/// Reads the private keys of the departments that act from here, before one of them must.
fn keys(ledger: &LedgerPlan) -> Vec<Finding> {
    let one = |(department, path): (&String, &PathBuf)| match private_key(ledger, department) {
        Ok(_) => good(format!("ledger: the key of {department} is in {}", path.display())),
        Err(problem) => problem.into(),
    };
    ledger.keys.iter().map(one).collect()
}

/// Compares what a department's principal may do on the cluster with what its deliveries need. What a person has given
/// by hand is told and left to him.
async fn rights(plan: &Plan, department: &str, principal: &str) -> Result<Vec<Finding>> {
    let bus = super::Bus::look(&plan.bus)?;
    let (Some(cluster), BusSystem::Kafka(kafka)) = (bus.cluster(), &plan.bus.system) else {
        return Ok(Vec::new());
    };
    let mut needed = Vec::new();
    for subscription in plan.subscriptions.iter().filter(|s| s.department == department) {
        if subscription.into == Target::Topic {
            let topics = super::generations(&bus, &plan.bus.name, subscription);
            let newest = topics.newest().await?;
            needed.extend(newest.into_iter().flat_map(|newest| Subscriber::reads(&topics.topic(newest))));
            needed.extend(topics.subscriber.map(|subscriber| subscriber.groups()));
        }
    }
    let rights = cluster.rights(principal).await?;
    let (wanted, other): (Vec<_>, Vec<_>) = rights.into_iter().partition(|right| needed.contains(&right.may));
    let wanted: Vec<String> = wanted.iter().map(|right| right.may.to_string()).collect();
    let told = if wanted.is_empty() { "nothing yet".to_owned() } else { wanted.join(", ") };
    let mut findings =
        vec![good(format!("department {department}: {principal} may do what is delivered: {told}"))];
    findings.extend(other.iter().map(|right| {
        let what =
            format!("department {department}: {principal} has {}, which no delivery of it needs", right.may);
        Finding::bad(what, removal(&kafka.brokers, right))
    }));
    Ok(findings)
}

/// Returns the command by which a person takes a right away.
fn removal(brokers: &str, right: &Right) -> String {
    let of = match &right.may {
        May::ReadTopic(name) => format!("--operation READ --topic {name}"),
        May::DescribeTopic(name) => format!("--operation DESCRIBE --topic {name}"),
        May::ReadGroups(name) => format!("--operation READ --group {name} --resource-pattern-type prefixed"),
        May::Other(_) => return format!("look at it: kafka-acls.sh --bootstrap-server {brokers} --list"),
    };
    format!(
        "kafka-acls.sh --bootstrap-server {brokers} --remove --allow-principal {} {of}; or leave it, if it was meant",
        right.principal
    )
}

async fn bus(plan: &Plan) -> Vec<Finding> {
    match &plan.bus.system {
        BusSystem::Embedded(embedded) => vec![writable(&embedded.folder)],
        BusSystem::Kafka(plan_kafka) => {
            let answer = async {
                let bus = kafka::Bus::new(cluster(&plan.bus.name, plan_kafka)?)?;
                let count = bus.ping(SHORTER).await?;
                let mut found =
                    vec![good(format!("bus: Kafka answers at {}, {count} brokers", plan_kafka.brokers))];
                let replication = plan_kafka.replication;
                found.extend(
                    replication.filter(|asked| *asked as usize > count).map(|asked| few(asked, count)),
                );
                let (own, streams) = (format!("{}.", plan.bus.name), streams(plan));
                let ours = move |topic: &str| topic.starts_with(&own) || streams.contains(topic);
                found.extend(bus.thin_topics(ours).await?.into_iter().map(|topic| thin(topic, replication)));
                Ok(found)
            };
            let mut findings = within("bus", answer).await;
            let answer = async {
                let (bus, _) = super::Bus::open(&plan.bus)?;
                // Any answer is good: an id that nobody has is the question that changes nothing.
                Arc::clone(bus.registry()).by_id(u32::MAX >> 1).await?;
                Ok(vec![good(format!("registry: answers at {}", plan_kafka.registry))])
            };
            findings.extend(within("registry", answer).await);
            findings
        }
    }
}

/// Returns the topics of the plan's streams.
fn streams(plan: &Plan) -> BTreeSet<String> {
    let captured = plan.captures.iter().flat_map(|capture| &capture.tables).map(|(_, stream)| stream.topic());
    captured.chain(plan.subscriptions.iter().map(|subscription| subscription.stream.topic())).collect()
}

/// Says that a topic could be lost with one broker where the cluster has more.
fn thin((topic, replicas): (String, usize), asked: Option<u32>) -> Finding {
    let why = match asked {
        Some(asked) => format!("[bus.kafka] asks for {asked}"),
        None => "the cluster has brokers for 3".to_owned(),
    };
    Finding {
        ok: false,
        what: format!("bus: topic {topic} has {replicas} replicas, and {why}"),
        hint: Some(
            "it was made when fewer brokers were there: give it as many with `kafka-reassign-partitions.sh`, then \
             min.insync.replicas=2 with `kafka-configs.sh`"
                .into(),
        ),
    }
}

/// Says that no topic can be made yet.
fn few(asked: u32, there: usize) -> Finding {
    Finding {
        ok: false,
        what: format!(
            "bus: `replication` of [bus.kafka] asks for {asked} replicas, and {there} brokers are there"
        ),
        hint: Some(
            "topics that are missing are made when so many are there: start them, or ask for fewer".into(),
        ),
    }
}

/// Tries whether an embedded bus can write in its folder, or make it. Leaves nothing behind.
fn writable(folder: &Path) -> Finding {
    let existing = folder.ancestors().find(|path| path.as_os_str().is_empty() || path.exists());
    let existing = match existing {
        Some(path) if !path.as_os_str().is_empty() => path,
        // A relative path, none of whose folders is there.
        _ => Path::new("."),
    };
    match tempfile::tempfile_in(existing) {
        Ok(_) if existing == folder => good(format!("bus: the folder {} may be written", folder.display())),
        Ok(_) => good(format!("bus: the folder {} can be made", folder.display())),
        Err(error) => Finding {
            ok: false,
            what: format!("bus: the folder {} cannot be written: {error}", existing.display()),
            hint: Some(
                "give it to the user that Hutong runs as, or name another [bus.embedded] folder".into(),
            ),
        },
    }
}

async fn reach(store: &StorePlan) -> Finding {
    let answer = async {
        match &store.system {
            StoreSystem::Postgres { url, .. } => postgres::version(&url.resolve()?)
                .await
                .map(|version| vec![good(format!("store {}: PostgreSQL {version}", store.name))]),
            StoreSystem::Sqlite { path } => {
                Ok(vec![good(format!("store {}: SQLite file {}", store.name, path.display()))])
            }
        }
    };
    within(&format!("store {}", store.name), answer).await.remove(0)
}

async fn source(capture: &CapturePlan) -> Result<Vec<Finding>> {
    match &capture.store.system {
        StoreSystem::Postgres { url, .. } => {
            let config = postgres::SourceConfig::new(
                url.resolve()?,
                &capture.name,
                super::store::postgres_tables(capture),
            );
            Ok(postgres::probe(&config).await)
        }
        StoreSystem::Sqlite { path } => {
            Ok(sqlite::probe(path, &capture.name, &super::store::sqlite_tables(capture)))
        }
    }
}

/// Looks where a subscription writes, with the eyes of its sink: what is granted is what the table must take.
async fn target(plan: &Plan, subscription: &SubscriptionPlan) -> Result<Vec<Finding>> {
    let permit = super::permit(subscription)?;
    let granted = permit.projection();
    let mut findings = match &subscription.into {
        Target::Table { store, table } => match &store.system {
            StoreSystem::Postgres { url, .. } => {
                postgres::sink::probe(&url.resolve()?, table, &granted).await
            }
            StoreSystem::Sqlite { path } => sqlite::probe_target(path, table, &granted),
        },
        Target::Topic => {
            let mut findings = old_rows(plan, subscription, &permit).await?;
            if subscription.principal.is_none() && matches!(plan.bus.system, BusSystem::Kafka(_)) {
                let department = &subscription.department;
                findings.push(Finding {
                    ok: true,
                    what: format!(
                        "nobody is given the right to read its topic, for `{department}` has no principal: on a cluster \
                         that asks nobody, everybody reads it"
                    ),
                    hint: Some(format!("principal = \"User:NAME\" in [department.{department}]")),
                });
            }
            findings
        }
    };
    let prefix = |finding: &mut Finding| {
        finding.what = format!("subscription {}: {}", subscription.name, finding.what);
    };
    findings.iter_mut().for_each(prefix);
    Ok(findings)
}

/// Looks whether the source of a delivery tells whole old rows, where the delivery needs them (DESIGN section 7).
async fn old_rows(plan: &Plan, subscription: &SubscriptionPlan, permit: &Permit) -> Result<Vec<Finding>> {
    let stream = &subscription.stream.name;
    let fed = plan
        .captures
        .iter()
        .find_map(|capture| Some((capture, &capture.tables.iter().find(|(_, fed)| fed.name == *stream)?.0)));
    let Some((capture, table)) = fed else {
        let what =
            "the stream is captured elsewhere: whether its table logs whole old rows is not seen from here";
        return Ok(if permit.needs_old_row() { vec![good(what.into())] } else { Vec::new() });
    };
    let whole = match &capture.store.system {
        StoreSystem::Postgres { url, .. } => postgres::logs_whole_rows(&url.resolve()?, table).await?,
        // Its triggers do.
        StoreSystem::Sqlite { .. } => true,
    };
    Ok(match (whole, permit.needs_old_row()) {
        (true, _) => vec![good("its table logs whole old rows".into())],
        (false, true) => vec![Finding::bad(
            format!(
                "its row filter needs whole old rows, and {table} does not log them: a row that leaves the filter \
                 could not be told from one that was never in it, and would be set aside"
            ),
            format!("ALTER TABLE {table} REPLICA IDENTITY FULL"),
        )],
        (false, false) => vec![Finding {
            ok: true,
            what: format!(
                "{table} does not log whole old rows: a change of columns outside the grant is delivered"
            ),
            hint: Some(format!("ALTER TABLE {table} REPLICA IDENTITY FULL, and it is not")),
        }],
    })
}

async fn within(what: &str, answer: impl Future<Output = Result<Vec<Finding>>>) -> Vec<Finding> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(findings)) => findings,
        Ok(Err(error)) => vec![bad(what, &error)],
        Err(_) => {
            vec![Finding {
                ok: false,
                what: format!("{what}: no answer in {} s", PATIENCE.as_secs()),
                hint: None,
            }]
        }
    }
}

fn good(what: String) -> Finding {
    Finding { ok: true, what, hint: None }
}

fn bad(what: &str, error: &Error) -> Finding {
    Finding { ok: false, what: format!("{what}: {error}"), hint: error.hint.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_tried_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let below = folder.path().join("a").join("bus");
        let found = [folder.path(), &below, &file.join("bus")].map(writable);
        let says = ["may be written", "can be made", "cannot be written"];
        for (finding, says) in found.iter().zip(says) {
            assert!(finding.what.contains(says), "{finding:?}");
        }
        assert_eq!(found.map(|finding| finding.ok), [true, true, false]);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    }
}
