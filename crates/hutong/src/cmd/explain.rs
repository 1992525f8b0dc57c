//! `hutong explain`: the runbook's section of an alert or of a kind of halt.

use hutong_core::problem::nearest;
use hutong_core::{Error, ErrorKind, Result};

use crate::exit::Exit;

/// The runbook, whose sections are called by their codes.
pub(super) const RUNBOOK: &str = include_str!("../../../../RUNBOOK.md");

/// Prints the section of a code, or every code with what it means.
pub(super) fn run(code: Option<&str>) -> Result<Exit> {
    match code {
        Some(code) => println!("{}", plain(section(code)?)),
        None => sections().for_each(|(code, text)| println!("{code}\n  {}\n", meaning(text))),
    }
    Ok(Exit::Done)
}

/// Returns every code of the runbook with its section.
pub(super) fn sections() -> impl Iterator<Item = (&'static str, &'static str)> {
    let sections = RUNBOOK.split("\n### ").skip(1).filter_map(|section| section.split_once('\n'));
    // The last section of a chapter ends where the next chapter begins.
    sections.map(|(title, text)| (title.trim_matches('`'), text.split("\n## ").next().unwrap_or(text).trim()))
}

/// Returns the section of a code, however its letters are written; `Err(Config)` names the nearest that there is.
fn section(code: &str) -> Result<&'static str> {
    if let Some((_, text)) = sections().find(|(known, _)| known.eq_ignore_ascii_case(code)) {
        return Ok(text);
    }
    let error = Error::new(ErrorKind::Config, format!("explain {code}"), "there is no such code");
    Err(error.hint(match nearest(code, sections().map(|(known, _)| known)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`hutong explain` lists all codes".to_owned(),
    }))
}

fn meaning(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    plain(first.trim_start_matches("**What it means.** "))
}

/// Returns Markdown as plain text: no emphasis, and of a link its words.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](#") {
        match (before.rfind('['), after.split_once(')')) {
            (Some(open), Some((_, after))) => {
                plain.push_str(&before[..open]);
                plain.push_str(&before[open + 1..]);
                rest = after;
            }
            _ => break,
        }
    }
    plain.push_str(rest);
    plain.replace("**", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_section_and_prints_it_without_marks() {
        let lost = plain(section("Position_Lost").unwrap());
        assert!(lost.starts_with("What it means. The origin no longer holds"), "{lost}");
        let forecast = plain(section("hutongsourcelogforecast").unwrap());
        assert!(forecast.contains("the query of HutongSourceLogKept."), "{forecast}");
        let last_alert = section("HutongClockSkew").unwrap();
        assert!(!last_alert.contains("Halts"), "{last_alert}");
        let unknown = section("position_los").unwrap_err();
        assert_eq!(unknown.hint.as_deref(), Some("did you mean `position_lost`?"));
        assert!(sections().all(|(_, text)| !meaning(text).is_empty() && !meaning(text).contains('*')));
    }
}
