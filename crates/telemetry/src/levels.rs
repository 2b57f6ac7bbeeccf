//! What is logged, for all services and for single ones, changeable while they run.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

use crate::service::{Owner, marks, owner};
use crate::tail;
use crate::{Error, Result};

/// Libraries whose debug lines nobody asked for by asking for `debug`; name one to hear it.
const QUIET: [&str; 7] = [
    "h2",
    "hyper",
    "hyper_util",
    "object_store",
    "reqwest",
    "rustls",
    "scylla",
];

#[derive(Debug, Clone, Default)]
struct Level {
    text: String,
    targets: Targets,
}

impl Level {
    fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::Level { text: text.into() };
        if text.trim().is_empty() {
            return Err(wrong());
        }
        let mut targets: Targets = text.parse().map_err(|_| wrong())?;
        // A single word that is no level parses as a target with every level on.
        if text
            .split(',')
            .any(|part| !part.contains('=') && part.trim().parse::<LevelFilter>().is_err())
        {
            return Err(wrong());
        }
        if targets
            .default_level()
            .is_some_and(|level| level > LevelFilter::INFO)
        {
            let named: Vec<String> = targets.iter().map(|(target, _)| target.to_owned()).collect();
            let quiet = QUIET
                .into_iter()
                .filter(|name| !named.iter().any(|named| named == name));
            targets = targets.with_targets(quiet.map(|name| (name, LevelFilter::INFO)));
        }
        Ok(Self {
            text: text.into(),
            targets,
        })
    }

    fn maximum(&self) -> LevelFilter {
        let named = self.targets.iter().map(|(_, level)| level).max();
        named
            .max(self.targets.default_level())
            .unwrap_or(LevelFilter::OFF)
    }
}

#[derive(Debug, Default)]
struct Table {
    process: Level,
    services: HashMap<Owner, Level>,
}

impl Table {
    fn maximum(&self) -> LevelFilter {
        self.services
            .values()
            .map(Level::maximum)
            .fold(self.process.maximum(), LevelFilter::max)
    }
}

/// The levels; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Levels(Arc<RwLock<Table>>);

impl Levels {
    pub(crate) fn new(level: &str) -> Result<Self> {
        let table = Table {
            process: Level::parse(level)?,
            services: HashMap::new(),
        };
        Ok(Self(Arc::new(RwLock::new(table))))
    }

    pub(crate) fn set(&self, level: &str) -> Result<()> {
        let level = Level::parse(level)?;
        self.change(|table| table.process = level);
        Ok(())
    }

    pub(crate) fn set_service(&self, site: &str, service: &str, level: Option<&str>) -> Result<()> {
        let owner = Owner {
            site: site.into(),
            service: service.into(),
        };
        let level = level.map(Level::parse).transpose()?;
        self.change(|table| match level {
            Some(level) => drop(table.services.insert(owner, level)),
            None => drop(table.services.remove(&owner)),
        });
        Ok(())
    }

    pub(crate) fn get(&self, site: &str, service: &str) -> String {
        let owner = Owner {
            site: site.into(),
            service: service.into(),
        };
        let table = self.read();
        table.services.get(&owner).unwrap_or(&table.process).text.clone()
    }

    pub(crate) fn process(&self) -> String {
        self.read().process.text.clone()
    }

    /// Whether a line of `owner` is to be written.
    pub(crate) fn wants(&self, metadata: &Metadata<'_>, owner: &Owner) -> bool {
        let table = self.read();
        let level = table.services.get(owner).unwrap_or(&table.process);
        level.targets.would_enable(metadata.target(), metadata.level())
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Table)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
        // Callsites remember what the filter said of them.
        tracing::callsite::rebuild_interest_cache();
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Filter<S> for Levels {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        let wanted = |level: &Level| level.targets.would_enable(metadata.target(), metadata.level());
        if marks(metadata) || tail::hides(metadata) {
            return true;
        }
        let table = self.read();
        if table.services.is_empty() {
            return wanted(&table.process);
        }
        owner(context.lookup_current(), |owner| {
            table.services.get(owner).map(wanted)
        })
        .flatten()
        .unwrap_or_else(|| wanted(&table.process))
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        let table = self.read();
        if marks(metadata) || tail::hides(metadata) {
            Interest::always()
        } else if *metadata.level() > table.maximum() {
            Interest::never()
        } else if !table.services.is_empty() {
            Interest::sometimes()
        } else if table
            .process
            .targets
            .would_enable(metadata.target(), metadata.level())
        {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.read().maximum().max(LevelFilter::INFO))
    }
}

/// What is worth keeping: what the levels let through, and what services say at level info whatever their level is. State
/// changes are few, and without them nobody could tell from a quiet service's last lines what it did.
#[derive(Debug, Clone)]
pub(crate) struct Kept(pub(crate) Levels);

fn kept(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= tracing::Level::INFO
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Filter<S> for Kept {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        kept(metadata) || Filter::<S>::enabled(&self.0, metadata, context)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if kept(metadata) {
            Interest::always()
        } else {
            Filter::<S>::callsite_enabled(&self.0, metadata)
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Filter::<S>::max_level_hint(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_text_is_checked() {
        for wrong in ["", "loud", "feed=loud", "info,loud"] {
            assert!(Levels::new(wrong).is_err(), "{wrong}");
        }
        for right in ["info", "warn,feed=trace", "off"] {
            assert!(Levels::new(right).is_ok(), "{right}");
        }
    }

    #[test]
    fn debug_leaves_libraries_quiet_unless_they_are_named() {
        let debug = Level::parse("debug").unwrap();
        assert!(
            !debug
                .targets
                .would_enable("hyper_util::client", &tracing::Level::DEBUG)
        );
        assert!(
            debug
                .targets
                .would_enable("feed::service", &tracing::Level::DEBUG)
        );
        let named = Level::parse("debug,hyper_util=debug").unwrap();
        assert!(
            named
                .targets
                .would_enable("hyper_util::client", &tracing::Level::DEBUG)
        );
    }

    #[test]
    fn service_level_comes_before_the_process_level() {
        let levels = Levels::new("info").unwrap();
        levels.set_service("core", "feed", Some("debug")).unwrap();
        assert_eq!(
            (levels.get("core", "feed"), levels.get("core", "link")),
            ("debug".into(), "info".into())
        );
        levels.set_service("core", "feed", None).unwrap();
        assert_eq!(levels.get("core", "feed"), "info");
    }
}
