//! What is wrong at a site, in words, and what to do about it.

mod edges;
mod link;

use std::collections::BTreeMap;

use common::chassis::ByteSize;

use crate::app::Kind;
use crate::view::{Service, Trouble};

use edges::unheard;
use link::{clock, held, idle, lost, unanswered, unbudgeted};

/// How long an error that a service got over is still worth a word.
const RECENT_MS: i64 = 10 * 60 * 1000;
/// A disk that has less than this share left, and less than these bytes, is nearly full.
const NEARLY_FULL: (u64, u64) = (10, 10 << 30);
/// One that has less than this is as good as full.
const FULL: (u64, u64) = (2, 1 << 30);
/// How feed says that it has announced everything there is: it looks again now and then, and nothing is wrong.
const EXHAUSTED: &str = "catalogue exhausted";

/// The services that a site of a kind has.
fn expected(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Core => &["feed", "downloader", "broadcaster", "responder", "depot"],
        Kind::Edge => &["listener", "requester", "mirror", "link"],
    }
}

/// Whether a site of either kind has it.
pub(crate) fn is_stage(service: &str) -> bool {
    [Kind::Core, Kind::Edge]
        .iter()
        .any(|kind| expected(*kind).contains(&service))
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
    /// When each enrolled edge was last heard, by this site's clock; none if it never was.
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
                format!("start {name} on its machine, or see there what keeps it from starting"),
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
    found.extend(signs.services.iter().find_map(lost));
    found.extend(signs.services.iter().find_map(clock));
    found.extend(unbudgeted(signs.services));
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
            format!("mend the cause, then start {name} on its machine"),
        ),
        "silent" => error(
            format!("{name} says nothing any more"),
            format!("start {name} on its machine; its last log lines are under Services"),
        ),
        "stopped" => error(
            format!("{name} is stopped"),
            format!("start {name} on its machine"),
        ),
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
    use super::edges::EDGE_SILENT_MS;
    use super::*;

    pub(super) fn service(name: &str, instance: &str, state: &'static str) -> Service {
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
