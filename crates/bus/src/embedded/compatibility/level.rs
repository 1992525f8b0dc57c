//! The levels of compatibility: which schema must read which.

use serde_json::{Value as Json, json};

use super::resolution::{self, Problem};

/// What a subject demands of its next version. The names are those of the Confluent API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Nothing.
    None,
    /// The new schema reads data of the last one.
    Backward,
    /// The new schema reads data of every earlier one.
    BackwardTransitive,
    /// The last schema reads data of the new one.
    Forward,
    /// Every earlier schema reads data of the new one.
    ForwardTransitive,
    /// Both, with the last one.
    Full,
    /// Both, with every earlier one.
    FullTransitive,
}

impl Level {
    const ALL: [(Self, &'static str); 7] = [
        (Self::None, "NONE"),
        (Self::Backward, "BACKWARD"),
        (Self::BackwardTransitive, "BACKWARD_TRANSITIVE"),
        (Self::Forward, "FORWARD"),
        (Self::ForwardTransitive, "FORWARD_TRANSITIVE"),
        (Self::Full, "FULL"),
        (Self::FullTransitive, "FULL_TRANSITIVE"),
    ];

    /// Returns the level of a name, in any case.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| n.eq_ignore_ascii_case(name)).map(|(level, _)| *level)
    }

    /// Returns its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(level, _)| *level == self).map_or("NONE", |(_, name)| name)
    }

    /// States whether it is about every earlier version and not only about the last one.
    pub fn transitive(self) -> bool {
        matches!(self, Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive)
    }

    fn backward(self) -> bool {
        matches!(self, Self::Backward | Self::BackwardTransitive | Self::Full | Self::FullTransitive)
    }

    fn forward(self) -> bool {
        matches!(self, Self::Forward | Self::ForwardTransitive | Self::Full | Self::FullTransitive)
    }
}

/// Returns why `new` may not follow `old` at a level; empty when it may. Both are valid Avro schemas.
pub fn problems(level: Level, new: &Json, old: &Json) -> Vec<Problem> {
    let mut problems = Vec::new();
    if level.backward() {
        problems.extend(resolution::can_read(new, old).into_iter().map(|p| p.between("new", "old")));
    }
    if level.forward() {
        problems.extend(resolution::can_read(old, new).into_iter().map(|p| p.between("old", "new")));
    }
    problems
}

/// Returns the problems in the words of the Confluent API's `messages`.
pub(in crate::embedded) fn messages(
    level: Level,
    version: u32,
    old: &str,
    problems: &[Problem],
) -> Vec<String> {
    let mut messages: Vec<String> = problems.iter().map(ToString::to_string).collect();
    messages.push(format!("{{oldSchemaVersion: {version}}}"));
    messages.push(format!("{{oldSchema: {}}}", json!(old)));
    messages.push(format!("{{compatibility: '{}'}}", level.name()));
    messages
}
