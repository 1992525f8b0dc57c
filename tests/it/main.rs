//! Black-box tests over the built program and real servers, one file a scenario.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod alarms;
mod blocked;
mod cli;
mod command_line;
mod connect;
mod correction;
mod crash;
mod delivery;
mod demo;
mod emptied;
mod end_to_end;
mod every_type;
mod evolution;
mod filters;
mod foreign_client;
mod giant;
mod grants;
mod installation;
mod ledger;
mod log_level;
mod looking;
mod narrowed;
mod policy;
mod preview;
mod receipts;
mod refused_row;
mod register;
mod registries;
mod replica;
mod report;
mod reset;
mod sealed;
mod sealed_granted;
mod secured;
mod steer;
mod tidy;
mod token;
mod trace;
mod two_halves;
mod undecodable;
mod unlike;
mod verify;
mod verify_apart;
mod withheld;
