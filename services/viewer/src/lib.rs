#![doc = include_str!("../README.md")]

mod api;
mod app;
mod edge;
mod guard;
mod headquarters;
mod health;
mod index;
mod problem;
mod service;
mod services;
mod settings;
mod site_status;
mod view;

pub use api::openapi;
pub use service::Viewer;
pub use settings::Settings;
