#![doc = include_str!("../README.md")]

mod api;
mod app;
mod audit;
mod edge;
mod events;
mod guard;
mod headquarters;
mod health;
mod heard;
mod history;
mod index;
mod letters;
mod logs;
mod pace;
mod page;
mod previews;
mod problem;
mod requests;
mod service;
mod services;
mod set_up;
mod settings;
mod sign_in;
mod site_status;
mod tape;
mod view;

pub use api::openapi;
pub use service::Viewer;
pub use settings::Settings;
pub use sign_in::{Mode, token};
