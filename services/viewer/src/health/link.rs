//! What there is to say of an edge's link that carries nothing, and of what is lost if that goes on.

use super::{error, warning};
use crate::api::CONTACT_MS;
use crate::view::{Service, Trouble};

/// How long the core may be away before it is told how long this site can wait, and which hours are told.
const AWAY_MS: i64 = 15 * 60 * 1000;
const HELD_HOURS: [f64; 4] = [1.0, 6.0, 12.0, 24.0];

/// How far a clock may be off before it is told.
const OFF_MS: f64 = 60_000.0;

/// What there is to say of what waits for a core that does not answer.
pub(super) fn held(service: &Service, now: i64) -> Option<Trouble> {
    let gauge = |name: &str| service.gauges.get(name).copied();
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970")]
    let away = gauge("last_contact_at").is_none_or(|at| now - at as i64 > AWAY_MS);
    let hours = gauge("buffer_hours").filter(|_| service.service == "link" && away)?;
    // So seldom another word that it can be told to a core that is hard to reach.
    let within = HELD_HOURS.into_iter().find(|within| hours < *within)?;
    let topics = service.gauges.iter().filter_map(|(name, hours)| {
        let topic = name.strip_prefix("buffer.")?.strip_suffix(".hours")?;
        Some((topic, *hours))
    });
    let first = topics.min_by(|(_, a), (_, b)| a.total_cmp(b));
    let first = first.filter(|(_, left)| *left <= hours);
    let what = first.map_or_else(
        || "the disk will be full".to_owned(),
        |(topic, _)| format!("records of {topic} that wait for headquarters will be lost"),
    );
    let what = format!("{what} within {within} hours");
    let remedy = "bring the link up, let the topic keep more, or carry a bundle";
    Some(if within <= 6.0 {
        error(what, remedy)
    } else {
        warning(what, remedy)
    })
}

/// What there is to say of what is lost to the other site, until somebody says that it is known.
pub(super) fn lost(service: &Service) -> Option<Trouble> {
    let gauge = |name: &str| service.gauges.get(name).copied().unwrap_or_default();
    if service.service != "link" || gauge("lost_unknown") <= 0.0 {
        return None;
    }
    let what = match gauge("lost_records") {
        0.0 => "records are lost to the other site, nobody knows how many".to_owned(),
        records => format!("{records} records are lost to the other site"),
    };
    let remedy = "Link says of which topics, and lets you say that you know; give topics a longer retention, or the link more of the line";
    Some(error(what, remedy))
}

/// What there is to say of a clock that is off for sure: times that people read go by it, windows, days and months too.
pub(super) fn clock(service: &Service) -> Option<Trouble> {
    let gauge = |name: &str| service.gauges.get(name).copied();
    let ahead = gauge("clock_skew_ms").filter(|_| service.service == "link")?;
    let within = gauge("clock_skew_within_ms").unwrap_or_default();
    if ahead.abs() - within <= OFF_MS {
        return None;
    }
    let minutes = (ahead.abs() / 60_000.0).round();
    let long = match minutes {
        minutes if minutes < 120.0 => format!("{minutes} min"),
        minutes if minutes < 2880.0 => format!("{} h", (minutes / 60.0).round()),
        minutes => format!("{} days", (minutes / 1440.0).round()),
    };
    let way = if ahead > 0.0 { "ahead of" } else { "behind" };
    Some(warning(
        format!("this site's clock is {long} {way} headquarters'"),
        "set this machine's clock, best by NTP: times here, windows and the days of the budget go by it, and a Kafka refuses records of more than an hour ahead",
    ))
}

/// Limits of a link that files do not keep to.
pub(super) fn unbudgeted(services: &[Service]) -> Option<Trouble> {
    let gauge = |service: &Service, name: &str| service.gauges.get(name).copied();
    let limits = |name: &String| {
        matches!(name.as_str(), "cap" | "day_limit" | "month_limit") || name.starts_with("window.")
    };
    let limited = services.iter().any(|service| {
        service.service == "link"
            && (service.gauges.keys().any(limits) || gauge(service, "metered") > Some(0.0))
    });
    let outside = |service: &Service| service.service == "mirror" && gauge(service, "door") == Some(0.0);
    let beside = limited && services.iter().any(outside);
    beside.then(|| warning(
        "what mirror fetches is neither counted nor held to the link's budget".to_owned(),
        "set link.door.listen and mirror.door to one address of this host, as \"127.0.0.1:7450\", and start both anew",
    ))
}

/// A link that carries nothing now.
pub(super) fn idle(why: &str) -> Trouble {
    warning(
        format!("the link carries nothing: {why}"),
        "it goes on by itself as soon as it can, and nothing is lost; Link has more",
    )
}

/// Whether a link that runs has not heard from the core for longer than it should.
pub(super) fn unanswered(link: &Service, now: i64) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970")]
    let contact = link.gauges.get("last_contact_at").map(|at| *at as i64);
    link.state == "running" && now - contact.unwrap_or(link.started_at) >= CONTACT_MS
}

#[cfg(test)]
mod tests {
    use super::super::tests::service;
    use super::*;

    #[test]
    fn a_link_that_runs_and_hears_nothing_is_told_and_one_that_has_just_started_is_not() {
        let mut link = service("link", "a", "running");
        assert!(!unanswered(&link, CONTACT_MS - 1) && unanswered(&link, CONTACT_MS));
        link.gauges.insert("last_contact_at".into(), 10_000.0);
        assert!(!unanswered(&link, CONTACT_MS) && unanswered(&link, CONTACT_MS + 10_000));
        link.state = "paused";
        assert!(!unanswered(&link, CONTACT_MS + 10_000));
    }

    #[test]
    fn what_is_lost_is_told_until_somebody_knows() {
        let mut link = service("link", "a", "running");
        assert!(lost(&link).is_none());
        let gauges = [
            ("lost_records", 20.0),
            ("lost_ranges", 3.0),
            ("lost_unknown", 3.0),
        ];
        link.gauges = gauges.map(|(name, value)| (name.to_owned(), value)).into();
        assert_eq!(lost(&link).unwrap().what, "20 records are lost to the other site");
        link.gauges.insert("lost_unknown".into(), 0.0);
        assert!(lost(&link).is_none());
    }

    #[test]
    fn files_that_keep_to_no_limit_are_told() {
        let site = |limit: Option<&str>, door: f64| {
            let (mut link, mut mirror) = (service("link", "a", "running"), service("mirror", "a", "running"));
            link.gauges.insert("metered".into(), 0.0);
            link.gauges.extend(limit.map(|name| (name.to_owned(), 1.0)));
            mirror.gauges.insert("door".into(), door);
            unbudgeted(&[link, mirror])
        };
        for limit in ["cap", "day_limit", "month_limit", "window.22:00-06:00", "metered"] {
            assert!(site(Some(limit), 0.0).is_some(), "{limit}");
            assert!(site(Some(limit), 1.0).is_none(), "{limit}");
        }
        assert!(site(None, 0.0).is_none());
    }

    #[test]
    fn a_clock_that_is_off_for_sure_is_told() {
        let told = |ahead: f64, within: f64| {
            let mut link = service("link", "a", "running");
            let gauges = [("clock_skew_ms", ahead), ("clock_skew_within_ms", within)];
            link.gauges = gauges.map(|(name, value)| (name.to_owned(), value)).into();
            clock(&link).map(|trouble| trouble.what)
        };
        assert!(clock(&service("link", "a", "running")).is_none(), "nobody knows");
        assert_eq!(told(59_000.0, 1.0), None);
        assert_eq!(told(90_000.0, 40_000.0), None, "it may be the line");
        let said = |text: &str| Some(format!("this site's clock is {text} headquarters'"));
        assert_eq!(told(190_000.0, 300.0), said("3 min ahead of"));
        assert_eq!(told(-7_200_000.0, 300.0), said("2 h behind"));
        assert_eq!(told(86_400_000.0 * 365.0, 300.0), said("365 days ahead of"));
    }

    #[test]
    fn what_would_be_lost_while_the_core_is_away_is_told_in_time() {
        let told = |hours: f64, now: i64| {
            let mut link = service("link", "a", "running");
            let gauges = [
                ("last_contact_at", 1_000.0),
                ("buffer_hours", hours),
                ("buffer.ore.hours", hours),
                ("buffer.tar.hours", 90.0),
            ];
            link.gauges = gauges.map(|(name, value)| (name.to_owned(), value)).into();
            held(&link, now).map(|trouble| (trouble.severity, trouble.what))
        };
        let long = 2_000 + AWAY_MS;
        assert_eq!(told(2.0, 2_000), None);
        assert_eq!(told(80.0, long), None);
        let (severity, what) = told(20.0, long).unwrap();
        assert_eq!(
            (severity, &*what),
            (
                "warning",
                "records of ore that wait for headquarters will be lost within 24 hours"
            )
        );
        assert_eq!(told(2.0, long).unwrap().0, "error");
    }
}
