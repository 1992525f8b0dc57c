//! Topics from end to end over the embedded bus: what a sink commits, a source reads.

mod anew;
mod aside;
mod capture;
mod deliver;
mod hostile;
mod office;
mod replicate;
mod sealed;
mod suspended;
mod together;
mod traced;
