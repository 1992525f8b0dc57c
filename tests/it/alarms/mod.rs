//! A real Prometheus scrapes running installations while faults are caused: each alert fires, and clears.

mod away;
mod drive;
mod grants;
pub(crate) mod pager;
mod trust;

use std::process::Command;

use crate::cli::{ended, root};

#[test]
fn the_shipped_rules_are_sound_and_each_fires_and_clears_when_it_must() {
    let folder = root().join("deploy/prometheus");
    let rules = std::fs::read_to_string(folder.join("hutong.rules.yml")).unwrap();
    let tests = std::fs::read_to_string(folder.join("hutong.test.yml")).unwrap();
    for alert in rules.lines().filter_map(|line| line.trim_start().strip_prefix("- alert: ")) {
        assert!(tests.contains(alert), "{alert} has no test in hutong.test.yml");
    }
    for arguments in [&["check", "rules", "hutong.rules.yml"][..], &["test", "rules", "hutong.test.yml"]] {
        let mut promtool = Command::new("promtool");
        promtool.args(arguments).current_dir(&folder);
        ended(promtool).expect(0);
    }
}
