#![doc = include_str!("../README.md")]

pub mod backlog;
pub mod catalogue;
pub mod entry;
mod error;
pub mod live;
pub mod sample;
pub mod serve;
mod service;
mod settings;
pub mod text;

pub use backlog::Order;
pub use error::{Error, Result};
pub use service::Feed;
pub use settings::{Rewrite, Settings};
