//! What a store keeps of the receipts of its lanes, for who publishes them.

use hutong_core::ledger::{Head, Kept, Proof};
use hutong_core::{Error, ErrorKind, Result};

/// Reads a receipt; the counts are written, deleted, quarantined.
pub(crate) fn kept(lane: &str, proof: &str, counts: [i64; 3], at_us: i64) -> Result<Kept> {
    let proof = serde_json::from_str(proof)
        .map_err(|e| Error::caused(ErrorKind::Broken, format!("read a receipt of {lane}"), e))?;
    let [written, deleted, quarantined] = counts.map(i64::unsigned_abs);
    Ok(Kept { proof, written, deleted, quarantined, at_us })
}

/// Reads the head of a lane's chain, as its checkpoint notes it.
pub(crate) fn head(lane: &str, note: &str) -> Result<Head> {
    let broken =
        || Error::new(ErrorKind::Broken, format!("read the receipts of {lane}"), "its note is no head");
    Head::parse(note).ok_or_else(broken)
}

/// Returns the text of a proof as a store keeps it.
pub(crate) fn text(proof: &Proof) -> String {
    serde_json::to_string(proof).expect("texts and numbers print")
}
