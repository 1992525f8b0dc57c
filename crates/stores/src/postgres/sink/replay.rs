//! Applies a quarantined change again: when a person has mended what refused it, or another lane may have.
//!
//! Knows one item and the apply path; takes the lane's lock alone, so that it is never in the middle of a commit.

use std::collections::HashSet;
use std::sync::Arc;

use hutong_core::{Checkpoint, Error, ErrorKind, Result, Secret};
use tokio_postgres::types::Json;

use super::apply::{Apply, Limit, Mode, Way};
use super::beside;
use super::catalog;
use super::commit::lock_of;
use super::lane::Counts;
use super::pool::{Connection, Lease, Pool};
use super::quarantine::{self, Item};
use super::refusal::Fault;
use super::table;
use crate::again::Round;
use crate::fold::{self, CONFLICT, UNKNOWN_VALUE};
use crate::keep;
use crate::keep::subscription_of;
use crate::postgres::error;
use crate::postgres::ident::TableName;
use crate::reread::{BEHIND, Tally};

/// How many items a lane tries again at a time.
const AT_A_TIME: i64 = 100;

/// Applies the change of a waiting item and marks it as replayed, in one transaction.
///
/// `Err(Refused)` when it does not wait, an earlier item of its row still does, or the store refuses it
/// again; then nothing has happened.
pub async fn replay(url: &Secret, id: i64) -> Result<()> {
    let mut lease = Pool::new(url.clone(), 1).lease().await?;
    let item = quarantine::find(&lease.session, id).await?.ok_or_else(|| {
        Error::new(ErrorKind::Refused, format!("replay item {id}"), "there is no such item")
    })?;
    again(&mut lease, &item).await
}

/// Tries what waits for a change of another lane: some items after `after`, each with what queues behind it.
pub(super) async fn conflicts(lease: &mut Lease, lane: &str, after: i64) -> Result<Round> {
    let items = quarantine::of_rule(&lease.session, lane, CONFLICT, after, AT_A_TIME).await?;
    let mut left = after > 0;
    for item in &items {
        match again(lease, item).await {
            Ok(()) => {
                tracing::info!(lane, item = item.id, "replayed");
                left |= !followers(lease, item).await?;
            }
            Err(problem) if problem.kind == ErrorKind::Refused => left = true,
            Err(problem) => return Err(problem),
        }
    }
    match items.last().filter(|_| items.len() as i64 == AT_A_TIME) {
        Some(last) => Ok(Round { left: true, after: last.id }),
        None => Ok(Round { left, after: 0 }),
    }
}

/// Replays the changes of its row that queued behind an item, in order (I4); returns whether all are through.
async fn followers(lease: &mut Lease, item: &Item) -> Result<bool> {
    for next in quarantine::behind(&lease.session, item.id, UNKNOWN_VALUE, BEHIND).await? {
        match again(lease, &next).await {
            Ok(()) => tracing::info!(lane = item.lane, item = next.id, "replayed"),
            Err(problem) if problem.kind == ErrorKind::Refused => return Ok(false),
            Err(problem) => return Err(problem),
        }
    }
    Ok(true)
}

async fn again(lease: &mut Lease, item: &Item) -> Result<()> {
    lease.clean = false;
    let done = Box::pin(attempt(lease, item)).await;
    lease.clean = match &done {
        Ok(()) => true,
        Err(_) => lease.session.batch_execute("ROLLBACK").await.is_ok(),
    };
    done
}

async fn attempt(connection: &mut Connection, item: &Item) -> Result<()> {
    let doing = || format!("replay item {}", item.id);
    let failed = |e| error::of(e, doing);
    let refused = |why: String| Error::new(ErrorKind::Refused, doing(), why);
    let Some(json) = &item.change else {
        let (why, hint) = keep::nothing_kept(item.record.is_some(), &item.lane);
        return Err(refused(why.into()).hint(hint));
    };
    let changes = [keep::read_change(json)?];
    let folded = fold::fold(&changes);
    if folded.truncate {
        let hint = format!("discard it, or `hutong subscription reload {}`", subscription_of(&item.lane));
        return Err(refused("a truncate is not replayed".into()).hint(hint));
    }
    let name = written(&connection.session, item, "")
        .await?
        .ok_or_else(|| refused(format!("the lane {} is not known here", item.lane)))?;
    let table = catalog::read(&connection.session, &name)
        .await?
        .ok_or_else(|| refused(format!("the table {} is not there", name.plain())))?;
    let plan = Arc::new(table::check(&name, &changes[0].contract, &table)?);
    let stage = connection.stage(&plan).await?;
    let session = &connection.session;
    let begin = format!("BEGIN; SELECT pg_advisory_xact_lock({})", lock_of(&item.lane));
    session.batch_execute(&begin).await.map_err(failed)?;
    // I5: while the row is held nobody takes the lane over, so under another grant the rows that go include ours.
    if written(session, item, "FOR SHARE").await?.is_none_or(|now| now != name) {
        return Err(refused("its lane writes another table by now".into()));
    }
    still_waits(session, item).await?;

    let queued = HashSet::new();
    let mut apply = Apply {
        client: session,
        lane: &item.lane,
        mode: Mode::Swift,
        changes: &changes,
        queued: &queued,
        refused: Vec::new(),
        tally: Tally::default(),
        reread: None,
        counts: Counts::default(),
        limit: Limit::NONE,
        run: 0,
    };
    let ways: Vec<Way> =
        folded.parts.iter().map(|_| Way { plan: Arc::clone(&plan), stage: Arc::clone(&stage) }).collect();
    match apply.all(&folded, &ways).await {
        Ok(()) => {}
        Err(Fault::Refused(refusal)) => return Err(refused(refusal.reason)),
        Err(Fault::Stop(problem)) => return Err(problem),
    }
    if let Some(rejected) = apply.refused.iter().chain(&folded.rejected).next() {
        return Err(refused(rejected.reason.clone()));
    }
    let done =
        "UPDATE hutong.hutong_quarantine SET state = 'replayed', settled = clock_timestamp() WHERE id = $1";
    session.execute(done, &[&item.id]).await.map_err(failed)?;
    session.batch_execute("COMMIT").await.map_err(failed)
}

/// Returns the table that the lane of an item writes; `None` when there is no such lane.
async fn written(session: &tokio_postgres::Client, item: &Item, how: &str) -> Result<Option<TableName>> {
    let doing = || format!("replay item {}", item.id);
    let sql = format!(r#"SELECT table_name, "position" FROM hutong.hutong_lane WHERE lane = $1 {how}"#);
    let row = session.query_opt(&sql, &[&item.lane]).await.map_err(|e| error::of(e, doing))?;
    let Some(row) = row else { return Ok(None) };
    let Json(checkpoint) =
        row.try_get::<_, Json<Checkpoint>>(1).map_err(|e| Error::caused(ErrorKind::Broken, doing(), e))?;
    Ok(Some(beside::written(&item.lane, &TableName::parse(row.get(0))?, &checkpoint)))
}

/// Checks, under the lane's lock, that the item waits and that nothing of its row waits before it (I4).
async fn still_waits(session: &tokio_postgres::Client, item: &Item) -> Result<()> {
    let row = session
        .query_opt(
            r#"SELECT q.state, (SELECT min(e.id) FROM hutong.hutong_quarantine e
                                 WHERE e.lane = q.lane AND e.key = q.key AND e.state = 'waiting'
                                   AND e."position" < q."position")
                 FROM hutong.hutong_quarantine q WHERE q.id = $1 FOR UPDATE OF q"#,
            &[&item.id],
        )
        .await
        .map_err(|e| error::of(e, || format!("replay item {}", item.id)))?;
    let found = row.map(|row| (row.get::<_, String>(0), row.get::<_, Option<i64>>(1)));
    let why = match found.as_ref().map(|(state, earlier)| (state.as_str(), earlier)) {
        Some(("waiting", None)) => return Ok(()),
        Some(("waiting", Some(earlier))) => format!("item {earlier} of the same row waits before it"),
        Some((state, _)) => format!("it does not wait any more, it is {state}"),
        // Another grant has removed it.
        None => "there is no such item any more".into(),
    };
    Err(Error::new(ErrorKind::Refused, format!("replay item {}", item.id), why))
}
