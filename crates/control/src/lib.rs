//! A service's line to its site: what it should do comes in, how it is goes out.
//!
//! The desired state is read to its end from `service-control` before a service works, and followed from then on.
//! Reports go to `service-status` on every change and now and then. Both are best effort once a service has started:
//! a broker that is away neither blocks nor ends the work, and only the newest state is ever waiting to be sent. A
//! service's last log lines go to `service-log` when there are new ones.

mod board;
mod control;
mod enrolled;
mod error;
mod follow;
mod logs;
mod report;
mod supervise;
mod told;

pub use control::{Control, ask, finished, order, set};
pub use enrolled::{Connected, Enrolled, NeedsEnrolment, connected};
pub use error::{Error, Result};
pub use told::{Settings, Told, finished_key, setting, setting_key, subject};
