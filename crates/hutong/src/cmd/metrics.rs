//! `hutong metrics`: the table of all metrics, the alerts and the board that are shipped.

use std::fmt::Write as _;

use clap::Subcommand;
use hutong_core::snapshot::Progress;
use hutong_core::{Error, ErrorKind, Kind, LaneId, PipelineId, Position, Result};
use hutong_engine::parts::Retained;
use hutong_engine::status::{Promise, now_us};
use hutong_engine::{Board, Metrics};

use crate::exit::Exit;

const RULES: &str = include_str!("../../../../deploy/prometheus/hutong.rules.yml");
const BOARD: &str = include_str!("../../../../deploy/grafana/hutong.json");

/// What stands before how long ago a condition looks.
const OFFSET: &str = " offset ";

/// Where the shipped rules say that the runbook is.
const RUNBOOK: &str = "RUNBOOK.md";

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Prints every metric with its labels, as a page of Markdown.
    List,
    /// Prints the alert rules for Prometheus.
    Rules {
        /// How long each condition must hold before its alert fires, in place of the shipped times: `5s`.
        #[arg(long, value_name = "TIME")]
        r#for: Option<String>,
        /// How far each condition looks back, in place of the shipped times.
        #[arg(long, value_name = "TIME")]
        over: Option<String>,
        /// Where your copy of RUNBOOK.md is; the alerts link its sections.
        #[arg(long, value_name = "URL")]
        runbook: Option<String>,
    },
    /// Prints the board for Grafana.
    Dashboard,
}

pub(super) fn run(action: Action) -> Result<Exit> {
    match action {
        Action::List => print!("{}", page()?),
        Action::Rules { r#for, over, runbook } => {
            print!("{}", rules(r#for.as_deref(), over.as_deref(), runbook.as_deref())?);
        }
        Action::Dashboard => print!("{BOARD}"),
    }
    Ok(Exit::Done)
}

/// Returns the shipped rules with other times and another runbook.
fn rules(wait: Option<&str>, over: Option<&str>, runbook: Option<&str>) -> Result<String> {
    for time in [wait, over].into_iter().flatten() {
        if !is_time(time) {
            let hint = "a whole number and s, m, h or d, such as 30s".to_owned();
            let doing = format!("read the time `{time}`");
            return Err(Error::new(ErrorKind::Config, doing, "Prometheus knows no such time").hint(hint));
        }
    }
    let mut text = String::with_capacity(RULES.len());
    for line in RULES.lines() {
        let indent = line.len() - line.trim_start().len();
        match (line.trim_start(), wait, over, runbook) {
            (rest, Some(wait), _, _) if rest.starts_with("for: ") => {
                text.push_str(&line[..indent]);
                text.push_str("for: ");
                text.push_str(wait);
            }
            (rest, _, _, Some(runbook)) if rest.starts_with("runbook_url: ") => {
                text.push_str(&line.replacen(RUNBOOK, runbook, 1));
            }
            (rest, _, Some(over), _) if !rest.starts_with('#') => text.push_str(&ranges(line, over)),
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    Ok(text)
}

/// Puts another time into each range and each offset, as `[10m] offset 10m`.
fn ranges(line: &str, over: &str) -> String {
    let mut pieces = line.split('[');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        text.push('[');
        match piece.split_once(']') {
            Some((time, rest)) if is_time(time) => {
                let _ = write!(text, "{over}]{rest}");
            }
            _ => text.push_str(piece),
        }
    }
    let mut pieces = text.split(OFFSET);
    let mut moved = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(piece.len());
        let (time, rest) = piece.split_at(end);
        let _ = write!(moved, "{OFFSET}{}{rest}", if is_time(time) { over } else { time });
    }
    moved
}

fn is_time(text: &str) -> bool {
    let digits = text.trim_end_matches(['s', 'm', 'h', 'd']);
    digits.len() + 1 == text.len() && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Returns the page of all metrics, `deploy/METRICS.md`.
fn page() -> Result<String> {
    let mut text = String::from(
        "# Metrics\n\nEvery metric of `hutong run`, as `/metrics` serves it. This page is what `hutong metrics list` \
         prints. Every series is there from the start; a missing one means \"not known\" and never \"none\". \
         `pipeline` is `capture.<name>` or `replicate.<name>`.\n\n| metric | kind | what it tells |\n|---|---|---|\n",
    );
    for Family { name, labels, kind, help } in families()? {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(text, "| `{name}{labels}` | {kind} | {help} |");
    }
    Ok(text)
}

/// A family of metrics.
struct Family {
    name: String,
    labels: Vec<String>,
    kind: String,
    help: String,
}

/// Returns every family.
fn families() -> Result<Vec<Family>> {
    let (board, metrics) = (Board::new(), Metrics::new()?);
    for kind in [Kind::Capture, Kind::Replicate] {
        let id = LaneId::new(PipelineId::new(kind, "name"), 0);
        metrics.lane_added(&id);
        metrics.lanes_configured(&id.pipeline, 1);
        let hour = Some(std::time::Duration::from_secs(3_600));
        board.add(id, 0, now_us()).promise(Promise { freshness: hour, history: hour, unmarked: false });
    }
    metrics.latency().stream_added("name");
    metrics.stream_captured("name");
    metrics.certificates().ends("bus", "own", Some(0));
    metrics.ledgered().added();
    let parts = metrics.parts();
    parts.bus_added(0);
    parts.bus_free(0);
    parts.store_added("name", 0);
    parts.clock("name", 0);
    parts.retained("name", Retained { bytes: 0, safe_bytes: Some(0), lost: false });
    metrics.verified().done("name", 0, 0);
    let mut lanes = board.status(now_us());
    // What only some sources can tell.
    for lane in &mut lanes {
        (lane.lag_changes, lane.lag_bytes, lane.waiting) = (Some(0), Some(0), Some(0));
        lane.schemas.insert("topic".into(), 1);
        lane.positions.insert("topic/0".into(), Position::offset(0));
        lane.snapshots.push(Progress { table: "name".into(), rows: 0, estimate: None, done: false });
    }
    let described = metrics.families(&lanes).into_iter().map(|family| {
        let labels = family.get_metric().first().map_or_else(Vec::new, |metric| {
            metric.get_label().iter().map(|label| label.name().to_owned()).collect()
        });
        let kind = format!("{:?}", family.get_field_type()).to_lowercase();
        Family { name: family.name().to_owned(), labels, kind, help: family.help().to_owned() }
    });
    Ok(described.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;
    use crate::cmd::explain;
    use crate::lang::Lang;

    #[test]
    fn the_page_of_metrics_is_what_the_program_prints() {
        assert_eq!(
            include_str!("../../../../deploy/METRICS.md"),
            page().unwrap(),
            "cargo run -p hutong -- metrics list > deploy/METRICS.md"
        );
    }

    /// Returns the names of metrics in a text, without the suffixes of histograms.
    fn named(text: &str) -> Vec<String> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let found = text.split(|c| !is_name(c)).filter(|word| word.starts_with("hutong_"));
        let parts = ["_bucket", "_sum", "_count"];
        found
            .map(|word| parts.iter().find_map(|part| word.strip_suffix(part)).unwrap_or(word).to_owned())
            .collect()
    }

    #[test]
    fn alerts_and_board_name_only_metrics_that_exist() {
        let known: Vec<String> = families().unwrap().into_iter().map(|family| family.name).collect();
        let board: Json = serde_json::from_str(BOARD).unwrap();
        let panels = board["panels"].as_array().unwrap();
        assert!(panels.len() > 8);
        for text in [RULES, BOARD] {
            let named = named(text);
            assert!(named.len() > 10);
            for name in named {
                assert!(known.contains(&name), "{name}");
            }
        }
    }

    #[test]
    fn the_shipped_rules_are_printed_as_they_are_and_with_other_times() {
        assert_eq!(rules(None, None, None).unwrap(), RULES);
        let other = rules(Some("5s"), Some("20s"), Some("https://wiki/RUNBOOK.md")).unwrap();
        assert!(other.contains("[20s]") && !other.contains("[10m]") && !other.contains("for: 1m"), "{other}");
        assert!(other.contains(" offset 20s))") && !other.contains("offset 10m"), "{other}");
        assert_eq!(
            other.matches("runbook_url: https://wiki/RUNBOOK.md#").count(),
            RULES.matches("- alert: ").count()
        );
        assert!(other.contains(r#"pipeline=~"capture[.].+""#), "{other}");
        for wrong in ["", "s", "5", "5 s", "5x", "1m30s"] {
            assert_eq!(rules(Some(wrong), None, None).unwrap_err().kind, ErrorKind::Config, "{wrong}");
        }
    }

    #[test]
    fn every_alert_and_every_kind_of_error_has_its_section_in_the_runbook() {
        let sections: Vec<(&str, &str)> = explain::sections(Lang::En).collect();
        let alerts: Vec<&str> =
            RULES.lines().filter_map(|line| line.trim_start().strip_prefix("- alert: ")).collect();
        assert!(alerts.len() > 10);
        let kinds: Vec<&str> = ErrorKind::ALL.into_iter().map(ErrorKind::name).collect();
        let wanted: Vec<&str> = alerts.iter().chain(&kinds).copied().collect();
        for name in &wanted {
            let found = sections.iter().find(|(title, _)| title == name);
            let (_, text) = found.unwrap_or_else(|| panic!("RUNBOOK.md has no section {name}"));
            for part in ["**What it means.**", "**How to see it.**", "**What to do.**", "**What not to do.**"]
            {
                assert!(text.contains(part), "{name} lacks {part}");
            }
        }
        for (title, _) in &sections {
            assert!(wanted.contains(title), "{title} is no alert and no kind of error");
        }
        for alert in &alerts {
            let link = format!("runbook_url: RUNBOOK.md#{}\n", alert.to_lowercase());
            assert!(RULES.contains(&link), "{link}");
        }
        assert_eq!(RULES.matches("summary: ").count(), alerts.len());
        assert_eq!(RULES.matches("summary_zh: ").count(), alerts.len());
    }
}
