//! The line that tests put between sites does what it is told to.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod proxy;
