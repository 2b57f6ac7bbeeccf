#![doc = include_str!("../README.md")]

mod arrival;
mod backoff;
mod command;
mod depot;
mod enrolled;
mod error;
mod pace;
mod pass;
mod progress;
mod service;
mod settings;
mod tls;
mod transfer;

pub use error::{Error, Result};
pub use service::Mirror;
pub use settings::{Settings, Tls};
