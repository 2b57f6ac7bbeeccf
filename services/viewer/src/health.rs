//! What is wrong at a site, in words, and what to do about it.

use std::collections::BTreeMap;

use crate::app::Kind;
use crate::site_status;
use crate::view::{Service, Trouble};

/// How long an error that a service got over is still worth a word.
const RECENT_MS: i64 = 10 * 60 * 1000;
/// How long an edge may say nothing before that is worth a word: it says something every [`site_status::EVERY`], and its
/// link may need a while.
const EDGE_SILENT_MS: i64 = (site_status::EVERY.as_secs() as i64 + 5 * 60) * 1000;

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
    /// When each enrolled edge last reported; none if it never has.
    pub(crate) edges: &'a [(String, Option<i64>)],
    pub(crate) now: i64,
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
    for (name, instances) in by_name {
        // Where one instance works, another that is gone or waits its turn is no trouble.
        let works =
            |service: &&Service| matches!(service.state, "running" | "paused" | "draining" | "starting");
        match instances.iter().find(|service| works(service)) {
            Some(service) => found.extend(recent(service, signs.now)),
            None => found.extend(
                instances
                    .iter()
                    .max_by_key(|service| service.reported_at)
                    .map(|last| ill(name, last)),
            ),
        }
    }
    if signs.dead_letters > 0 {
        found.push(warning(
            format!("{} records could not be processed", signs.dead_letters),
            "`fieldline dead-letters list` says why; redrive them once the cause is mended",
        ));
    }
    if signs.index_full {
        found.push(warning(
            "there are more assets than are listed",
            "raise viewer.max_assets",
        ));
    }
    for (edge, reported_at) in signs.edges {
        let what = match reported_at {
            None => format!("{edge} is enrolled and has never reported"),
            Some(at) if signs.now - at > EDGE_SILENT_MS => {
                format!("{edge} last reported {} minutes ago", (signs.now - at) / 60_000)
            }
            Some(_) => continue,
        };
        found.push(warning(
            what,
            "its link may be down or paused; nothing is lost, it goes on when the link is up",
        ));
    }
    found.sort_by_key(|trouble| trouble.severity != "error");
    found
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
        _ => warning(
            format!(
                "{name} is waiting: {}",
                service.detail.as_deref().unwrap_or("it did not say for what")
            ),
            "it goes on by itself when that is there",
        ),
    }
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

    fn found(services: &[Service]) -> Vec<Trouble> {
        let others = ["listener", "requester", "mirror", "link"].map(|name| service(name, "0", "running"));
        let names: Vec<_> = services.iter().map(|service| service.service.clone()).collect();
        let all: Vec<_> = others
            .into_iter()
            .filter(|other| !names.contains(&other.service))
            .chain(services.to_vec())
            .collect();
        troubles(&Signs {
            kind: Kind::Edge,
            services: &all,
            dead_letters: 0,
            index_full: false,
            edges: &[],
            now: 0,
        })
    }

    #[test]
    fn a_site_where_all_services_run_has_no_trouble() {
        assert_eq!(found(&[]), []);
        assert_eq!(found(&[service("mirror", "0", "paused")]), []);
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
    fn what_never_reported_and_what_could_not_be_processed_is_told() {
        let edges = [("edge-1".to_owned(), None), ("edge-2".to_owned(), Some(0))];
        let signs = Signs {
            kind: Kind::Core,
            services: &[],
            dead_letters: 2,
            index_full: true,
            edges: &edges,
            now: EDGE_SILENT_MS + 1,
        };
        assert_eq!(troubles(&signs).len(), 5 + 1 + 1 + 2);
    }
}
