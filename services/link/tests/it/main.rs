//! The link between two brokers, embedded and real.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "tests"
)]

mod at_once;
mod certificates;
mod classes;
mod compression;
mod exactly_once;
mod fallbacks;
mod instances;
mod kafka;
mod kafka_rules;
mod limits;
mod live_first;
mod login;
mod long_line;
mod lookout;
mod losses;
mod many;
mod moves;
mod old_format;
mod opening;
mod patterns;
mod regions;
mod rig;
mod rings;
mod small_edge;
mod verify;
mod went_back;
