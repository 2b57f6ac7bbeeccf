//! What is wrong at a site, in words, and what to do about it.

use std::collections::BTreeMap;

use common::chassis::ByteSize;

use crate::api::CONTACT_MS;
use crate::app::Kind;
use crate::site_status;
use crate::view::{Service, Trouble};

/// How long an error that a service got over is still worth a word.
const RECENT_MS: i64 = 10 * 60 * 1000;
/// How long an edge may say nothing before that is worth a word: it says something every [`site_status::EVERY`], and its
/// link may need a while.
const EDGE_SILENT_MS: i64 = (site_status::EVERY.as_secs() as i64 + 5 * 60) * 1000;
/// So many silent edges are told by their names.
const NAMED_EDGES: usize = 5;
/// A disk that has less than this share left, and less than these bytes, is nearly full.
const NEARLY_FULL: (u64, u64) = (10, 10 << 30);
/// One that has less than this is as good as full.
const FULL: (u64, u64) = (2, 1 << 30);
/// How feed says that it has announced everything there is: it looks again now and then, and nothing is wrong.
const EXHAUSTED: &str = "catalogue exhausted";

/// How long the core may be away before it is told how long this site can wait, and which hours are told.
const AWAY_MS: i64 = 15 * 60 * 1000;
const HELD_HOURS: [f64; 4] = [1.0, 6.0, 12.0, 24.0];

/// The services that a site of a kind has.
fn expected(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Core => &["feed", "downloader", "broadcaster", "responder", "depot"],
        Kind::Edge => &["listener", "requester", "mirror", "link"],
    }
}

/// What there is to look at.
#[derive(Debug)]
pub(crate) struct Signs<'a> {
    pub(crate) kind: Kind,
    pub(crate) services: &'a [Service],
    pub(crate) dead_letters: i64,
    pub(crate) index_full: bool,
    /// Assets that could not be downloaded (core).
    pub(crate) failed: usize,
    /// Bytes of what is ready to be mirrored (edge).
    pub(crate) ready_bytes: u64,
    /// The volume's disk; none where nobody knows.
    pub(crate) disk: Option<Disk>,
    /// Whoever reaches the address is operator.
    pub(crate) open_to_all: bool,
    /// When each enrolled edge last reported; none if it never has.
    pub(crate) edges: &'a [(String, Option<i64>)],
    pub(crate) now: i64,
}

/// A disk, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk {
    pub(crate) free: u64,
    pub(crate) total: u64,
}

/// Finds what is wrong, errors first.
pub(crate) fn troubles(signs: &Signs<'_>) -> Vec<Trouble> {
    let mut found = Vec::new();
    let mut by_name: BTreeMap<&str, Vec<&Service>> = BTreeMap::new();
    for service in signs.services {
        by_name.entry(&service.service).or_default().push(service);
    }
    for name in expected(signs.kind) {
        if !by_name.contains_key(name) {
            found.push(warning(
                format!("{name} has never reported"),
                format!("start {name}, or see its log"),
            ));
        }
    }
    let link_waits = by_name
        .get("link")
        .is_some_and(|links| links.iter().all(|link| link.state == "waiting"));
    for (name, instances) in by_name {
        // Where one instance works, another that is gone or waits its turn is no trouble.
        let works =
            |service: &&Service| matches!(service.state, "running" | "paused" | "draining" | "starting");
        match instances.iter().find(|service| works(service)) {
            // Mirror is paused until somebody wants bytes to move.
            Some(service) if service.state == "paused" && name != "mirror" => found.push(warning(
                format!("{name} is paused"),
                if name == "link" {
                    "nothing is lost meanwhile; resume it under Link when it is to go on"
                } else {
                    "somebody stopped it; start it under Services when it is to go on"
                },
            )),
            Some(link) if name == "link" && unanswered(link, signs.now) => {
                let why = link.last_error.as_deref();
                found.push(idle(why.unwrap_or("headquarters does not answer")));
            }
            Some(service) => found.extend(recent(service, signs.now)),
            None => {
                let last = instances.iter().max_by_key(|service| service.reported_at);
                // That the site is not connected is one trouble, however many services wait for it; and so is a core
                // that is out of reach.
                let told = last
                    .map(|last| ill(name, last))
                    .filter(|trouble| !found.contains(trouble));
                if !last.is_some_and(|last| link_waits && depot_is_away(last)) {
                    found.extend(told);
                }
            }
        }
    }
    if signs.dead_letters > 0 {
        let what = match signs.dead_letters {
            1 => "1 record could not be processed".to_owned(),
            many => format!("{many} records could not be processed"),
        };
        found.push(warning(
            what,
            "Dead letters says why; mend the cause, then redrive them there",
        ));
    }
    if signs.failed > 0 {
        let what = match signs.failed {
            1 => "1 asset could not be downloaded".to_owned(),
            many => format!("{many} assets could not be downloaded"),
        };
        found.push(warning(
            what,
            "Assets, state Failed, says why; no edge is told of them. Mend the source and let the catalogue name them anew",
        ));
    }
    found.extend(signs.disk.and_then(|disk| room(disk, signs.ready_bytes)));
    found.extend(signs.services.iter().find_map(|service| held(service, signs.now)));
    if signs.open_to_all {
        found.push(warning(
            "sign-in is off: whoever can open this page is operator",
            "set viewer.sign_in = \"users\" and start the viewer anew",
        ));
    }
    if signs.index_full {
        found.push(warning(
            "there are more assets than are listed",
            "raise viewer.max_assets",
        ));
    }
    found.extend(unheard(signs.edges, signs.now));
    found.sort_by_key(|trouble| match trouble.severity {
        "error" => 0,
        "warning" => 1,
        _ => 2,
    });
    found
}

/// What there is to say of edges of which nothing was heard for long: all of them together, for they can be many.
fn unheard(edges: &[(String, Option<i64>)], now: i64) -> Option<Trouble> {
    let mut late: Vec<(&str, Option<i64>)> = edges
        .iter()
        .map(|(edge, at)| (edge.as_str(), at.map(|at| now - at)))
        .filter(|(_, ago)| ago.is_none_or(|ago| ago > EDGE_SILENT_MS))
        .collect();
    // The newest trouble is the one to look into; what was never there may only be on its way.
    late.sort_by_key(|(edge, ago)| (ago.unwrap_or(i64::MAX), *edge));
    let since = |ago: Option<i64>| {
        ago.map_or_else(
            || "from the start".to_owned(),
            |ago| format!("for {}", lasting(ago)),
        )
    };
    let what = match late.as_slice() {
        [] => return None,
        [(edge, ago)] => format!("nothing is heard of {edge} {}", since(*ago)),
        _ => {
            let mut named: Vec<String> = late
                .iter()
                .take(NAMED_EDGES)
                .map(|(edge, ago)| format!("{edge} {}", since(*ago)))
                .collect();
            if late.len() > NAMED_EDGES {
                named.push(format!("{} more", late.len() - NAMED_EDGES));
            }
            format!("nothing is heard of {} edges: {}", late.len(), named.join(", "))
        }
    };
    Some(warning(
        what,
        "a link may be down or paused; nothing is lost, and it goes on when the link is up. Edges has more",
    ))
}

/// A time in its largest unit.
fn lasting(ms: i64) -> String {
    let (number, unit) = match ms / 60_000 {
        minutes @ 0..60 => (minutes, "minute"),
        minutes @ 60..1440 => (minutes / 60, "hour"),
        minutes => (minutes / 1440, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

/// What there is to say of what waits for a core that does not answer.
fn held(service: &Service, now: i64) -> Option<Trouble> {
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

/// What there is to say of a disk.
fn room(disk: Disk, ready: u64) -> Option<Trouble> {
    let remedy = "evict assets that are no longer needed, or give the volume a larger disk";
    let below = |(share, bytes): (u64, u64)| disk.free < disk.total / 100 * share && disk.free < bytes;
    let left = format!(
        "{} of {} are left",
        ByteSize(disk.free).about(),
        ByteSize(disk.total).about()
    );
    if below(FULL) {
        Some(error(format!("the disk is full: {left}"), remedy))
    } else if ready > disk.free {
        let what = format!(
            "what is ready to be mirrored does not fit: it takes {}, and {left}",
            ByteSize(ready).about()
        );
        Some(warning(what, remedy))
    } else {
        below(NEARLY_FULL).then(|| warning(format!("the disk is nearly full: {left}"), remedy))
    }
}

fn ill(name: &str, service: &Service) -> Trouble {
    let why = || {
        service
            .last_error
            .clone()
            .unwrap_or_else(|| "it did not say why".into())
    };
    match service.state {
        "failed" => error(
            format!("{name} has failed: {}", why()),
            format!("mend the cause and start {name}"),
        ),
        "silent" => error(
            format!("{name} says nothing any more"),
            format!("start {name}, or see its log"),
        ),
        "stopped" => error(format!("{name} is stopped"), format!("start {name}")),
        _ if service.detail.as_deref() == Some(EXHAUSTED) => Trouble {
            severity: "info",
            what: format!("{name} has announced everything that its catalogue has"),
            remedy: "it looks again now and then, and goes on by itself".into(),
        },
        _ if not_connected(service).is_some() => error(
            format!(
                "this site is not connected to headquarters: {}",
                not_connected(service).unwrap_or_default()
            ),
            "an operator connects it under Set-up on this site's page",
        ),
        _ if name == "link" => idle(service.detail.as_deref().unwrap_or("it did not say why")),
        _ => warning(
            format!(
                "{name} is waiting: {}",
                service.detail.as_deref().unwrap_or("it did not say for what")
            ),
            "it goes on by itself when that is there",
        ),
    }
}

/// A link that carries nothing now.
fn idle(why: &str) -> Trouble {
    warning(
        format!("the link carries nothing: {why}"),
        "it goes on by itself as soon as it can, and nothing is lost; Link has more",
    )
}

/// Whether a link that runs has not heard from the core for longer than it should.
fn unanswered(link: &Service, now: i64) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970")]
    let contact = link.gauges.get("last_contact_at").map(|at| *at as i64);
    link.state == "running" && now - contact.unwrap_or(link.started_at) >= CONTACT_MS
}

/// Why the site has no core yet, where that is what the service waits for.
fn not_connected(service: &Service) -> Option<&str> {
    service.detail.as_deref()?.strip_prefix("not connected: ")
}

/// Whether it waits for the core's depot.
fn depot_is_away(service: &Service) -> bool {
    let detail = service.detail.as_deref();
    service.state == "waiting" && detail.is_some_and(|detail| detail.starts_with("cannot reach the depot"))
}

fn recent(service: &Service, now: i64) -> Option<Trouble> {
    let text = service
        .last_error
        .as_ref()
        .filter(|_| service.last_error_at.is_some_and(|at| now - at < RECENT_MS))?;
    let name = &service.service;
    Some(warning(
        format!("{name} had an error: {text}"),
        format!("it works again; see the log of {name} if it comes back"),
    ))
}

fn error(what: impl Into<String>, remedy: impl Into<String>) -> Trouble {
    Trouble {
        severity: "error",
        what: what.into(),
        remedy: remedy.into(),
    }
}

fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Trouble {
    Trouble {
        severity: "warning",
        what: what.into(),
        remedy: remedy.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, instance: &str, state: &'static str) -> Service {
        Service {
            service: name.into(),
            instance: instance.into(),
            state,
            reported_state: state,
            detail: (state == "waiting").then(|| "the core".into()),
            last_error: None,
            last_error_at: None,
            started_at: 0,
            reported_at: 0,
            version: "1".into(),
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            desired: None,
            log_level: None,
            rate: None,
            lag: None,
            dead_letters: 0,
            uptime_s: None,
        }
    }

    fn nothing(kind: Kind) -> Signs<'static> {
        Signs {
            kind,
            services: &[],
            dead_letters: 0,
            index_full: false,
            failed: 0,
            ready_bytes: 0,
            disk: None,
            open_to_all: false,
            edges: &[],
            now: 0,
        }
    }

    fn found(services: &[Service]) -> Vec<Trouble> {
        let others = ["listener", "requester", "mirror", "link"].map(|name| service(name, "0", "running"));
        let names: Vec<_> = services.iter().map(|service| service.service.clone()).collect();
        let all: Vec<_> = others
            .into_iter()
            .filter(|other| !names.contains(&other.service))
            .chain(services.to_vec())
            .collect();
        troubles(&Signs {
            services: &all,
            ..nothing(Kind::Edge)
        })
    }

    #[test]
    fn a_site_where_all_services_run_has_no_trouble() {
        assert_eq!(found(&[]), []);
        assert_eq!(found(&[service("mirror", "0", "paused")]), []);
        let told = found(&[service("listener", "0", "paused")]);
        assert_eq!((told.len(), told[0].what.as_str()), (1, "listener is paused"));
    }

    #[test]
    fn a_second_instance_that_waits_or_is_gone_is_no_trouble() {
        assert_eq!(
            found(&[service("link", "a", "running"), service("link", "b", "waiting")]),
            []
        );
        assert_eq!(
            found(&[service("link", "a", "silent"), service("link", "b", "running")]),
            []
        );
    }

    #[test]
    fn silence_failure_and_waiting_are_told_errors_first() {
        let told = found(&[
            service("link", "a", "waiting"),
            service("mirror", "a", "failed"),
            service("listener", "a", "silent"),
        ]);
        assert_eq!(
            told.iter().map(|trouble| trouble.severity).collect::<Vec<_>>(),
            ["error", "error", "warning"]
        );
        assert!(told[2].what.contains("the core"));
    }

    #[test]
    fn a_site_that_is_not_connected_is_told_once() {
        let mut waiting = ["link", "mirror"].map(|name| service(name, "a", "waiting"));
        for service in &mut waiting {
            service.detail = Some("not connected: give this site its enrolment".into());
        }
        let told = found(&waiting);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].severity, "error");
        assert!(
            told[0]
                .what
                .ends_with("not connected to headquarters: give this site its enrolment")
        );
    }

    #[test]
    fn a_core_out_of_reach_is_told_once() {
        let waits = |name: &str, detail: &str| Service {
            detail: Some(detail.into()),
            ..service(name, "a", "waiting")
        };
        let link = waits("link", "cannot reach kafka at 192.0.2.1:9092");
        let mirror = waits("mirror", "cannot reach the depot at https://192.0.2.1:7443");
        let told = found(&[link, mirror.clone()]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(
            told[0].what,
            "the link carries nothing: cannot reach kafka at 192.0.2.1:9092"
        );
        assert_eq!(found(&[mirror]).len(), 1, "the depot alone");
    }

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

    #[test]
    fn what_never_reported_and_what_could_not_be_processed_is_told() {
        let edges = [("edge-1".to_owned(), None), ("edge-2".to_owned(), Some(0))];
        let signs = Signs {
            dead_letters: 2,
            index_full: true,
            failed: 3,
            open_to_all: true,
            edges: &edges,
            now: EDGE_SILENT_MS + 1,
            ..nothing(Kind::Core)
        };
        let told = troubles(&signs);
        assert_eq!(told.len(), 5 + 1 + 1 + 1 + 1 + 1);
        let edges = told.last().unwrap();
        assert_eq!(
            edges.what,
            "nothing is heard of 2 edges: edge-2 for 20 minutes, edge-1 from the start"
        );
    }

    #[test]
    fn silent_edges_are_one_trouble_the_newest_first_and_not_all_by_name() {
        const HOUR: i64 = 60 * 60 * 1000;
        let told = |edges: &[(String, Option<i64>)]| unheard(edges, 100 * HOUR).map(|trouble| trouble.what);
        let edge = |number: i64, hours: i64| (format!("edge-{number}"), Some((100 - hours) * HOUR));
        assert_eq!(told(&[edge(1, 0)]), None);
        assert_eq!(
            told(&[edge(1, 0), edge(2, 50)]).unwrap(),
            "nothing is heard of edge-2 for 2 days"
        );
        let many: Vec<_> = (1..=7).map(|number| edge(number, 8 - number)).collect();
        assert_eq!(
            told(&many).unwrap(),
            "nothing is heard of 7 edges: edge-7 for 1 hour, edge-6 for 2 hours, edge-5 for 3 hours, edge-4 for 4 hours, \
             edge-3 for 5 hours, 2 more"
        );
    }

    #[test]
    fn a_feed_that_has_announced_everything_is_good_to_know_and_not_wrong() {
        let feed = Service {
            detail: Some(EXHAUSTED.into()),
            ..service("feed", "0", "waiting")
        };
        let told = found(&[feed]);
        assert_eq!((told.len(), told[0].severity), (1, "info"));
    }

    #[test]
    fn a_disk_is_told_of_before_it_is_full_and_when_what_is_ready_does_not_fit() {
        const GIB: u64 = 1 << 30;
        let told = |free: u64, total: u64, ready: u64| {
            room(Disk { free, total }, ready).map(|trouble| (trouble.severity, trouble.what))
        };
        assert_eq!(told(50 * GIB, 4000 * GIB, 0), None, "a large disk with room");
        assert_eq!(told(GIB, 8 * GIB, 0), None);
        assert_eq!(told(GIB / 2, 8 * GIB, 0).unwrap().0, "warning");
        assert_eq!(told(GIB / 10, 8 * GIB, 0).unwrap().0, "error");
        let (severity, what) = told(2 * GIB, 8 * GIB, 3 * GIB).unwrap();
        assert_eq!(severity, "warning");
        assert!(
            what.contains("3.0 GiB") && what.contains("2.0 GiB of 8.0 GiB"),
            "{what}"
        );
    }
}
