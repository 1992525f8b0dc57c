//! The ledger: the signed log of who joined, offered, asked, agreed and took back, and what follows from it.
//!
//! Pure: knows bytes, keys and rules, and nothing of where the log is kept. Order comes from the log. A [`Book`] reads
//! its records one after the other and keeps a running digest over all of them, also over those that it does not
//! take. Each entry is signed over its exact bytes and carries the [`Head`] that its signer had last verified, so every
//! signature pins the history before it. What is malformed, wrongly signed or not its signer's to say is skipped and
//! counted: nobody stops the bus by writing rubbish.

mod act;
mod audit;
mod book;
mod calendar;
mod entry;
mod head;
pub mod holding;
mod key;
pub mod receipt;
mod terms;

pub use act::{Act, Condition, Doubt, Offer, Request};
pub use audit::{Audit, Audited};
pub use book::{
    Answer, Asked, Book, Contradiction, Corrected, Correction, Granted, Member, Numbered, Offered, Root,
    Skipped, State, Taken,
};
pub use calendar::Calendar;
pub use entry::{Charter, Entry, RECORD_LIMIT_BYTES, VERSION};
pub use head::{Digest, Head};
pub use key::{Algorithm, PrivateKey, PublicKey};
pub use receipt::{Kept, Proof, Receipt};
pub use terms::{Completed, Terms};

#[cfg(test)]
mod receipt_test;
#[cfg(test)]
mod tests;
