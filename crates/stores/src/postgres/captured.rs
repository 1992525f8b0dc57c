//! What a running capture knows of its tables and of the transaction that it reads.

use std::collections::HashMap;
use std::sync::Arc;

use hutong_core::{Contract, Origin, Place};

use super::chunk::Progress;
use super::fit::Plan;
use super::ident::TableName;

/// A table of the capture, as far as it is known now.
pub(crate) struct Captured {
    pub(crate) name: TableName,
    /// The table's number in the catalog; a renamed table keeps it.
    pub(crate) oid: Option<u32>,
    pub(crate) partitioned: bool,
    pub(crate) contract: Arc<Contract>,
    pub(crate) place: Arc<Place>,
    /// How its rows are read; `None` before its first relation message.
    pub(crate) plan: Option<Plan>,
    /// Why its last relation message does not fit, of a table that is to be read anew: it may be an old one.
    pub(crate) unfit: Option<String>,
    /// Why its changes are dropped.
    pub(crate) suspended: Option<String>,
    pub(crate) progress: Progress,
}

/// The source transaction that is being read.
pub(crate) struct Open {
    pub(crate) commit_lsn: u64,
    pub(crate) xid: u32,
    pub(crate) committed_us: i64,
    /// Where the message that is being read stands in the log.
    pub(crate) lsn: u64,
    pub(crate) id: Arc<str>,
    /// Row messages and logical messages so far.
    pub(crate) index: u32,
    /// Changes so far, and by table.
    pub(crate) order: u64,
    pub(crate) orders: HashMap<usize, u64>,
}

/// Returns the origin of a change of a table in a transaction.
pub(crate) fn origin(captured: &Captured, open: &Open) -> Origin {
    Origin {
        place: Arc::clone(&captured.place),
        committed_us: open.committed_us,
        xid: Some(u64::from(open.xid)),
        lsn: Some(open.lsn),
        transaction: None,
        last: false,
    }
}
