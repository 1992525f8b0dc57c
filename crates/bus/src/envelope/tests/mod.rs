//! The codec as a whole: against `apache-avro`, against itself, and against Debezium's schemas.

mod any_change;
mod avro;
mod foreign;
mod hostile;
mod refusal;
mod round_trip;
mod sealed;
mod truth;
