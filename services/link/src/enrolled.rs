//! The core's broker out of the site's enrolment, where the settings do not name it.

use std::path::Path;

use common::broker;
use common::control::NeedsEnrolment;
use common::identity::{BrokerAddress, Enrolment, Unpacked};

use crate::service::Link;
use crate::settings::Settings;

impl NeedsEnrolment for Link {
    fn enrolment(settings: &Settings) -> Option<&Path> {
        settings
            .enrolment
            .as_deref()
            .filter(|_| settings.core.url.is_empty())
    }

    fn broker(settings: &Settings) -> &broker::Settings {
        &settings.broker
    }

    fn connect(settings: &mut Settings, enrolment: &Enrolment, certificates: &Unpacked) {
        settings.core.url = enrolment.broker().url();
        if let BrokerAddress::Kafka { tls: true, .. } = enrolment.broker() {
            settings.core.tls = broker::Tls {
                ca: Some(certificates.ca.clone()),
                certificate: Some(certificates.certificate.clone()),
                key: Some(certificates.key.clone()),
                ..settings.core.tls.clone()
            };
        }
        // The way to the depot, for the services that come through the door.
        if settings.door.allow.is_empty() {
            let depot = enrolment.depot();
            if let (Some(host), Some(port)) = (depot.host_str(), depot.port_or_known_default()) {
                settings.door.allow = vec![format!("{host}:{port}")];
            }
        }
    }
}
