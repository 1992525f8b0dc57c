//! What can be typed behind the commands that look at a running bus and change nothing.

use clap::{Args, ValueEnum};

use super::arguments::Output;

#[derive(Debug, Args)]
pub(super) struct Status {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Lag {
    /// Shows it again every two seconds, until Ctrl-C.
    #[arg(long)]
    pub(super) watch: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Output,
}

/// How the picture of what flows where is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Drawing {
    /// For a terminal.
    #[default]
    Text,
    /// A picture, for a browser or a report.
    Svg,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Graph {
    /// Only what this department owns or gets.
    #[arg(long, value_name = "DEPARTMENT")]
    pub(super) department: Option<String>,
    /// Only this stream.
    #[arg(long, value_name = "STREAM")]
    pub(super) stream: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Drawing,
}

#[derive(Debug, Args)]
pub(super) struct Top {
    /// How many seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) every: u64,
    /// Prints one screen and ends, as it does by itself where it is not on a terminal.
    #[arg(long)]
    pub(super) once: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Output,
}
