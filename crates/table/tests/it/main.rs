//! The engines, each through the whole contract and through what only it can suffer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests"
)]

mod cassandra;
mod sqlite;
