#![doc = include_str!("../README.md")]

mod arrival;
mod backoff;
mod batch;
mod command;
mod depot;
mod displace;
mod door;
mod enrolled;
mod entry;
mod error;
mod flow;
mod lanes;
mod listing;
mod manifest;
mod pace;
mod pass;
mod progress;
mod room;
mod round;
mod service;
mod settings;
mod tls;
mod transfer;

pub use arrival::Book;
pub use error::{Error, Result};
pub use service::Mirror;
pub use settings::{Evict, Settings, Tls};
