//! What the program logs: to standard error, at levels that a running process changes when somebody asks it to.
//!
//! A filter is a list of `LEVEL` and `TARGET=LEVEL`, as in `HUTONG_LOG`. What is no level is refused here: the library
//! would take a misspelt level for a target, and log nothing else.

use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};

use hutong_core::{Error, ErrorKind, Result, ResultExt};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

/// The word that brings back what the process began with.
pub const DEFAULT: &str = "default";

/// How long a filter may be.
const LIMIT: usize = 1_000;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What is logged now, and how it is changed; set once, when the program begins.
static FILTER: OnceLock<Filter> = OnceLock::new();

struct Filter {
    handle: reload::Handle<EnvFilter, Registry>,
    began: String,
    now: Mutex<String>,
}

/// What a change of the filter did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The filter before.
    pub old: String,
    /// The filter now.
    pub new: String,
}

/// Begins to log: for people on a terminal, as JSON elsewhere. `HUTONG_LOG` stands in the place of `default`.
pub fn begin(default: &str) {
    let wished = std::env::var("HUTONG_LOG").ok();
    let wished = wished.filter(|text| !text.is_empty() && EnvFilter::try_new(text).is_ok());
    let began = wished.unwrap_or_else(|| default.to_owned());
    let (filter, handle) = reload::Layer::new(quieted(&began).unwrap_or_default());
    // I7: what cannot be written, because its disk is full, is not told on the same disk either: that would panic.
    let log = fmt::layer().log_internal_errors(false).with_writer(std::io::stderr);
    let log = match std::io::stderr().is_terminal() {
        true => log.with_target(false).compact().boxed(),
        false => log.json().flatten_event(true).boxed(),
    };
    // The filter is of the log alone: who else listens has one of its own.
    let lines = tracing_subscriber::registry().with(log.with_filter(filter));
    #[cfg(feature = "otlp")]
    match crate::otlp::begin() {
        Some(Ok(export)) => lines.with(export.layer()).init(),
        Some(Err(problem)) => {
            lines.init();
            let hint = problem.hint.as_deref().unwrap_or_default();
            warn!(error = %problem, hint, "spans are not sent");
        }
        None => lines.init(),
    }
    #[cfg(not(feature = "otlp"))]
    {
        lines.init();
        if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some() {
            let hint = "build it with `cargo build --release --package hutong --features otlp`";
            warn!(hint, "spans are not sent: this program was built without `otlp`");
        }
    }
    // Only the first has a log to change.
    let _ = FILTER.set(Filter { handle, now: Mutex::new(began.clone()), began });
}

/// Returns the filter by which it is logged now; `None` where nobody has begun to.
pub fn filter() -> Option<String> {
    FILTER.get().map(|filter| filter.now.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Logs by another filter from now on, or by the one that the process began with.
///
/// `Err(Config)` names what is no filter, and changes nothing.
pub fn change(wanted: &str) -> Result<Changed> {
    let Some(filter) = FILTER.get() else {
        return Err(Error::new(
            ErrorKind::Broken,
            "change what is logged",
            "this program has not begun to log",
        ));
    };
    let new = match wanted.trim() {
        DEFAULT => filter.began.clone(),
        text => checked(text)?,
    };
    let directives = quieted(&new)?;
    let mut now = filter.now.lock().unwrap_or_else(PoisonError::into_inner);
    let changed = Changed { old: now.clone(), new: new.clone() };
    let tell = || info!(old = changed.old, new = changed.new, "what is logged was changed");
    // Whichever of the two lets it through.
    let told = tracing::enabled!(tracing::Level::INFO);
    if told {
        tell();
    }
    filter.handle.reload(directives).or_kind(ErrorKind::Broken, || "change what is logged".into())?;
    if !told {
        tell();
    }
    *now = new;
    Ok(changed)
}

/// Makes the library's filter; never with what calls every end of a connection an error, for the lane tells it.
fn quieted(text: &str) -> Result<EnvFilter> {
    let filter =
        EnvFilter::try_new(text).or_kind(ErrorKind::Config, || format!("read the filter `{text}`"))?;
    Ok(filter.add_directive("pgwire_replication=off".parse().expect("a directive")))
}

/// Returns the filter in one form, if it is one.
fn checked(text: &str) -> Result<String> {
    let refused = |why: String| {
        let hint = "a level (error, warn, info, debug, trace, off), or a list such as \
                    warn,hutong=debug,hutong_engine=trace; `default` is what the process began with";
        Err(Error::new(ErrorKind::Config, "read the filter of the log", why).hint(hint))
    };
    if text.len() > LIMIT {
        return refused(format!("it has more than {LIMIT} bytes"));
    }
    let mut parts = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (target, level) =
            part.split_once('=').map_or((None, part), |(target, level)| (Some(target), level));
        if !LEVELS.contains(&level) {
            return refused(format!("`{level}` is no level"));
        }
        let named = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        if target.is_some_and(|target| target.is_empty() || !target.chars().all(named)) {
            return refused(format!("`{part}` names no target"));
        }
        parts.push(part);
    }
    Ok(parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_levels_and_targets_and_a_misspelt_level_is_refused() {
        for (text, wanted) in [
            ("debug", "debug"),
            ("off", "off"),
            ("warn, hutong=info ,hutong_engine::lane=trace", "warn,hutong=info,hutong_engine::lane=trace"),
        ] {
            assert_eq!(checked(text).unwrap(), wanted);
            quieted(wanted).unwrap();
        }
        let long = "debug,".repeat(200);
        for (text, why) in [
            ("", "`` is no level"),
            ("wran", "`wran` is no level"),
            ("hutong", "`hutong` is no level"),
            ("hutong=loud", "`loud` is no level"),
            ("warn,", "`` is no level"),
            ("=debug", "`=debug` names no target"),
            ("hutong[span]=debug", "`hutong[span]=debug` names no target"),
            ("人=debug", "`人=debug` names no target"),
            (long.as_str(), "more than 1000 bytes"),
        ] {
            let problem = checked(text).unwrap_err();
            assert_eq!(problem.kind, ErrorKind::Config);
            assert!(problem.to_string().contains(why), "{problem}");
        }
    }
}
