//! Black-box tests over the built program and real servers, one file a scenario.

mod tidy;
