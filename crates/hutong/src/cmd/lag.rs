//! `hutong lag`: how far behind each pipeline is, once or again and again.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use hutong_core::{ErrorKind, Result, ResultExt};
use hutong_engine::status::now_us;
use hutong_engine::{LaneStatus, Verdict};
use serde::Serialize;

use super::arguments::Output;
use super::{check, looking, pace, status, table};
use crate::exit::Exit;
use crate::lang::Lang;
use crate::moment;
use crate::program::aside;

/// How often it is asked again.
const AGAIN: Duration = Duration::from_secs(2);

/// One pipeline: of times its worst lane, of counts all lanes together.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    pipeline: String,
    lag_seconds: f64,
    freshness_seconds: Option<f64>,
    lag_changes: Option<u64>,
    headroom_seconds: Option<f64>,
    verdict: Verdict,
    reason: String,
    reason_zh: String,
}

pub(super) async fn run(config: &Path, options: &looking::Lag, lang: Lang) -> Result<Exit> {
    let plan = check::load(config)?;
    let mut answered = false;
    loop {
        match status::ask(&plan).await {
            Ok(status) => {
                let rows = rows(&status.lanes);
                print(&rows, options, lang)?;
                if !options.watch {
                    return Ok(if rows.iter().any(Row::missed) { Exit::Broken } else { Exit::Done });
                }
                answered = true;
            }
            // Who watches sees a restart pass; who never had an answer asks in the wrong place.
            Err(error) if options.watch && answered => {
                let at = moment::text(now_us(), &plan.bus.zone);
                let said =
                    lang.pick(format!("no answer at {at}: {error}"), format!("{at} 没有应答：{error}"));
                match options.output {
                    Output::Json => aside(format_args!("{said}\n")),
                    Output::Text => println!("{said}"),
                }
            }
            Err(error) => return Err(error),
        }
        std::io::stdout().flush().or_kind(ErrorKind::Unavailable, || "print lag".into())?;
        tokio::time::sleep(AGAIN).await;
    }
}

fn print(rows: &[Row], options: &looking::Lag, lang: Lang) -> Result<()> {
    let terminal = std::io::stdout().is_terminal();
    let text = match options.output {
        // One document a look, so that a program can read them line by line.
        Output::Json => serde_json::to_string(rows).or_kind(ErrorKind::Broken, || "print lag".into())?,
        Output::Text => table::lines(&written(rows, lang)).join("\n"),
    };
    let before = if options.watch && terminal { "\x1b[2J\x1b[H" } else { "" };
    let behind = if options.watch && options.output == Output::Text && !terminal { "\n" } else { "" };
    println!("{before}{text}{behind}");
    Ok(())
}

impl Row {
    fn missed(&self) -> bool {
        self.freshness_seconds.is_some_and(|target| self.lag_seconds > target)
    }
}

fn rows(lanes: &[LaneStatus]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for lane in lanes {
        // Lanes come by name, so those of a pipeline stand together.
        match rows.last_mut().filter(|row| row.pipeline == lane.pipeline) {
            None => rows.push(Row {
                pipeline: lane.pipeline.clone(),
                lag_seconds: lane.lag_seconds,
                freshness_seconds: lane.freshness_seconds,
                lag_changes: lane.lag_changes,
                headroom_seconds: lane.headroom_seconds,
                verdict: lane.verdict,
                reason: lane.reason.clone(),
                reason_zh: lane.reason_zh.clone(),
            }),
            Some(row) => {
                if lane.verdict != Verdict::Ok
                    && (row.verdict == Verdict::Ok || lane.lag_seconds > row.lag_seconds)
                {
                    row.verdict = lane.verdict;
                    (row.reason, row.reason_zh) = (lane.reason.clone(), lane.reason_zh.clone());
                }
                row.lag_seconds = row.lag_seconds.max(lane.lag_seconds);
                // What one lane does not know, nobody knows of all.
                row.lag_changes = row.lag_changes.zip(lane.lag_changes).map(|(a, b)| a + b);
                row.headroom_seconds = row.headroom_seconds.zip(lane.headroom_seconds).map(|(a, b)| a.min(b));
            }
        }
    }
    rows
}

fn written(rows: &[Row], lang: Lang) -> Vec<Vec<String>> {
    let english = ["pipeline", "lag", "promised", "behind", "headroom", "verdict"];
    let head = lang.pick(english, ["管道", "延迟", "承诺", "落后", "保留余量", "结论"]);
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let time = |seconds: Option<f64>| seconds.map_or_else(|| "-".into(), table::seconds);
    for row in rows {
        let verdict = match row.verdict {
            Verdict::Ok if row.missed() => {
                lang.pick("ok, and later than promised", "正常，但超过承诺的时效").into()
            }
            Verdict::Ok => pace::verdict(Verdict::Ok, lang).into(),
            verdict => {
                let why = pace::reason(&row.reason, &row.reason_zh, lang);
                format!("{}: {why}", pace::verdict(verdict, lang))
            }
        };
        lines.push(vec![
            row.pipeline.clone(),
            table::seconds(row.lag_seconds),
            time(row.freshness_seconds),
            row.lag_changes.map_or_else(|| "?".into(), table::thousands),
            time(row.headroom_seconds),
            verdict,
        ]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use hutong_core::{Kind, LaneId, PipelineId};
    use hutong_engine::Board;

    use super::*;

    #[test]
    fn a_pipeline_is_as_late_as_its_worst_lane() {
        let board = Board::new();
        for partition in 0..3 {
            board.add(LaneId::new(PipelineId::new(Kind::Replicate, "a"), partition), 0, now_us());
        }
        let mut lanes = board.status(now_us());
        lanes.iter_mut().for_each(|lane| {
            (lane.lag_seconds, lane.lag_changes) = (0.0, Some(2));
            (lane.freshness_seconds, lane.headroom_seconds) = (Some(60.0), Some(90.0));
        });
        (lanes[1].lag_seconds, lanes[1].headroom_seconds) = (75.0, Some(15.0));
        (lanes[1].verdict, lanes[1].reason) = (Verdict::Slow, "it fell behind".into());
        lanes[1].reason_zh = "越落越远的原因".into();
        let rows = rows(&lanes);
        assert_eq!(rows.len(), 1);
        assert!(rows[0].missed());
        assert_eq!(
            table::lines(&written(&rows, Lang::En)),
            [
                "pipeline     lag   promised  behind  headroom  verdict",
                "replicate.a  75 s  60 s      6       15 s      slow: it fell behind"
            ]
        );
        let chinese = table::lines(&written(&rows, Lang::Zh));
        assert!(chinese[1].ends_with("越落越远: 越落越远的原因"), "{chinese:?}");
    }
}
