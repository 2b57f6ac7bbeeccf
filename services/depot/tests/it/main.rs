//! A depot on embedded engines, and sites that speak to it over TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod batch;
mod certificates;
mod objects;
mod revocation;
mod rig;
mod sweep;
