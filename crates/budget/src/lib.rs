#![doc = include_str!("../README.md")]

mod budget;
mod class;
pub mod door;
mod error;
mod hold;
mod ledger;
mod pacer;
mod recent;
mod scheduler;
mod settings;
mod shaped;
mod status;
mod system;
mod window;

pub use budget::Budget;
pub use class::Class;
pub use error::{Error, Result};
pub use hold::Hold;
pub use settings::Settings;
pub use shaped::{Label, Shaped};
pub use status::{ClassStatus, Spending, Status};
pub use window::Window;
