//! `hutong subscription history`: what people have done to the lanes of a subscription, when, and why.

use std::collections::BTreeMap;

use hutong_core::{Act, Result};
use serde::Serialize;

use super::arguments::Output;
use super::{table, told};
use crate::config::Plan;
use crate::config::plan::SubscriptionPlan;
use crate::exit::Exit;
use crate::{moment, wire};

/// One act, and the lanes to which it was done.
#[derive(Debug, PartialEq, Serialize)]
struct Done {
    #[serde(flatten)]
    act: Act,
    lanes: Vec<String>,
}

pub(super) async fn print(plan: &Plan, subscription: &SubscriptionPlan, output: Output) -> Result<Exit> {
    let pipeline = subscription.pipeline();
    let stands = wire::steer::stands(plan, subscription).await?;
    let own = stands.into_iter().filter(|stand| pipeline.partition(&stand.lane).is_some());
    let own: Vec<_> = own.collect();
    let done = together(own.iter().map(|stand| (stand.lane.as_str(), stand.checkpoint.acts())));
    if output == Output::Json {
        super::print_json(&done)?;
        return Ok(Exit::Done);
    }
    let zone = &plan.bus.zone;
    if done.is_empty() {
        println!("nobody has done anything to subscription {}", subscription.name);
    } else {
        let mut rows = vec![["at", "by", "what", "lanes", "reason"].map(str::to_owned).to_vec()];
        for Done { act, lanes } in &done {
            let what = match act.to_us {
                Some(to_us) => format!("{} to {}", act.verb.name(), moment::text(to_us, zone)),
                None => act.verb.name().to_owned(),
            };
            let count = format!("{} of {}", lanes.len(), own.len());
            rows.push(vec![moment::text(act.at_us, zone), act.by.clone(), what, count, act.reason.clone()]);
        }
        table::lines(&rows).iter().for_each(|line| println!("{line}"));
    }
    if let Some(pause) = own.iter().find_map(|stand| stand.checkpoint.pause()) {
        println!("it is paused {}", told::pause(&pause, zone));
    }
    Ok(Exit::Done)
}

/// Puts together what one command did to several lanes; the oldest first.
fn together<'a>(lanes: impl Iterator<Item = (&'a str, Vec<Act>)>) -> Vec<Done> {
    let mut done: BTreeMap<(i64, &str), Done> = BTreeMap::new();
    for (lane, acts) in lanes {
        for act in acts {
            let known = done.entry((act.at_us, act.verb.name())).or_insert(Done { act, lanes: Vec::new() });
            known.lanes.push(lane.to_owned());
        }
    }
    done.into_values().collect()
}

#[cfg(test)]
mod tests {
    use hutong_core::Verb;

    use super::*;

    #[test]
    fn what_one_command_did_to_several_lanes_is_one_line() {
        let act = |verb, at_us| Act { verb, at_us, by: "李".into(), reason: "维护".into(), to_us: None };
        let (first, second, third) = (act(Verb::Pause, 1), act(Verb::Resume, 2), act(Verb::Replay, 3));
        let lanes =
            [("a.0", vec![first.clone(), second.clone()]), ("a.1", vec![first.clone(), second, third])];
        let done = together(lanes.into_iter());
        let told: Vec<(Verb, usize)> = done.iter().map(|done| (done.act.verb, done.lanes.len())).collect();
        assert_eq!(told, [(Verb::Pause, 2), (Verb::Resume, 2), (Verb::Replay, 1)]);
    }
}
