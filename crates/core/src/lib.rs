//! The words and rules of Hutong: what a change is, where a pipeline stands, what may leave.
//!
//! Everything here is pure: no input or output, no clock, no async runtime. The ports ([`Source`],
//! [`Sink`], [`Step`]) are declared here and implemented by `bus` and `stores`; `engine` drives them.
//!
//! The invariants that the rest of the workspace cites:
//!
//! - **I1** ack only after commit: the source may forget nothing that is not durable downstream.
//! - **I2** the checkpoint commits with the data.
//! - **I3** every change is committed, dropped by a named and counted rule, or quarantined.
//! - **I4** order holds per partition and per key.
//! - **I5** nothing leaves without a grant.
//! - **I6** values are never silently coerced, rounded or cut.
//! - **I7** kill -9 at any moment is recoverable without an operator.

pub mod beside;
mod canonical;

pub mod change;
pub mod checkpoint;
pub mod contract;
pub mod error;
pub mod filter;
pub mod grant;
pub mod hexadecimal;
pub mod lane;
pub mod ledger;
pub mod loss;
pub mod mask;
pub mod port;
pub mod position;
pub mod problem;
pub mod quality;
pub mod reread;
pub mod seal;
pub mod secret;
pub mod snapshot;
pub mod steer;
pub mod traceparent;
pub mod trail;
pub mod value;
pub mod verify;

pub use change::{Before, Change, Op, Origin, Place, RecordTrace, Rejected, Transaction};
pub use checkpoint::{Checkpoint, Delta};
pub use contract::{Contract, Field, Type};
pub use error::{Class, Error, ErrorKind, Result, ResultExt};
pub use filter::{Filter, Truth};
pub use grant::{Grant, Permit};
pub use lane::{Kind, LaneId, PipelineId};
pub use loss::Loss;
pub use mask::Mask;
pub use port::{Batch, Behind, Refused, Sink, Source, Step, Verdict};
pub use position::Position;
pub use problem::{Problem, nearest};
pub use quality::Quality;
pub use reread::Reread;
pub use secret::Secret;
pub use steer::{Act, Aside, Hold, Order, Pause, Verb};
pub use traceparent::Traceparent;
pub use trail::Trail;
pub use value::{Decimal, Row, Value};
