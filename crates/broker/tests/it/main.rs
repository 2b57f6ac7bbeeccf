//! The engines against the contract, and the embedded one against kill -9.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "tests, some of which talk to their parent process"
)]

mod kafka;
mod sqlite;
mod sqlite_crash;
