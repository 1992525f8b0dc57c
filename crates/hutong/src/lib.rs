//! hutong.
