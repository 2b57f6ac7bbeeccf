//! The whole of it, over real processes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "tests"
)]

mod crash;
mod demo;
mod exchange;
mod fenced;
mod line;
mod live_first;
mod one_budget;
mod set_up;
mod torn;
