//! `hutong explain`: the runbook's section of an alert or of a kind of halt.

use hutong_core::problem::nearest;
use hutong_core::{Error, ErrorKind, Result};
use serde::Serialize;

use super::arguments::Output;
use crate::exit::Exit;
use crate::lang::Lang;

/// The runbook, whose sections are called by their codes.
const ENGLISH: &str = include_str!("../../../../RUNBOOK.md");
/// The same page in Chinese.
const CHINESE: &str = include_str!("../../../../RUNBOOK.zh-CN.md");

/// Prints the section of a code, or every code with what it means.
pub(super) fn run(code: Option<&str>, output: Output, lang: Lang) -> Result<Exit> {
    match (code, output) {
        (Some(code), Output::Text) => println!("{}", plain(section(code, lang)?.1)),
        (None, Output::Text) => {
            sections(lang).for_each(|(code, text)| println!("{code}\n  {}\n", meaning(text, lang)));
        }
        (Some(code), Output::Json) => super::print_json(&Explained::of(section(code, lang)?, lang))?,
        (None, Output::Json) => {
            super::print_json(
                &sections(lang).map(|section| Explained::of(section, lang)).collect::<Vec<_>>(),
            )?;
        }
    }
    Ok(Exit::Done)
}

/// A section of the runbook, part by part, as plain text.
#[derive(Debug, Serialize)]
struct Explained {
    code: &'static str,
    means: String,
    how_to_see: String,
    what_to_do: String,
    what_not_to_do: String,
}

impl Explained {
    fn of((code, text): (&'static str, &'static str), lang: Lang) -> Self {
        let marks = lang.pick(
            ["**What it means.** ", "**How to see it.** ", "**What to do.** ", "**What not to do.** "],
            ["**含义。**", "**如何查看。**", "**怎么办。**", "**不要做。**"],
        );
        let [means, how_to_see, what_to_do, what_not_to_do] = marks.map(|mark| {
            let line = text.lines().find_map(|line| line.strip_prefix(mark)).unwrap_or_default();
            plain(line.trim())
        });
        Self { code, means, how_to_see, what_to_do, what_not_to_do }
    }
}

/// Returns every code of the runbook with its section.
pub(super) fn sections(lang: Lang) -> impl Iterator<Item = (&'static str, &'static str)> {
    let runbook = lang.pick(ENGLISH, CHINESE);
    let sections = runbook.split("\n### ").skip(1).filter_map(|section| section.split_once('\n'));
    // The last section of a chapter ends where the next chapter begins.
    sections.map(|(title, text)| (title.trim_matches('`'), text.split("\n## ").next().unwrap_or(text).trim()))
}

/// Returns a code and its section, however its letters are written; `Err(Config)` names the nearest that there is.
fn section(code: &str, lang: Lang) -> Result<(&'static str, &'static str)> {
    if let Some(found) = sections(lang).find(|(known, _)| known.eq_ignore_ascii_case(code)) {
        return Ok(found);
    }
    let error = Error::new(ErrorKind::Config, format!("explain {code}"), "there is no such code");
    Err(error.hint(match nearest(code, sections(lang).map(|(known, _)| known)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`hutong explain` lists all codes".to_owned(),
    }))
}

/// Returns what is to be done about a code, in one line; `None` of a code that the runbook does not have.
pub(super) fn cure(code: &str, lang: Lang) -> Option<String> {
    let (_, text) = sections(lang).find(|(known, _)| *known == code)?;
    let mark = lang.pick("**What to do.** ", "**怎么办。** ");
    text.lines().find_map(|line| line.strip_prefix(mark)).map(plain)
}

fn meaning(text: &str, lang: Lang) -> String {
    let first = text.lines().next().unwrap_or_default();
    plain(first.trim_start_matches(lang.pick("**What it means.** ", "**含义。** ")))
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
        let lang = Lang::En;
        let lost = plain(section("Position_Lost", lang).unwrap().1);
        assert!(lost.starts_with("What it means. The origin no longer holds"), "{lost}");
        let forecast = plain(section("hutongsourcelogforecast", lang).unwrap().1);
        assert!(forecast.contains("the query of HutongSourceLogKept."), "{forecast}");
        let (_, last_alert) = section("HutongClockSkew", lang).unwrap();
        assert!(!last_alert.contains("Halts"), "{last_alert}");
        let unknown = section("position_los", lang).unwrap_err();
        assert_eq!(unknown.hint.as_deref(), Some("did you mean `position_lost`?"));
        for lang in [Lang::En, Lang::Zh] {
            for (code, text) in sections(lang) {
                let meaning = meaning(text, lang);
                assert!(!meaning.is_empty() && !meaning.contains('*'), "{code}: {meaning}");
                assert!(cure(code, lang).is_some_and(|cure| !cure.contains('*')), "{code}");
                let parts = Explained::of((code, text), lang);
                for part in [parts.means, parts.how_to_see, parts.what_to_do, parts.what_not_to_do] {
                    assert!(!part.is_empty() && !part.contains("**"), "{code}: {part}");
                }
            }
        }
    }

    #[test]
    fn every_code_has_its_section_in_both_languages_part_by_part() {
        let chinese: Vec<(&str, &str)> = sections(Lang::Zh).collect();
        assert!(sections(Lang::En).count() > 20);
        for (code, english) in sections(Lang::En) {
            let found = chinese.iter().find(|(known, _)| *known == code);
            let (_, text) = found.unwrap_or_else(|| panic!("RUNBOOK.zh-CN.md has no section {code}"));
            for part in ["**含义。**", "**如何查看。**", "**怎么办。**", "**不要做。**"] {
                assert!(text.contains(part), "{code} lacks {part}");
            }
            // What is to be typed is the same in both.
            for command in english.split('`').skip(1).step_by(2).filter(|span| span.starts_with("hutong ")) {
                let command = command.split(['"', '…']).next().unwrap_or_default();
                assert!(text.contains(command), "{code} lacks `{command}`");
            }
        }
    }
}
