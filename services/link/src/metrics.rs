//! The metrics that only a link has.

use std::collections::BTreeMap;

use common::budget::Status;
use common::kafka::Skew;
use prometheus::{Gauge, GaugeVec, Opts, Registry};

use crate::behind::Behind;
use crate::buffer::Loss;
use crate::lost::Sum;

/// Records that wait to be carried, by route.
pub(crate) const LAG_RECORDS: &str = "fieldline_link_lag_records";
/// Their bytes, estimated, by route.
pub(crate) const LAG_BYTES: &str = "fieldline_link_lag_bytes";
/// How old the oldest of them is, by route.
pub(crate) const LAG_SECONDS: &str = "fieldline_link_lag_seconds";
/// How long it takes until none waits, by route; not there while it does not get less.
pub(crate) const CATCH_UP_SECONDS: &str = "fieldline_link_catch_up_seconds";
/// How long the site's broker holds what is not carried, by what would go then: a topic, or `disk`.
pub(crate) const BUFFER_SECONDS: &str = "fieldline_link_buffer_seconds";
/// Records that are lost to the other site, as far as they could be counted, by route.
pub(crate) const LOST_RECORDS: &str = "fieldline_link_lost_records";
/// In how many ranges, which are there also where nobody could count; by route.
pub(crate) const LOST_RANGES: &str = "fieldline_link_lost_ranges";
/// Bytes that crossed today, by class.
pub(crate) const DAY_BYTES: &str = "fieldline_link_day_bytes";
/// Bytes that crossed this month, by class.
pub(crate) const MONTH_BYTES: &str = "fieldline_link_month_bytes";
/// The most bytes that may cross, by `day` and `month`; not there without a limit.
pub(crate) const LIMIT_BYTES: &str = "fieldline_link_limit_bytes";
/// When the core last answered, in seconds since 1970.
pub(crate) const CONTACT: &str = "fieldline_link_last_contact_timestamp_seconds";
/// By how many seconds this site's clock is ahead of the core's; behind is less than zero. Not there before it is measured.
pub(crate) const SKEW: &str = "fieldline_link_clock_skew_seconds";

/// A link's own metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    routes: [GaugeVec; 4],
    buffer: GaugeVec,
    lost: [GaugeVec; 2],
    day: GaugeVec,
    month: GaugeVec,
    limit: GaugeVec,
    contact: Gauge,
    skew: GaugeVec,
}

impl Metrics {
    /// Takes the place of those that an earlier link of the same process had.
    ///
    /// # Errors
    /// When a name is taken by another metric.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let of = |name: &str, help: &str, labels: &[&str]| {
            let gauge = GaugeVec::new(Opts::new(name, help), labels)?;
            // There is none before the first link.
            drop(registry.unregister(Box::new(gauge.clone())));
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let by = |name: &str, help: &str, label: &str| of(name, help, &[label]);
        let contact = Gauge::new(CONTACT, "When the core last answered, in seconds since 1970")?;
        drop(registry.unregister(Box::new(contact.clone())));
        registry.register(Box::new(contact.clone()))?;
        Ok(Self {
            routes: [
                by(LAG_RECORDS, "Records that wait to be carried", "route")?,
                by(LAG_BYTES, "Bytes that wait to be carried, estimated", "route")?,
                by(LAG_SECONDS, "How old the oldest record is that waits", "route")?,
                by(
                    CATCH_UP_SECONDS,
                    "How long it takes until no record waits",
                    "route",
                )?,
            ],
            buffer: by(
                BUFFER_SECONDS,
                "How long this site's broker holds what is not carried",
                "first",
            )?,
            lost: [
                by(LOST_RECORDS, "Records that are lost to the other site", "route")?,
                by(
                    LOST_RANGES,
                    "Ranges of offsets that are lost to the other site",
                    "route",
                )?,
            ],
            day: by(DAY_BYTES, "Bytes that crossed today", "class")?,
            month: by(MONTH_BYTES, "Bytes that crossed this month", "class")?,
            limit: by(LIMIT_BYTES, "The most bytes that may cross", "span")?,
            contact,
            skew: of(
                SKEW,
                "By how many seconds this site's clock is ahead of the core's",
                &[],
            )?,
        })
    }

    /// Sets all of them.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) fn tell(
        &self,
        routes: &BTreeMap<String, Behind>,
        lost: &BTreeMap<String, Sum>,
        losses: &[Loss],
        status: &Status,
        contact: Option<i64>,
        skew: Option<Skew>,
    ) {
        // What is known no more must not stay as it was.
        self.routes.iter().for_each(GaugeVec::reset);
        for (route, behind) in routes {
            let figures = [behind.records as f64, behind.bytes as f64, behind.seconds as f64];
            for (gauge, figure) in self.routes.iter().zip(figures) {
                gauge.with_label_values(&[route]).set(figure);
            }
            if let Some(seconds) = behind.catch_up {
                self.routes[3].with_label_values(&[route]).set(seconds);
            }
        }
        for (route, sum) in lost {
            for (gauge, figure) in self.lost.iter().zip([sum.records as f64, sum.ranges as f64]) {
                gauge.with_label_values(&[route]).set(figure);
            }
        }
        self.buffer.reset();
        for loss in losses {
            let first = loss.topic.as_deref().unwrap_or("disk");
            self.buffer.with_label_values(&[first]).set(loss.seconds);
        }
        for class in &status.classes {
            self.day
                .with_label_values(&[class.class.name()])
                .set(class.day as f64);
            self.month
                .with_label_values(&[class.class.name()])
                .set(class.month as f64);
        }
        self.limit.reset();
        for (span, limit) in [("day", status.day.limit), ("month", status.month.limit)] {
            if let Some(limit) = limit {
                self.limit.with_label_values(&[span]).set(limit as f64);
            }
        }
        if let Some(contact) = contact {
            self.contact.set(contact as f64 / 1000.0);
        }
        if let Some(skew) = skew {
            self.skew
                .with_label_values::<&str>(&[])
                .set(skew.ahead_ms as f64 / 1000.0);
        }
    }
}
