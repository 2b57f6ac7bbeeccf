//! The API over HTTP, on embedded engines.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod audit;
mod callers;
mod core_site;
mod core_stand_in;
mod edge_site;
mod events;
mod evict;
mod kafka;
mod kept;
mod link;
mod logs;
mod mirror_order;
mod page;
mod people;
mod promised;
mod readme;
mod requests;
mod rig;
mod rights;
mod set_up;
mod topics;
