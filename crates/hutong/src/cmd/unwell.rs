//! What is not well: the lanes, what stands around them, and what a person may do about it.
//!
//! `hutong status` prints it as paragraphs, `hutong doctor` as findings.

use hutong_engine::status::now_us;
use hutong_engine::{LaneStatus, PartStatus, State, Verdict};
use jiff::tz::TimeZone;

use super::{explain, pace, table, told};
use crate::http::status::Status;
use crate::lang::Lang;
use crate::moment;
use crate::share::Unlike;

/// One thing that is not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// What it is, since when, and why.
    pub(super) what: String,
    /// What a person may do about it.
    pub(super) hint: Option<String>,
    /// The code that `hutong explain` takes.
    pub(super) code: Option<String>,
}

impl Finding {
    /// What is to be done is what was said about this very thing, else what the runbook says under its code.
    fn new(what: String, hint: Option<&str>, code: Option<&str>, lang: Lang) -> Self {
        let hint = hint.map(str::to_owned).or_else(|| explain::cure(code?, lang));
        Self { what, hint, code: code.map(str::to_owned) }
    }

    /// Returns it as a paragraph.
    pub(super) fn paragraph(&self, lang: Lang) -> String {
        let mut text = self.what.clone();
        if let Some(hint) = &self.hint {
            text.push_str(&format!("\n  {}{hint}", to_do(lang)));
        }
        if let Some(code) = &self.code {
            text.push_str(&format!("\n  {}: hutong explain {code}", lang.pick("more", "详见")));
        }
        text
    }
}

/// Returns each thing that is not well, but for what somebody wanted so: a pause, and what nobody has granted.
pub(super) fn findings(status: &Status, zone: &TimeZone, lang: Lang) -> Vec<Finding> {
    let now_us = now_us();
    let mut found = errors(status, zone, lang);
    found.extend(status.parts.iter().filter_map(|part| of_part(part, now_us, lang)));
    found.extend(verdicts(status, lang));
    found.extend(late(status, lang));
    found.extend(suspended(status, lang));
    found.extend(quarantined(status, zone, lang));
    if let Some(unlike) = status.share.as_ref().and_then(|share| share.unlike.as_ref()) {
        found.push(Finding::new(unlike.said(lang), Some(Unlike::hint(lang)), None, lang));
    }
    found
}

/// Returns a paragraph for each pipeline that a person has paused.
pub(super) fn paused(status: &Status, zone: &TimeZone, lang: Lang) -> Vec<String> {
    let mut said: Vec<(&str, String)> = Vec::new();
    for lane in status.lanes.iter().filter(|lane| lane.state == State::Paused) {
        let Some(pause) = &lane.pause else { continue };
        // Its lanes are paused together.
        if said.last().is_none_or(|(pipeline, _)| *pipeline != lane.pipeline) {
            let name = lane.pipeline.split_once('.').map_or(lane.pipeline.as_str(), |(_, name)| name);
            let pipeline = &lane.pipeline;
            let text = match lang {
                Lang::En => format!(
                    "{pipeline} is paused {}\n  what to do: when that is over, `hutong subscription resume {name}`",
                    told::pause(pause, zone)
                ),
                Lang::Zh => format!(
                    "{pipeline} 已暂停：自 {}，由 {}，原因：{}\n  处理办法：事毕后执行 `hutong subscription resume {name}`",
                    moment::text(pause.since_us, zone),
                    pause.by,
                    pause.reason
                ),
            };
            said.push((&lane.pipeline, text));
        }
    }
    said.into_iter().map(|(_, text)| text).collect()
}

/// Returns a paragraph for each pipeline through which nothing may flow: since when, and why.
pub(super) fn held(status: &Status, zone: &TimeZone, lang: Lang) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    for lane in status.lanes.iter().filter(|lane| lane.state == State::Held) {
        let why = lane.error.as_deref().unwrap_or_default();
        let since = moment::text(lane.since_us, zone);
        let pipeline = &lane.pipeline;
        let mut text = lang.pick(
            format!("{pipeline} is held since {since}: {why}"),
            format!("{pipeline} 自 {since} 起未获准流动：{why}"),
        );
        if let Some(hint) = &lane.hint {
            text.push_str(&format!("\n  {}{hint}", to_do(lang)));
        }
        // Its lanes are held together, but for one that is still at its recall.
        if !said.contains(&text) {
            said.push(text);
        }
    }
    said
}

/// Returns those lanes together that are of one pipeline and alike, in the order of the first of each.
fn alike<'a>(
    lanes: impl Iterator<Item = &'a LaneStatus>,
    same: impl Fn(&LaneStatus, &LaneStatus) -> bool,
) -> Vec<Vec<&'a LaneStatus>> {
    let mut groups: Vec<Vec<&LaneStatus>> = Vec::new();
    for lane in lanes {
        let fits = |first: &&LaneStatus| first.pipeline == lane.pipeline && same(first, lane);
        match groups.iter_mut().find(|group| group.first().is_some_and(fits)) {
            Some(group) => group.push(lane),
            None => groups.push(vec![lane]),
        }
    }
    groups
}

fn names(lanes: &[&LaneStatus]) -> String {
    lanes.iter().map(|lane| lane.lane.as_str()).collect::<Vec<_>>().join(", ")
}

fn is(lanes: &[&LaneStatus]) -> &'static str {
    if lanes.len() == 1 { "is" } else { "are" }
}

/// Returns what has failed: the lanes of a pipeline that fail alike are one finding.
fn errors(status: &Status, zone: &TimeZone, lang: Lang) -> Vec<Finding> {
    let failed = status.lanes.iter().filter(|lane| lane.error.is_some() && lane.state != State::Held);
    let same = |a: &LaneStatus, b: &LaneStatus| {
        (a.state, &a.error, &a.hint, &a.kind) == (b.state, &b.error, &b.hint, &b.kind)
    };
    let of_group = |lanes: &Vec<&LaneStatus>| {
        let first = lanes.first()?;
        let since_us = lanes.iter().map(|lane| lane.since_us).min().unwrap_or(first.since_us);
        let (names, is, since) = (names(lanes), is(lanes), moment::text(since_us, zone));
        let (state, error) = (pace::state(first.state, lang), first.error.as_deref().unwrap_or_default());
        let what = lang.pick(
            format!("{names} {is} {state} since {since}: {error}"),
            format!("{names}：自 {since} 起{state}：{error}"),
        );
        Some(Finding::new(what, first.hint.as_deref(), first.kind.as_deref(), lang))
    };
    alike(failed, same).iter().filter_map(of_group).collect()
}

fn of_part(part: &PartStatus, now_us: i64, lang: Lang) -> Option<Finding> {
    let error = part.error.as_deref().filter(|_| part.answers == Some(false))?;
    let since = table::seconds(now_us.saturating_sub(part.since_us).max(0) as f64 / 1e6);
    let name = &part.name;
    let what = lang.pick(
        format!("{name} has not answered for {since}: {error}"),
        format!("{name} 已有 {since} 没有应答：{error}"),
    );
    let code = if name == "bus" { "HutongBusDown" } else { "HutongStoreDown" };
    Some(Finding::new(what, part.hint.as_deref(), Some(code), lang))
}

/// Returns what stands before what a person may do.
pub(super) fn to_do(lang: Lang) -> &'static str {
    lang.pick("what to do: ", "处理办法：")
}

/// Returns the runbook's code of a verdict, where it has one.
fn code(verdict: Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Slow => Some("HutongLaneSlow"),
        Verdict::Stalled => Some("HutongLaneStalled"),
        Verdict::Stopped => Some("HutongLaneStopped"),
        Verdict::Blocked => Some("HutongTransactionOpen"),
        Verdict::Ok | Verdict::Rewound | Verdict::Paused => None,
    }
}

/// Returns what is to be thought of the lanes that run, have no error and are not well all the same.
fn verdicts(status: &Status, lang: Lang) -> Vec<Finding> {
    // A pause is told of the pipeline as a whole.
    let well = |lane: &LaneStatus| matches!(lane.verdict, Verdict::Ok | Verdict::Paused);
    let ill = status.lanes.iter().filter(|lane| !well(lane) && lane.error.is_none());
    let same =
        |a: &LaneStatus, b: &LaneStatus| (a.verdict, &a.reason, &a.hint) == (b.verdict, &b.reason, &b.hint);
    let of_group = |lanes: &Vec<&LaneStatus>| {
        let first = lanes.first()?;
        let (names, is, word) = (names(lanes), is(lanes), pace::verdict(first.verdict, lang));
        let why = pace::reason(&first.reason, &first.reason_zh, lang);
        let what = lang.pick(format!("{names} {is} {word}: {why}"), format!("{names}：{word}，{why}"));
        // Of a transaction that was left open the hint names it.
        Some(Finding::new(what, first.hint.as_deref(), code(first.verdict), lang))
    };
    alike(ill, same).iter().filter_map(of_group).collect()
}

/// Returns the pipelines that are later than their subscription promises.
fn late(status: &Status, lang: Lang) -> Vec<Finding> {
    let late = |lane: &&LaneStatus| lane.freshness_seconds.is_some_and(|target| lane.lag_seconds > target);
    let of_group = |lanes: &Vec<&LaneStatus>| {
        let target = table::seconds(lanes.first()?.freshness_seconds?);
        let lag = table::seconds(lanes.iter().map(|lane| lane.lag_seconds).fold(0.0, f64::max));
        let (names, is) = (names(lanes), is(lanes));
        let (up_to, zh_up_to) = if lanes.len() == 1 { ("", "") } else { ("up to ", "最多") };
        let what = lang.pick(
            format!("{names} {is} {up_to}{lag} behind, and the subscription promises {target}"),
            format!("{names} {zh_up_to}落后 {lag}，而其订阅承诺 {target}"),
        );
        Some(Finding::new(what, None, Some("HutongFreshnessMissed"), lang))
    };
    alike(status.lanes.iter().filter(late), |_, _| true).iter().filter_map(of_group).collect()
}

/// Returns the tables and streams whose changes are dropped.
fn suspended(status: &Status, lang: Lang) -> Vec<Finding> {
    let mend = lang.pick(
        "mend that, and start again; the table is then read anew",
        "排除原因后重新启动，该表会从头再读一遍",
    );
    let is = lang.pick("is suspended", "已挂起");
    let all = status.lanes.iter().flat_map(|lane| lane.suspended.iter().map(move |table| (lane, table)));
    all.map(|(lane, table)| {
        let what = format!("{}: {} {is}: {}", lane.lane, table.table, table.reason);
        Finding::new(what, Some(mend), Some("HutongSchemaRefused"), lang)
    })
    .collect()
}

/// Returns the pipelines of which something is set aside.
///
/// What was replayed or discarded waits no more; the quarantine of a capture and of a delivery is a topic, which keeps
/// all for good, so of these is told what they have set aside since they started.
fn quarantined(status: &Status, zone: &TimeZone, lang: Lang) -> Vec<Finding> {
    let sets_aside = |lane: &&LaneStatus| lane.waiting.unwrap_or(lane.quarantined) > 0;
    let of_group = |lanes: &Vec<&LaneStatus>| {
        let pipeline = lanes.first()?.pipeline.as_str();
        let own = ["replicate.", "deliver."].into_iter().find_map(|kind| pipeline.strip_prefix(kind));
        let name = own.unwrap_or(pipeline);
        let what = if lanes.iter().any(|lane| lane.waiting.is_some()) {
            let count: u64 = lanes.iter().filter_map(|lane| lane.waiting).sum();
            let oldest = lanes.iter().filter_map(|lane| lane.oldest_us).min();
            let since = oldest.map(|us| moment::text(us, zone));
            let en = since.as_ref().map(|since| format!(", the oldest since {since}")).unwrap_or_default();
            let zh = since.as_ref().map(|since| format!("，最早的自 {since} 起")).unwrap_or_default();
            let wait = if count == 1 { "change waits" } else { "changes wait" };
            lang.pick(
                format!("{pipeline}: {count} {wait} in the quarantine{en}"),
                format!("{pipeline}：隔离区有 {count} 条变更在等待{zh}"),
            )
        } else {
            let count: u64 = lanes.iter().map(|lane| lane.quarantined).sum();
            let changes = if count == 1 { "change was" } else { "changes were" };
            lang.pick(
                format!("{pipeline}: {count} {changes} set aside since it started"),
                format!("{pipeline}：自启动以来有 {count} 条变更被隔离"),
            )
        };
        let hint = lang.pick(
            format!("`hutong quarantine list {name}` names each with its reason"),
            format!("`hutong quarantine list {name}` 列出每一条及其原因"),
        );
        Some(Finding::new(what, Some(&hint), Some("HutongQuarantineGrew"), lang))
    };
    alike(status.lanes.iter().filter(sets_aside), |_, _| true).iter().filter_map(of_group).collect()
}

#[cfg(test)]
mod tests {
    use hutong_core::{Kind, LaneId, Pause, PipelineId};
    use hutong_engine::Board;
    use hutong_engine::status::Promise;

    use super::*;

    fn lanes(pipeline: &str, count: u32) -> Vec<LaneStatus> {
        let board = Board::new();
        for partition in 0..count {
            board.add(LaneId::new(PipelineId::new(Kind::Replicate, pipeline), partition), 0, now_us());
        }
        board.status(now_us())
    }

    fn of(lanes: Vec<LaneStatus>) -> Status {
        Status { version: String::new(), lanes, parts: Vec::new(), share: None }
    }

    fn said(status: &Status, lang: Lang) -> Vec<String> {
        findings(status, &TimeZone::UTC, lang).iter().map(|found| found.paragraph(lang)).collect()
    }

    #[test]
    fn says_what_is_not_well_and_nothing_of_the_rest() {
        let board = Board::new();
        for name in ["a", "b"] {
            let id = LaneId::new(PipelineId::new(Kind::Replicate, name), 0);
            let freshness = Some(std::time::Duration::from_secs(60));
            board.add(id, 0, now_us()).promise(Promise { freshness, ..Promise::default() });
        }
        let mut lanes = board.status(now_us());
        lanes[1].lag_seconds = 75.0;
        let (mut still, mut alike) = (lanes[0].clone(), lanes[0].clone());
        (still.state, still.verdict) = (State::Paused, Verdict::Paused);
        still.pause = Some(Pause { since_us: 0, by: "li".into(), reason: "维护".into() });
        (alike.state, alike.verdict, alike.pause) = (still.state, still.verdict, still.pause.clone());
        (lanes[1].verdict, lanes[1].reason) = (Verdict::Stalled, "7 changes wait".into());
        lanes[1].reason_zh = "7 条变更在等待".into();
        let part = |name: &str, error: Option<&str>| PartStatus {
            name: name.into(),
            answers: Some(error.is_none()),
            since_us: now_us() - 30_000_000,
            error: error.map(str::to_owned),
            hint: None,
        };
        let parts = vec![part("bus", None), part("store renshe", Some("failed to connect"))];
        let lanes = [vec![still, alike], lanes].concat();
        let status = Status { version: String::new(), lanes, parts, share: None };
        assert_eq!(
            paused(&status, &TimeZone::UTC, Lang::En),
            [
                "replicate.a is paused since 1970-01-01 00:00:00 +00:00, by li, because: 维护\n  what to do: when that is \
              over, `hutong subscription resume a`"
            ]
        );
        assert_eq!(
            paused(&status, &TimeZone::UTC, Lang::Zh),
            [
                "replicate.a 已暂停：自 1970-01-01 00:00:00 +00:00，由 li，原因：维护\n  处理办法：事毕后执行 `hutong \
                 subscription resume a`"
            ]
        );
        let rows = [
            (
                Lang::En,
                [
                    "store renshe has not answered for 30 s: failed to connect\n  what to do: Call the department.",
                    "replicate.b.0 is stalled: 7 changes wait\n  what to do: If its capture is silent, go to",
                    "replicate.b.0 is 75 s behind, and the subscription promises 60 s\n  what to do: If `hutong status`",
                ],
                "\n  more: hutong explain ",
            ),
            (
                Lang::Zh,
                [
                    "store renshe 已有 30 s 没有应答：failed to connect\n  处理办法：联系该部门。",
                    "replicate.b.0：毫无进展，7 条变更在等待\n  处理办法：如果是捕获",
                    "replicate.b.0 落后 75 s，而其订阅承诺 60 s\n  处理办法：如果 `hutong status`",
                ],
                "\n  详见: hutong explain ",
            ),
        ];
        for (lang, begin, more) in rows {
            let said = said(&status, lang);
            assert_eq!(said.len(), 3, "{said:?}");
            for ((said, begin), code) in
                said.iter().zip(begin).zip(["HutongStoreDown", "HutongLaneStalled", "HutongFreshnessMissed"])
            {
                assert!(said.starts_with(begin) && said.ends_with(&format!("{more}{code}")), "{said}");
            }
        }
    }

    #[test]
    fn the_hint_of_a_transaction_that_was_left_open_names_it() {
        let mut lane = lanes("a", 1).remove(0);
        (lane.verdict, lane.hint) = (Verdict::Blocked, Some("`kafka-transactions.sh abort` ends it".into()));
        (lane.reason, lane.reason_zh) = ("a transaction is open".into(), "有一个事务没有关闭".into());
        let status = of(vec![lane]);
        assert_eq!(
            said(&status, Lang::En),
            [
                "replicate.a.0 is blocked: a transaction is open\n  what to do: `kafka-transactions.sh abort` ends it\n  \
                 more: hutong explain HutongTransactionOpen"
            ]
        );
        assert_eq!(
            said(&status, Lang::Zh),
            [
                "replicate.a.0：被未关闭的事务挡住，有一个事务没有关闭\n  处理办法：`kafka-transactions.sh abort` ends it\n  \
                 详见: hutong explain HutongTransactionOpen"
            ]
        );
    }

    #[test]
    fn lanes_that_fail_alike_are_told_once_with_one_cure_and_their_code() {
        let mut failed = lanes("a", 4);
        for (lane, since_us) in failed.iter_mut().zip([3_000_000, 2_000_000, 0, 0]) {
            (lane.state, lane.since_us) = (State::Retrying, since_us);
            (lane.error, lane.kind) = (Some("failed to connect".into()), Some("unavailable".into()));
        }
        // One of them for another reason, of which it knows more than the runbook.
        failed[2].error = Some("failed to write".into());
        failed[2].hint = Some("make room".into());
        failed[3].state = State::Halted;
        let mut other = lanes("b", 1).remove(0);
        (other.state, other.since_us) = (State::Retrying, 2_000_000);
        (other.error, other.kind) = (failed[0].error.clone(), failed[0].kind.clone());
        let status = of([failed, vec![other]].concat());
        for (lang, begin) in [
            (
                Lang::En,
                [
                    "replicate.a.0, replicate.a.1 are retrying since 1970-01-01 00:00:02 +00:00: failed to connect\n  what \
                     to do: Bring the other side back",
                    "replicate.a.2 is retrying since 1970-01-01 00:00:00 +00:00: failed to write\n  what to do: make room\n",
                    "replicate.a.3 is halted since 1970-01-01 00:00:00 +00:00: failed to connect\n  what to do: Bring",
                    "replicate.b.0 is retrying since 1970-01-01 00:00:02 +00:00: failed to connect\n  what to do: Bring",
                ],
            ),
            (
                Lang::Zh,
                [
                    "replicate.a.0, replicate.a.1：自 1970-01-01 00:00:02 +00:00 起",
                    "replicate.a.2：自 ",
                    "replicate.a.3：自 ",
                    "replicate.b.0：自 ",
                ],
            ),
        ] {
            let said = said(&status, lang);
            assert_eq!(said.len(), 4, "{said:?}");
            for (said, begin) in said.iter().zip(begin) {
                assert!(said.starts_with(begin), "{said}");
                assert!(said.ends_with("hutong explain unavailable"), "{said}");
                assert_eq!(said.matches(to_do(lang)).count(), 1, "one cure: {said}");
            }
        }
    }

    #[test]
    fn i3_what_waits_in_a_quarantine_is_told_once_a_pipeline() {
        let mut names = lanes("names", 3);
        (names[0].waiting, names[0].oldest_us, names[0].quarantined) = (Some(2), Some(7_000_000), 9);
        (names[1].waiting, names[1].quarantined) = (Some(0), 5);
        (names[2].waiting, names[2].oldest_us) = (Some(1), Some(3_000_000));
        let mut one = lanes("one", 1);
        one[0].waiting = Some(1);
        let mut capture = lanes("x", 1);
        (capture[0].pipeline, capture[0].quarantined) = ("capture.gongan".into(), 4);
        // What was settled waits no more.
        let mut settled = lanes("settled", 1);
        (settled[0].waiting, settled[0].quarantined) = (Some(0), 3);
        let status = of([names, one, capture, settled].concat());
        let more = "\n  more: hutong explain HutongQuarantineGrew";
        assert_eq!(
            said(&status, Lang::En),
            [
                format!(
                    "replicate.names: 3 changes wait in the quarantine, the oldest since 1970-01-01 00:00:03 +00:00\n  what \
                     to do: `hutong quarantine list names` names each with its reason{more}"
                ),
                format!(
                    "replicate.one: 1 change waits in the quarantine\n  what to do: `hutong quarantine list one` names each \
                     with its reason{more}"
                ),
                format!(
                    "capture.gongan: 4 changes were set aside since it started\n  what to do: `hutong quarantine list \
                     capture.gongan` names each with its reason{more}"
                ),
            ]
        );
        let chinese = said(&status, Lang::Zh);
        assert_eq!(
            chinese[0],
            "replicate.names：隔离区有 3 条变更在等待，最早的自 1970-01-01 00:00:03 +00:00 起\n  处理办法：`hutong quarantine \
             list names` 列出每一条及其原因\n  详见: hutong explain HutongQuarantineGrew"
        );
        assert_eq!(chinese.len(), 3);
    }
}
