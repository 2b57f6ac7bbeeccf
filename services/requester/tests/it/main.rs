//! The service against embedded engines.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod pipeline;
mod site;
