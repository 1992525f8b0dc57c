//! What can be typed about the ledger and what is granted in it.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use hutong_core::ledger::{Head, PublicKey};
use jiff::civil::Date;

use crate::cmd::arguments::{Output, Steer};

#[derive(Debug, Subcommand)]
pub(in crate::cmd) enum Ledger {
    /// Makes a private key in a new file that only you may read, and prints the public key.
    Keygen {
        /// The file, which must not exist.
        file: PathBuf,
        /// A key that seals and opens columns, for [sealing], instead of one that signs.
        #[arg(long)]
        sealing: bool,
    },
    /// Lets a department take part. Signed by the governing department.
    Join {
        /// The department.
        department: String,
        /// Its public key, as `keygen` printed it.
        #[arg(value_parser = public_key)]
        key: PublicKey,
        /// It has joined and has another key from now on.
        #[arg(long)]
        again: bool,
    },
    /// Offers a stream as its contract and the configuration say; once more, it is offered otherwise from now on.
    /// Signed by the stream's owner.
    Offer {
        /// The stream.
        stream: String,
        /// Offers it no more: nothing of it flows.
        #[arg(long)]
        withdraw: bool,
    },
    /// Shows every record of the ledger, and what each counts for.
    Show {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Verifies the ledger, and says which record is the first that does not count, and why; then the receipts of what
    /// was delivered against each other, the grants and the roots.
    Verify {
        /// An exported file in the place of the bus: needs no network.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// The governing department's first public key, when there is no configuration here.
        #[arg(long, requires = "file", value_parser = public_key)]
        key: Option<PublicKey>,
        /// A head that was printed before, `SEQUENCE:DIGEST`: the history must hold it.
        #[arg(long, value_name = "HEAD", value_parser = head)]
        head: Vec<Head>,
    },
    /// Signs the root of what was delivered of a department's streams until now, when its receipts are whole. A process
    /// that has its key does it by itself at the end of each day.
    Root {
        /// The department.
        department: String,
    },
    /// Writes every record, and the receipts that the roots cover, into a file, to keep it elsewhere or to verify it offline.
    Export {
        /// The file, which must not exist.
        file: PathBuf,
    },
}

fn public_key(text: &str) -> Result<PublicKey, String> {
    PublicKey::parse(text).map_err(|error| error.why())
}

fn head(text: &str) -> Result<Head, String> {
    Head::parse(text).ok_or_else(|| "it is not of the form SEQUENCE:DIGEST".to_owned())
}

/// How many digits in a row are taken for somebody's number.
const DIGITS: usize = 15;

/// Takes no text that seems to name a person: what stands in the ledger cannot be taken out again.
pub(in crate::cmd) fn reason(text: &str) -> Result<String, String> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    if numbers.any(|number| number.len() >= DIGITS) {
        return Err(
            "it seems to hold somebody's number, and the ledger is for everybody to read and never deleted: \
                    say where the row stands (`hutong correction request --at PARTITION/OFFSET`)"
                .into(),
        );
    }
    if text.trim().is_empty() { Err("it says nothing".into()) } else { Ok(text.to_owned()) }
}

/// Which subscription, and whether it is only looked at.
#[derive(Debug, Args)]
pub(in crate::cmd) struct Which {
    /// The subscription.
    pub(in crate::cmd) name: String,
    /// Whose it is, where two departments have one of that name.
    #[arg(long)]
    pub(super) department: Option<String>,
    /// Counts the rows that the topic holds and the grant lets through, over an estimate of all.
    #[arg(long)]
    pub(super) count: bool,
    /// Shows what it would be, and writes nothing.
    #[arg(long)]
    pub(in crate::cmd) preview: bool,
}

/// What of a request or a grant is to be otherwise.
#[derive(Debug, Default, Args)]
pub(in crate::cmd) struct Less {
    /// Without this column. May stand several times.
    #[arg(long, value_name = "COLUMN")]
    pub(super) without: Vec<String>,
    /// Only rows that also fulfil this condition. May stand several times.
    #[arg(long, value_name = "CONDITION", value_parser = NonEmptyStringValueParser::new())]
    pub(super) rows: Vec<String>,
    /// With this mask on this column. May stand several times.
    #[arg(long, value_name = "COLUMN=MASK")]
    pub(super) mask: Vec<String>,
    /// Until this day at the latest.
    #[arg(long)]
    pub(super) until: Option<Date>,
}

/// Which of the two a resumption takes back, and how.
#[derive(Debug, Args)]
pub(in crate::cmd) struct Resumption {
    /// The operator's pause.
    #[arg(long, conflicts_with = "grant")]
    pub(in crate::cmd) pause: bool,
    /// The owner's suspension of the grant; signed by the owner.
    #[arg(long)]
    pub(in crate::cmd) grant: bool,
    /// Why, for the record of a pause.
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cmd) reason: Option<String>,
    #[command(flatten)]
    pub(in crate::cmd) how: Steer,
}

#[derive(Debug, Subcommand)]
pub(in crate::cmd) enum Permission {
    /// Asks for what the configuration says. Signed by the subscribing department.
    Request {
        #[command(flatten)]
        which: Which,
    },
    /// Grants a request, as asked for or less. Signed by the stream's owner, as everything below.
    Approve {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        less: Less,
    },
    /// Refuses a request.
    Reject {
        #[command(flatten)]
        which: Which,
        /// Why, and by which law.
        #[arg(long, value_parser = reason)]
        reason: String,
    },
    /// Lets nothing flow until it is resumed; the replica stays.
    Suspend {
        #[command(flatten)]
        which: Which,
        /// Why.
        #[arg(long, value_parser = reason)]
        reason: String,
    },
    /// Lets it go on: takes back a pause, or, where nothing is paused, the owner's suspension, which the owner signs.
    Resume {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        what: Resumption,
    },
    /// Grants less from now on: columns are emptied, values masked and rows deleted where the replica stands, or it is filled anew.
    Narrow {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        less: Less,
    },
    /// Grants more from now on, up to what was asked for: all of it unless something is named.
    Widen {
        #[command(flatten)]
        which: Which,
        /// With this column, and the mask that was asked for. May stand several times.
        #[arg(long, value_name = "COLUMN")]
        with: Vec<String>,
        /// Until this day.
        #[arg(long)]
        until: Option<Date>,
    },
    /// Ends a grant.
    Revoke {
        #[command(flatten)]
        which: Which,
        /// Why.
        #[arg(long, value_parser = reason)]
        reason: String,
        /// Deletes the rows of the replica too.
        #[arg(long)]
        recall: bool,
    },
    /// Lists requests and grants: what waits, what is due or overdue, what flows.
    List {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Shows one subscription: what was asked, what is granted, who else holds these columns.
    Show {
        #[command(flatten)]
        which: Which,
    },
}
