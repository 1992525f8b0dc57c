//! The lanes that this process carries, and which of them it holds now.

use std::sync::Arc;

use hutong_bus::holding::{Holding, Pair};
use hutong_bus::kafka::{self, Idea};
use hutong_bus::log::{TopicSpec, checkpoint_topic};
use hutong_core::LaneId;
use hutong_engine::supervisor::OnError;
use hutong_engine::{Lane, Supervisor};
use serde::{Deserialize, Serialize};

use super::held::Held;
use super::unlike::{self, Unlike};
use crate::config::Plan;
use crate::config::plan::{BusSystem, CapturePlan, SubscriptionPlan};
use crate::wire::Wire;

/// What a lane does.
#[derive(Debug, Clone)]
pub enum Work {
    /// It captures.
    Capture(Arc<CapturePlan>),
    /// It replicates.
    Replicate(Arc<SubscriptionPlan>),
}

/// A lane and the pair under which it is handed out.
#[derive(Debug, Clone)]
pub struct Place {
    /// The lane.
    pub lane: LaneId,
    /// What it does.
    pub work: Work,
    /// The pair.
    pub pair: Pair,
    /// Who says whether this process holds it.
    pub holding: Holding,
}

impl Place {
    /// Gives a lane that others may be given the end that knows it.
    pub fn seat(&self, mut lane: Lane) -> Lane {
        if self.holding.is_shared() {
            lane.sink = Box::new(Held::new(lane.sink, self.holding.clone(), self.lane.clone()));
        }
        lane
    }
}

/// A group in which this process takes part.
#[derive(Debug, Clone)]
struct Group {
    name: String,
    /// What this process takes its lanes to be, where its members must agree.
    idea: Option<Idea>,
    topics: Vec<String>,
    /// Those that must be there before anything is shared out.
    made: Vec<TopicSpec>,
    holding: Holding,
}

/// The lanes that this process carries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Roster(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    places: Vec<Place>,
    groups: Vec<Group>,
}

/// What status tells of the share of this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The groups in which it takes part, by the names that Kafka's tools know.
    pub groups: Vec<String>,
    /// Whether every group has said what this process runs.
    pub joined: bool,
    /// Why a group has not answered, where that is known.
    #[serde(default)]
    pub problem: Option<String>,
    /// The lanes of this configuration that it does not run: another process does, or their topic is not there yet.
    pub elsewhere: Vec<String>,
    /// The processes that take the lanes of a group for something else than this one.
    #[serde(default)]
    pub unlike: Option<Unlike>,
}

impl Roster {
    /// Returns the lanes of these pipelines. Over Kafka they are shared with other processes, over a folder they are not.
    pub fn of(plan: &Plan, captures: &[&CapturePlan], subscriptions: &[&SubscriptionPlan]) -> Self {
        let bus = &plan.bus.name;
        let shares = matches!(plan.bus.system, BusSystem::Kafka(_));
        let holding = || if shares { Holding::nothing() } else { Holding::everything() };
        let (of_captures, of_streams) = (holding(), holding());
        let mut places = Vec::new();
        for capture in captures {
            places.push(Place {
                lane: LaneId::new(capture.pipeline(), 0),
                pair: Pair::new(checkpoint_topic(bus, &capture.pipeline()), 0),
                work: Work::Capture(Arc::new((*capture).clone())),
                holding: of_captures.clone(),
            });
        }
        for subscription in subscriptions {
            let shared = Arc::new((*subscription).clone());
            places.extend((0..subscription.stream.partitions).map(|partition| Place {
                lane: LaneId::new(subscription.pipeline(), partition),
                pair: Pair::new(subscription.stream.topic(), partition),
                work: Work::Replicate(Arc::clone(&shared)),
                holding: of_streams.clone(),
            }));
        }
        let mut groups = Vec::new();
        if shares && !captures.is_empty() {
            let topics: Vec<String> =
                captures.iter().map(|capture| checkpoint_topic(bus, &capture.pipeline())).collect();
            let made =
                topics.iter().map(|name| TopicSpec { name: name.clone(), partitions: 1, compacted: true });
            groups.push(Group {
                name: kafka::of_captures(bus),
                // Its members may carry other captures each; two of one are told apart by the capture's own notes.
                idea: None,
                made: made.collect(),
                topics,
                holding: of_captures,
            });
        }
        if shares && !subscriptions.is_empty() {
            let carried = subscriptions.iter().map(|s| (s.stream.topic(), s.name.as_str()));
            let mut topics: Vec<String> = subscriptions.iter().map(|s| s.stream.topic()).collect();
            topics.sort();
            topics.dedup();
            let name = kafka::of_subscriptions(bus, carried);
            let idea = Some(unlike::idea(plan, subscriptions));
            groups.push(Group { name, idea, topics, made: Vec::new(), holding: of_streams });
        }
        Self(Arc::new(Inner { places, groups }))
    }

    /// Returns a roster that nobody shares, and that names no lane.
    pub fn alone() -> Self {
        Self(Arc::new(Inner { places: Vec::new(), groups: Vec::new() }))
    }

    /// Returns the lanes.
    pub fn places(&self) -> &[Place] {
        &self.0.places
    }

    /// Takes part in the groups until the supervisor asks to stop.
    pub fn attend(&self, supervisor: &mut Supervisor, wire: &Wire) {
        let Some(kafka) = wire.bus().cluster() else { return };
        for group in &self.0.groups {
            let (kafka, token) = (Arc::clone(kafka), supervisor.token());
            let Group { name, idea, topics, made, holding } = group.clone();
            supervisor.spawn(format!("share {name}"), OnError::StopAll, async move {
                kafka.attend((name, idea), topics, made, holding, token).await
            });
        }
    }

    /// States whether others may run lanes of this configuration.
    pub fn is_shared(&self) -> bool {
        !self.0.groups.is_empty()
    }

    /// Returns what status tells; `None` where nothing is shared.
    pub fn share(&self) -> Option<Share> {
        if !self.is_shared() {
            return None;
        }
        let Inner { places, groups } = &*self.0;
        let elsewhere = places.iter().filter(|place| {
            !place.holding.holds(&place.pair) && place.holding.why_denied(&place.pair.topic).is_none()
        });
        Some(Share {
            groups: groups.iter().map(|group| group.name.clone()).collect(),
            joined: groups.iter().all(|group| group.holding.is_joined()),
            problem: groups.iter().find_map(|group| group.holding.problem()),
            unlike: groups.iter().find_map(|group| Some(Unlike::of(&group.name, group.holding.others()?))),
            elsewhere: elsewhere.map(|place| place.lane.to_string()).collect(),
        })
    }

    /// States whether this process knows what it runs.
    pub fn is_joined(&self) -> bool {
        self.0.groups.iter().all(|group| group.holding.is_joined())
    }
}
