//! What `hutong status` says of lanes that run and are not well all the same, and of what stands around them.

use hutong_engine::status::now_us;
use hutong_engine::{LaneStatus, PartStatus, State, Verdict};
use jiff::tz::TimeZone;

use super::{explain, pace, table, told};
use crate::http::status::Status;
use crate::lang::Lang;
use crate::moment;

/// Returns a paragraph for each thing that is not well and has no error of its own.
pub(super) fn paragraphs(status: &Status, lang: Lang) -> Vec<String> {
    let now_us = now_us();
    let parts = status.parts.iter().filter_map(|part| of_part(part, now_us, lang));
    parts.chain(status.lanes.iter().flat_map(|lane| of_lane(lane, lang))).collect()
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

fn of_part(part: &PartStatus, now_us: i64, lang: Lang) -> Option<String> {
    let error = part.error.as_deref().filter(|_| part.answers == Some(false))?;
    let since = table::seconds(now_us.saturating_sub(part.since_us).max(0) as f64 / 1e6);
    let name = &part.name;
    let mut text = lang.pick(
        format!("{name} does not answer for {since}: {error}"),
        format!("{name} 已有 {since} 没有应答：{error}"),
    );
    if let Some(hint) = &part.hint {
        text.push_str(&format!("\n  {}{hint}", to_do(lang)));
    }
    Some(text)
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

fn of_lane(lane: &LaneStatus, lang: Lang) -> Vec<String> {
    let mut said = Vec::new();
    // A pause is told of the pipeline as a whole.
    if !matches!(lane.verdict, Verdict::Ok | Verdict::Paused) && lane.error.is_none() {
        let word = pace::verdict(lane.verdict, lang);
        let why = pace::reason(&lane.reason, &lane.reason_zh, lang);
        said.push(match (lang, code(lane.verdict).and_then(|code| explain::cure(code, lang))) {
            // That names the transaction.
            (_, _) if lane.verdict == Verdict::Blocked => {
                let cure = lane.hint.as_deref().unwrap_or_default();
                let is = lang
                    .pick(format!("{} is {word}: {why}", lane.lane), format!("{}：{word}，{why}", lane.lane));
                format!("{is}\n  {}{cure}", to_do(lang))
            }
            (Lang::En, _) => format!("{} is {word}: {why}", lane.lane),
            (Lang::Zh, Some(cure)) => format!("{}：{word}，{why}\n  处理办法：{cure}", lane.lane),
            (Lang::Zh, None) => format!("{}：{word}，{why}", lane.lane),
        });
    }
    if let Some(target) = lane.freshness_seconds.filter(|target| lane.lag_seconds > *target) {
        let (lag, target) = (table::seconds(lane.lag_seconds), table::seconds(target));
        let name = &lane.lane;
        said.push(lang.pick(
            format!("{name} is {lag} behind, and its subscription promises {target}"),
            format!("{name} 落后 {lag}，而其订阅承诺 {target}"),
        ));
    }
    said
}

#[cfg(test)]
mod tests {
    use hutong_core::{Kind, LaneId, Pause, PipelineId};
    use hutong_engine::Board;
    use hutong_engine::status::Promise;

    use super::*;

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
        let chinese = [paused(&status, &TimeZone::UTC, Lang::Zh), paragraphs(&status, Lang::Zh)].concat();
        assert_eq!(
            chinese[..2],
            [
                "replicate.a 已暂停：自 1970-01-01 00:00:00 +00:00，由 li，原因：维护\n  处理办法：事毕后执行 `hutong \
                 subscription resume a`",
                "store renshe 已有 30 s 没有应答：failed to connect",
            ]
        );
        assert!(
            chinese[2].starts_with("replicate.b.0：毫无进展，7 条变更在等待\n  处理办法：如果是捕获"),
            "{chinese:?}"
        );
        assert_eq!(chinese[3], "replicate.b.0 落后 75 s，而其订阅承诺 60 s");
        let mut blocked = status.lanes[2].clone();
        (blocked.verdict, blocked.lag_seconds) = (Verdict::Blocked, 9.0);
        (blocked.reason, blocked.reason_zh) = ("a transaction is open".into(), "有一个事务没有关闭".into());
        blocked.hint = Some("`kafka-transactions.sh abort` ends it".into());
        assert_eq!(
            of_lane(&blocked, Lang::En),
            [
                "replicate.a.0 is blocked: a transaction is open\n  what to do: `kafka-transactions.sh abort` ends it"
            ]
        );
        assert_eq!(
            of_lane(&blocked, Lang::Zh),
            [
                "replicate.a.0：被未关闭的事务挡住，有一个事务没有关闭\n  处理办法：`kafka-transactions.sh abort` ends it"
            ]
        );
        let said = paragraphs(&status, Lang::En);
        assert_eq!(
            said,
            [
                "store renshe does not answer for 30 s: failed to connect",
                "replicate.b.0 is stalled: 7 changes wait",
                "replicate.b.0 is 75 s behind, and its subscription promises 60 s",
            ]
        );
    }
}
