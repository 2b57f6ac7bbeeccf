//! The budget over real sockets and through time.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod door;
mod sockets;
mod time;
