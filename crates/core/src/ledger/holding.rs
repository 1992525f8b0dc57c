//! Who held a row, and since when: its versions, read through every grant under which they were delivered.

use std::collections::BTreeMap;

use crate::change::{Before, Change, Op};
use crate::grant::Permit;
use crate::port::{Step, Verdict};

/// What one commit of a lane covered of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The number of the grant.
    pub grant: u64,
    /// The first offset that it covers; `None` when the lane began anew with it, and its rows were removed before.
    pub from: Option<u64>,
    /// Where the base begins that such a lane has read: what stands before is of an earlier one, and nobody was given it.
    pub base: u64,
    /// The first offset that it does not cover.
    pub to: u64,
    /// The number of the receipt; `None` while it is not published.
    pub receipt: Option<u64>,
    /// When it was committed, by the store's clock, microseconds since 1970 UTC.
    pub at_us: i64,
    /// Whether it is of a recall, which covers nothing and takes every row.
    pub recalled: bool,
}

impl Stretch {
    /// States whether a version that stands at an offset came with it.
    pub fn covers(&self, offset: u64) -> bool {
        self.from.unwrap_or(self.base) <= offset && offset < self.to
    }
}

/// A version of the row that has come to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its offset in the topic's partition.
    pub offset: u64,
    /// The commit that brought it.
    pub by: Stretch,
}

/// Why a replica holds a row no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The row was deleted, or it left what the grant lets through.
    Left(Arrival),
    /// The lane began anew: every row of it was removed.
    Anew(Stretch),
    /// A narrower grant lets it through no more: it was removed where it stood.
    Narrowed(Stretch),
    /// The owner has recalled it: every row was removed.
    Recalled(Stretch),
}

/// A time in which a replica held the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The numbers of the grants under which it did, in their order; all let this row through. A later one may name
    /// fewer columns, or mask them: the others are empty since, or masked.
    pub grants: Vec<u64>,
    /// The version that brought it.
    pub since: Arrival,
    /// The last version that came.
    pub last: Arrival,
    /// What ended it.
    pub ended: Option<Ended>,
}

/// What is known of a row in one lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// The times in which it was held, in their order.
    pub holdings: Vec<Holding>,
    /// Offsets of versions of which it could not be decided whether they are granted: set aside without the row.
    pub aside: Vec<u64>,
    /// The numbers of grants that cannot be read any more; what was delivered under them is not known.
    pub unread: Vec<u64>,
    /// Stretches that began before the first offset that the topic still holds.
    pub before: u64,
    /// The end of the last stretch.
    pub reached: Option<u64>,
}

/// Reads the versions of a row, which stand in one partition, as a lane has read them.
///
/// `versions` has the truncates of the table too; `stretches` are in the order of the lane's chain; `first` is the
/// first offset that the topic holds; `permit` returns the step of a grant's number.
pub fn held(
    versions: &[(u64, Change)],
    stretches: &[Stretch],
    first: u64,
    mut permit: impl FnMut(u64) -> Option<Permit>,
) -> Held {
    let mut known = Held::default();
    let mut permits: BTreeMap<u64, Option<Permit>> = BTreeMap::new();
    let mut open: Option<Holding> = None;
    for stretch in stretches {
        if stretch.recalled {
            let ended = |holding: Holding| Holding { ended: Some(Ended::Recalled(*stretch)), ..holding };
            known.holdings.extend(open.take().map(ended));
            continue;
        }
        if stretch.from.is_none()
            && let Some(holding) = open.take()
        {
            known.holdings.push(Holding { ended: Some(Ended::Anew(*stretch)), ..holding });
        }
        // A lane that begins anew begins at the base, and what was trimmed was never part of that.
        known.before += u64::from(stretch.from.is_some_and(|from| from < first));
        known.reached = Some(stretch.to);
        let step = permits.entry(stretch.grant).or_insert_with(|| permit(stretch.grant));
        let other = open.take_if(|holding| holding.grants.last() != Some(&stretch.grant));
        if let Some(mut holding) = other {
            if step.as_mut().is_some_and(|step| leaves(step, versions, &holding)) {
                known.holdings.push(Holding { ended: Some(Ended::Narrowed(*stretch)), ..holding });
            } else {
                holding.grants.push(stretch.grant);
                open = Some(holding);
            }
        }
        let Some(step) = step else {
            if !known.unread.contains(&stretch.grant) {
                known.unread.push(stretch.grant);
            }
            continue;
        };
        for (offset, change) in versions.iter().filter(|(offset, _)| stretch.covers(*offset)) {
            let arrival = Arrival { offset: *offset, by: *stretch };
            match step.apply(change.clone()) {
                Verdict::Pass(passed) if matches!(passed.op, Op::Delete | Op::Truncate) => {
                    if let Some(holding) = open.take() {
                        known.holdings.push(Holding { ended: Some(Ended::Left(arrival)), ..holding });
                    }
                }
                Verdict::Pass(_) => match &mut open {
                    Some(holding) => holding.last = arrival,
                    None => {
                        let grants = vec![stretch.grant];
                        open = Some(Holding { grants, since: arrival, last: arrival, ended: None });
                    }
                },
                Verdict::Drop { .. } => {}
                Verdict::Reject(_) => known.aside.push(*offset),
            }
        }
    }
    known.holdings.extend(open);
    known
}

/// States whether a row as it last came is not let through by another grant.
fn leaves(step: &mut Permit, versions: &[(u64, Change)], holding: &Holding) -> bool {
    let last = versions.iter().find(|(offset, _)| *offset == holding.last.offset);
    let Some((_, change)) = last else { return false };
    let alone = Change { op: Op::Read, before: Before::None, ..change.clone() };
    match step.apply(alone) {
        Verdict::Pass(passed) => passed.op == Op::Delete,
        Verdict::Drop { .. } => true,
        Verdict::Reject(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::change::Origin;
    use crate::contract::Contract;
    use crate::grant::Grant;
    use crate::position::Position;
    use crate::secret::Secret;
    use crate::value::Value;

    fn contract() -> Arc<Contract> {
        let text = r#"{"type":"record","name":"t","key":["id"],"sharing":"unconditional","fields":[
            {"name":"id","type":"long"},{"name":"state","type":["null","string"]}]}"#;
        Contract::parse(text).unwrap().shared()
    }

    fn permit(rows: Option<&str>) -> Option<Permit> {
        let grant = Grant {
            subscription: "s".into(),
            stream: "t".into(),
            columns: vec!["id".into(), "state".into()],
            rows: rows.map(str::to_owned),
            masks: BTreeMap::new(),
            until: None,
            key: Secret::new(""),
        };
        Permit::new(contract(), &grant).ok()
    }

    fn version(offset: u64, op: Op, state: &'static str) -> (u64, Change) {
        let row = vec![Value::Integer(1), Value::text(state)];
        let gone = matches!(op, Op::Delete | Op::Truncate);
        let change = Change {
            contract: contract(),
            op,
            before: if op == Op::Delete {
                Before::Key(vec![Value::Integer(1), Value::Unknown])
            } else {
                Before::None
            },
            after: (!gone).then_some(row),
            position: Position::offset(offset),
            source_position: Position::offset(offset),
            origin: Origin {
                place: Arc::default(),
                committed_us: 0,
                xid: None,
                lsn: None,
                transaction: None,
                last: true,
            },
        };
        (offset, change)
    }

    fn stretch(grant: u64, from: Option<u64>, to: u64) -> Stretch {
        Stretch { grant, from, base: 0, to, receipt: Some(to), at_us: to.cast_signed(), recalled: false }
    }

    /// Says in short when it was held: `GRANTS since-last` and by what it ended.
    fn told(held: &Held) -> Vec<String> {
        let one = |holding: &Holding| {
            let end = match holding.ended {
                None => "holds".into(),
                Some(Ended::Left(arrival)) => format!("left {}", arrival.offset),
                Some(Ended::Anew(stretch)) => format!("anew {}", stretch.grant),
                Some(Ended::Narrowed(stretch)) => format!("narrowed {}", stretch.grant),
                Some(Ended::Recalled(stretch)) => format!("recalled {}", stretch.grant),
            };
            format!("{:?} {}-{} {end}", holding.grants, holding.since.offset, holding.last.offset)
        };
        held.holdings.iter().map(one).collect()
    }

    #[test]
    fn a_row_is_held_as_its_versions_and_the_grants_say() {
        let versions = [
            version(2, Op::Read, "正常"),
            version(5, Op::Update, "注销"),
            version(7, Op::Update, "正常"),
            version(9, Op::Delete, ""),
        ];
        let narrow = |number: u64| permit((number != 4).then_some("state = '正常'"));
        let recalled = |grant| Stretch { recalled: true, ..stretch(grant, None, 0) };
        let rows: [(&[Stretch], &[&str]); 12] = [
            (&[], &[]),
            // What stands before the base that the lane has begun at was never its.
            (&[Stretch { base: 5, ..stretch(4, None, 8) }], &["[4] 5-7 holds"]),
            (&[stretch(4, None, 3)], &["[4] 2-2 holds"]),
            (&[stretch(4, None, 3), stretch(4, Some(3), 8)], &["[4] 2-7 holds"]),
            (&[stretch(4, None, 8), stretch(4, Some(8), 10)], &["[4] 2-7 left 9"]),
            // A grant of fewer rows removes those that it does not let through where the lane stands, …
            (
                &[stretch(4, None, 6), stretch(6, Some(6), 6), stretch(6, Some(6), 8)],
                &["[4] 2-5 narrowed 6", "[6] 7-7 holds"],
            ),
            (&[stretch(4, None, 3), stretch(6, Some(3), 3)], &["[4, 6] 2-2 holds"]),
            // … or all of them, and begins at the base.
            (
                &[stretch(4, None, 6), stretch(6, None, 6), stretch(6, Some(6), 8)],
                &["[4] 2-5 anew 6", "[6] 2-2 left 5", "[6] 7-7 holds"],
            ),
            // One that names fewer columns empties those, and says so.
            (&[stretch(6, None, 3), stretch(8, Some(3), 3)], &["[6, 8] 2-2 holds"]),
            (
                &[stretch(4, None, 8), recalled(4), stretch(8, None, 3)],
                &["[4] 2-7 recalled 4", "[8] 2-2 holds"],
            ),
            // A grant that lasts longer fills nothing anew.
            (&[stretch(6, None, 3), stretch(8, Some(3), 4)], &["[6, 8] 2-2 holds"]),
            // A lane that was set back to read a record again keeps its rows.
            (&[stretch(4, None, 8), stretch(4, Some(6), 10)], &["[4] 2-7 left 9"]),
        ];
        for (stretches, expected) in rows {
            assert_eq!(told(&held(&versions, stretches, 0, narrow)), expected, "{stretches:?}");
        }
        let truncated = [version(2, Op::Insert, "正常"), version(4, Op::Truncate, "")];
        assert_eq!(told(&held(&truncated, &[stretch(6, None, 5)], 0, narrow)), ["[6] 2-2 left 4"]);
    }

    #[test]
    fn what_cannot_be_known_is_told() {
        let versions = [version(5, Op::Update, "正常")];
        let known = held(&versions, &[stretch(4, Some(1), 3), stretch(4, Some(3), 6)], 4, |_| permit(None));
        assert_eq!((known.before, known.reached), (2, Some(6)));
        let known = held(&versions, &[stretch(4, None, 6)], 0, |_| None);
        assert_eq!((known.unread, known.holdings.len()), (vec![4], 0));
        let mut unknown = version(5, Op::Update, "");
        unknown.1.after = Some(vec![Value::Integer(1), Value::Unknown]);
        let known = held(&[unknown], &[stretch(6, None, 6)], 0, |_| permit(Some("state = '正常'")));
        assert_eq!((known.aside, known.holdings.len()), (vec![5], 0));
    }
}
