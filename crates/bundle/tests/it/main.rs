//! What a bundle promises, between two sites that have nothing but a stick.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod assets;
mod damage;
mod exchange;
mod full;
mod kafka;
mod kills;
mod records;
mod rig;
