//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::looking::{Doctor, Graph, Lag, Status, Top};
use crate::lang::Lang;

/// Carries a department's changes to the departments that are permitted to see them, and to no others.
#[derive(Debug, Parser)]
#[command(name = "hutong", version, disable_help_subcommand = true)]
pub struct Arguments {
    /// The configuration: a file, or a folder of files.
    #[arg(
        short,
        long,
        global = true,
        default_value = "hutong.toml",
        env = "HUTONG_CONFIG",
        value_name = "PATH"
    )]
    pub(super) config: PathBuf,
    /// The language of what is said: the locale's (`LC_ALL`, `LC_MESSAGES`, `LANG`) unless it is named.
    #[arg(long, global = true, value_enum)]
    pub(super) lang: Option<Lang>,
    #[command(subcommand)]
    pub(super) command: Command,
}

impl Arguments {
    /// Returns what is logged unless `HUTONG_LOG` says otherwise: only a running bus tells what it does.
    pub fn default_log(&self) -> &'static str {
        match self.command {
            Command::Run(_) => "warn,hutong=info,hutong_engine=info",
            _ => "error",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows it at work: three departments, a population register that keeps changing, and a proof at the end.
    Demo(Demo),
    /// Reports every problem of the configuration at once, without touching the network.
    Check(Check),
    /// Runs what is configured until it is asked to stop.
    Run(Run),
    /// Shows every lane: state, lag, rate, and what to do when something is wrong.
    Status(Status),
    /// Shows how far behind each pipeline is.
    Lag(Lag),
    /// Shows how everything goes on one screen that renews itself: pipelines or lanes, rates, lag, quarantine, and why.
    Top(Top),
    /// Draws what flows where: departments, streams, grants and stores, with live rates when a process answers.
    Graph(Graph),
    /// Looks at everything once: the configuration, the bus, the stores, the running lanes; explains what it finds.
    Doctor(Doctor),
    /// Explains an alert or a kind of halt: what it means, how to see it, what to do, what not to do.
    Explain {
        /// `HutongStoreDown`, `position_lost` …; lists all when none is named.
        code: Option<String>,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Shows what flows in a stream, or what one department would get of it.
    Tap(Tap),
    /// Shows which subscriptions hold or held a row, since when, under which approval, and where that knowledge ends.
    Trace(Trace),
    /// Tries rows against what is granted, before anybody relies on it.
    Policy {
        #[command(subcommand)]
        action: Policy,
    },
    /// Tells what was offered, asked, granted, refused, answered in time, delivered and recalled in a year or a time.
    Report(Report),
    /// Looks after what could not go on.
    Quarantine {
        #[command(subcommand)]
        action: super::quarantine::Quarantine,
    },
    /// Drafts, checks and compares contracts.
    Contract {
        #[command(subcommand)]
        action: Contract,
    },
    /// Prepares a store for capture, takes the preparation back, accepts a lost position.
    Source {
        #[command(subcommand)]
        action: Source,
    },
    /// Asks for, grants and takes back what flows to a subscription; looks after its replica.
    Subscription {
        #[command(subcommand)]
        action: Subscription,
    },
    /// Compares a replica with its source while both change, and names the keys that differ; mends them if asked.
    Verify(Verify),
    /// Looks after the ledger: who takes part, what is offered, and whether anybody has tampered with it.
    Ledger {
        #[command(subcommand)]
        action: super::ledger::words::Ledger,
    },
    /// Shows or changes what the running process logs.
    Log(super::log::Log),
    /// Asks the owner of a stream to correct what was delivered, and answers.
    Correction {
        #[command(subcommand)]
        action: super::correction::Correction,
    },
    /// Prints what is shipped for Prometheus and Grafana, and the table of all metrics.
    Metrics {
        #[command(subcommand)]
        action: super::metrics::Action,
    },
    /// Prints the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the version.
    Version,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Ends by itself after so many seconds; until Ctrl-C otherwise.
    #[arg(long)]
    pub(super) seconds: Option<u64>,
    /// Keeps the stores and the bus in this folder, which must be empty or missing.
    #[arg(long, value_name = "FOLDER")]
    pub(super) folder: Option<PathBuf>,
    /// Goes over Kafka instead of a folder.
    #[arg(long, value_name = "BROKERS", requires = "registry")]
    pub(super) kafka: Option<String>,
    /// The schema registry's address, with --kafka.
    #[arg(long, value_name = "URL", requires = "kafka")]
    pub(super) registry: Option<String>,
    /// The seed of what happens in the register.
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// Changes a second in the register.
    #[arg(long, default_value_t = 60)]
    pub(super) rate: u64,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Also tries each connection, privilege, setting, slot and table, once.
    #[arg(long)]
    pub(super) probe: bool,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Only these pipelines: `capture.gongan`, `replicate.renshe_population`. May stand several times.
    #[arg(long, value_name = "PIPELINE")]
    pub(super) only: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Tap {
    /// The stream.
    pub(super) stream: String,
    /// Shows what this department's subscription would get, permitted and masked.
    #[arg(long = "as", value_name = "DEPARTMENT")]
    pub(super) department: Option<String>,
    /// Shows what stands in the delivery topic of this subscription.
    #[arg(long, value_name = "SUBSCRIPTION", conflicts_with_all = ["department", "at"])]
    pub(super) delivered: Option<String>,
    /// Shows the bytes of one record, as a quarantine names it that keeps none of them.
    #[arg(long, value_name = "PARTITION/OFFSET", requires = "raw", conflicts_with_all = ["department", "from_start", "limit"])]
    pub(super) at: Option<String>,
    /// Shows bytes, whether they can be read or not; with --at.
    #[arg(long, requires = "at")]
    pub(super) raw: bool,
    /// Starts at the beginning of what the topic holds.
    #[arg(long)]
    pub(super) from_start: bool,
    /// Ends after so many changes.
    #[arg(long)]
    pub(super) limit: Option<u64>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Output,
}

/// A half of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Half {
    /// Beside the source: reads the captured table.
    Source,
    /// Beside the replica: reads what it holds.
    Replica,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The subscription.
    pub(super) subscription: String,
    /// Mends the keys that differ, and only those: their rows come again from the source as ordinary changes, to every
    /// subscriber of the stream. What somebody has altered in the replica is overwritten.
    #[arg(long)]
    pub(super) repair: bool,
    /// Says what --repair would mend, and does not.
    #[arg(long, requires = "repair")]
    pub(super) dry_run: bool,
    /// Runs one half where no process reaches both databases: `source` answers until it is stopped, `replica` asks it over
    /// the bus. Without it the replica's half asks so when this configuration does not capture the stream.
    #[arg(long, value_enum)]
    pub(super) half: Option<Half>,
    /// How often keys that differ are looked at again at most; a key is named after two looks.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(2..=100))]
    pub(super) rounds: u32,
    /// How long to wait for the capture, and for the lanes, to come to what was read.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub(super) patience: u64,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Trace {
    /// The stream.
    pub(super) stream: String,
    /// The row's key: one word a key column, in the order of the contract.
    #[arg(required = true)]
    pub(super) key: Vec<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Output,
}

#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// Lets the rows of a file of cases through, and compares what each subscriber sees with what it is to see.
    Test {
        /// The cases, TOML.
        file: PathBuf,
        /// Tries what the ledger grants, in the place of what the configuration asks for.
        #[arg(long)]
        granted: bool,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Says for one row and one department which rule lets or keeps each column.
    Explain {
        /// The stream.
        stream: String,
        /// The department.
        department: String,
        /// A column's value; what is not named is NULL. May stand several times.
        #[arg(long, value_name = "COLUMN=VALUE", required = true, value_parser = cell)]
        row: Vec<(String, String)>,
        /// Explains what the ledger grants, in the place of what the configuration asks for.
        #[arg(long)]
        granted: bool,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

fn cell(text: &str) -> Result<(String, String), String> {
    let (column, value) = text.split_once('=').ok_or("it is not of the form COLUMN=VALUE")?;
    Ok((column.to_owned(), value.to_owned()))
}

#[derive(Debug, Args)]
pub(super) struct Report {
    /// What concerns this department, as owner or as subscriber; everything when none is named.
    pub(super) department: Option<String>,
    /// The year.
    #[arg(long, conflicts_with_all = ["from", "to"], value_parser = clap::value_parser!(i16).range(1970..=9998))]
    pub(super) year: Option<i16>,
    /// The first day.
    #[arg(long, value_name = "DAY")]
    pub(super) from: Option<jiff::civil::Date>,
    /// The last day; until now when none is named.
    #[arg(long, value_name = "DAY", requires = "from")]
    pub(super) to: Option<jiff::civil::Date>,
    /// Writes the tables as CSV into this folder, which must not exist.
    #[arg(long, value_name = "FOLDER", conflicts_with = "output")]
    pub(super) csv: Option<std::path::PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Output,
}

#[derive(Debug, Subcommand)]
pub(super) enum Contract {
    /// Drafts a contract of a live table, for a person to review.
    Draft {
        /// A store of the configuration.
        store: String,
        /// The table.
        table: String,
    },
    /// Compares contracts with their tables and with the versions that are registered.
    Check {
        /// Only this stream.
        stream: Option<String>,
    },
    /// Says what differs between two contracts, and what it would break.
    Diff {
        /// The older contract's file.
        old: PathBuf,
        /// The newer contract's file.
        new: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Source {
    /// Puts in place what a capture needs in its store.
    Install {
        /// The capture.
        capture: String,
    },
    /// Removes everything that Hutong has put into the capture's store.
    Remove {
        /// The capture.
        capture: String,
    },
    /// Accepts that changes were lost (a slot dropped, a database restored, a topic made again): gives the
    /// capture's position up, so that the next run truncates its tables downstream and reads them again.
    Reset {
        /// The capture.
        capture: String,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        reason: String,
        /// Says what it would do, and changes nothing; also beside a process that runs the capture.
        #[arg(long)]
        dry_run: bool,
    },
    /// Reads tables again behind a truncate; the others go on. A stream whose generation has grown begins its new topic.
    Reload {
        /// The capture.
        capture: String,
        /// The tables, by their names in the configuration.
        #[arg(required = true)]
        tables: Vec<String>,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        reason: String,
        /// Says what it would do, and changes nothing; also beside a process that runs the capture.
        #[arg(long)]
        dry_run: bool,
    },
    /// Lists the losses that were accepted: when, why, and what was given up.
    Losses {
        /// The capture.
        capture: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// How a command that moves or stops lanes is carried out, and told.
#[derive(Debug, Args)]
pub(super) struct Steer {
    /// Says what it would do, and changes nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Who does it, for the record: the system's user when nobody is named.
    #[arg(long, value_name = "NAME")]
    pub(super) by: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Output,
}

#[derive(Debug, Subcommand)]
pub(super) enum Subscription {
    /// Stops the lanes of a subscription where they stand, until `resume`, also over restarts. This is the operator's
    /// brake, for maintenance or trouble: whoever runs the bus may use it, and it says nothing of what is permitted.
    /// `suspend` is the stream owner's legal word, signed in the ledger.
    Pause {
        /// The subscription.
        name: String,
        /// Why, for whoever finds it paused.
        #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        reason: String,
        #[command(flatten)]
        how: Steer,
    },
    /// Reads everything again that was committed at a time or later, from a minute before. The replica keeps its rows,
    /// and shows older states of them until its lanes are where they were.
    Rewind {
        /// The subscription.
        name: String,
        /// `2026-11-26T08:00:00+08:00`; without a zone in the bus's; or how long ago: `2h`.
        #[arg(long, value_name = "TIME")]
        to_time: String,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        how: Steer,
    },
    /// Reads everything again from the base: a replica serves its rows until then, a delivery begins its next topic.
    Reload {
        /// The subscription.
        name: String,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        how: Steer,
    },
    /// Lists what was done to the lanes of a subscription: paused, resumed, set back, reloaded; when, by whom and why.
    History {
        /// The subscription.
        name: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    #[command(flatten)]
    Permission(super::ledger::words::Permission),
}
