//! The depot's address and the site's certificate out of the site's enrolment, where the settings do not name them.

use std::path::Path;

use common::broker;
use common::control::NeedsEnrolment;
use common::identity::{Enrolment, Unpacked};

use crate::service::Mirror;
use crate::settings::{Settings, Tls};

impl NeedsEnrolment for Mirror {
    fn enrolment(settings: &Settings) -> Option<&Path> {
        settings
            .enrolment
            .as_deref()
            .filter(|_| settings.depot.is_empty())
    }

    fn broker(settings: &Settings) -> &broker::Settings {
        &settings.broker
    }

    fn connect(settings: &mut Settings, enrolment: &Enrolment, certificates: &Unpacked) {
        settings.depot = enrolment.depot_url().to_owned();
        settings.tls = Tls {
            ca: certificates.ca.clone(),
            certificate: certificates.certificate.clone(),
            key: certificates.key.clone(),
        };
    }
}
