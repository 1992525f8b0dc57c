//! `hutong check`: every problem of the configuration at once.

use std::path::Path;

use hutong_core::{Error, ErrorKind, Result};

use super::arguments;
use crate::config::{self, Plan};
use crate::exit::Exit;
use crate::program::aside;
use crate::wire::probe;

/// Reads the configuration for a command that needs it; prints its problems and warnings.
pub(super) fn load(path: &Path) -> Result<Plan> {
    match config::load(path) {
        Ok(loaded) => {
            if !loaded.warnings.problems.is_empty() {
                aside(&loaded.warnings);
            }
            Ok(loaded.plan)
        }
        Err(report) => {
            aside(&report);
            Err(Error::new(ErrorKind::Config, format!("use {}", path.display()), "it has problems"))
        }
    }
}

pub(super) async fn run(path: &Path, options: &arguments::Check) -> Result<Exit> {
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(report) => {
            print!("{report}");
            return Ok(Exit::Config);
        }
    };
    if loaded.warnings.problems.is_empty() {
        println!("{}: no problems", path.display());
    } else {
        print!("{}", loaded.warnings);
    }
    if !options.probe {
        return Ok(Exit::Done);
    }
    let mut fit = true;
    for finding in probe::all(&loaded.plan).await {
        fit &= finding.ok;
        println!("{} {}", if finding.ok { "ok  " } else { "FAIL" }, finding.what);
        if let Some(hint) = finding.hint.filter(|_| !finding.ok) {
            println!("       hint: {hint}");
        }
    }
    Ok(if fit { Exit::Done } else { Exit::Config })
}
