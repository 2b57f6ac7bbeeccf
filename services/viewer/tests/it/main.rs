//! The API over HTTP, on embedded engines.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod callers;
mod core_site;
mod edge_site;
mod rig;
mod topics;
