//! What a service was told, and whether that is done.
//!
//! Topic `service-control` holds the newest command to a service under the service's name, and under
//! `<service>/finished` which command the service has itself declared done. A command is known by its time. Two keys, so
//! that a service which declares its work done cannot override a command that came while it did so. Under
//! `<service>/set/<key>` is what was set for it while it ran, each thing under a key of its own: who sets one need not know
//! the others.

use std::collections::BTreeMap;

use schemas::{Desired, ServiceControl, ServiceSetting};

/// What is set for a service above its configuration, by key.
pub type Settings = BTreeMap<String, ServiceSetting>;

/// What a service should do, and by which command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// What it should do.
    pub desired: Desired,
    /// When that was asked, in milliseconds since 1970; none when nobody asked for anything.
    pub asked_at: Option<i64>,
}

impl Told {
    /// What a service does that nobody has told anything.
    pub(crate) fn never(untold: Desired) -> Self {
        Self {
            desired: untold,
            asked_at: None,
        }
    }

    /// What a command means once `finished` was declared done.
    pub fn by(order: &ServiceControl, finished: Option<i64>) -> Self {
        let done = finished == Some(order.asked_at);
        Self {
            desired: if done { Desired::Paused } else { order.desired },
            asked_at: Some(order.asked_at),
        }
    }
}

/// The key under which a service declares a command done.
pub fn finished_key(service: &str) -> String {
    format!("{service}/finished")
}

/// The service that a key of `service-control` is about, and whether it tells of a command that is done.
pub fn subject(key: &str) -> (&str, bool) {
    match key.strip_suffix("/finished") {
        Some(service) => (service, true),
        None => (key, false),
    }
}

/// The key under which something is set for a service.
pub fn setting_key(service: &str, key: &str) -> String {
    format!("{service}/set/{key}")
}

/// The service and the thing that a key of `service-control` sets; none for keys of commands.
pub fn setting(key: &str) -> Option<(&str, &str)> {
    key.split_once("/set/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_command_that_is_done_is_over() {
        let mut order = ServiceControl {
            service: "mirror".into(),
            desired: Desired::Running,
            log_level: None,
            asked_by: None,
            asked_at: 7,
        };
        assert_eq!(Told::by(&order, None).desired, Desired::Running);
        assert_eq!(Told::by(&order, Some(7)).desired, Desired::Paused);
        order.asked_at = 8;
        assert_eq!(Told::by(&order, Some(7)).desired, Desired::Running);
    }

    #[test]
    fn keys_tell_commands_from_what_is_done() {
        assert_eq!(subject("mirror"), ("mirror", false));
        assert_eq!(subject(&finished_key("mirror")), ("mirror", true));
        assert_eq!(setting("mirror"), None);
        assert_eq!(
            setting(&setting_key("link", "budget/cap")),
            Some(("link", "budget/cap"))
        );
    }
}
