#![doc = include_str!("../README.md")]

mod error;
mod listen;
mod row;
mod service;
mod settings;

pub use error::{Error, Result};
pub use service::Listener;
pub use settings::Settings;
