//! The service: one instance of an edge's link works, a second waits and says so.
//!
//! The lease is a group membership at the edge's own broker and only keeps instances from hindering each other; what
//! must not happen twice is kept by the transactional ids, which fence.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use common::broker::{self, Broker, Lease, TopicSpec};
use common::budget::{Budget, Class, door::Door};
use common::chassis::{self, Host, Stop};
use common::control::Control;
use common::kafka::{self, Producer, Tcp};
use common::schemas::{Desired, SiteId, at_core, topic};
use common::telemetry;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::backlog::Bell;
use crate::backoff::Backoff;
use crate::carrier::{Carrier, Fenced, TIMEOUT, transactional_id};
use crate::certificates::{self, Stamp};
use crate::disk::Disk;
use crate::error::{Error, Result as Worked};
use crate::found::{Finder, Found};
use crate::kept::Kept;
use crate::line::{self, Line, OnAccount};
use crate::lookout::Lookout;
use crate::metrics::Metrics;
use crate::paths::Paths;
use crate::report::{Board, State};
use crate::routes::{Classes, Direction, Lane, expand};
use crate::rule::{Rule, Wishes};
use crate::settings::Settings;
use crate::wire::{End, Wire, end};
use crate::{batches, far, holder, paths};

/// What is known of the checkpoints at the core.
const KEPT: &str = "link-checkpoints.json";
/// How long a lease may take before it is said that another instance has it.
const PATIENCE: Duration = Duration::from_secs(2);

/// The link of an edge.
#[derive(Debug, Clone)]
pub struct Link {
    site: SiteId,
    own: Broker,
    core: Broker,
    lanes: Vec<Lane>,
    found: Found,
    settings: Arc<Settings>,
    control: Control,
    budget: Budget,
    wishes: watch::Receiver<Wishes>,
    board: Arc<Board>,
    /// Who it is since it began to carry.
    holder: String,
    /// Classes that routes have since then in place of their configured ones.
    classes: Classes,
    /// When the process is told to end.
    ends: Stop,
    /// When no carrier is at work any more.
    _over: Arc<Over>,
}

/// Says so when it is dropped.
#[derive(Debug)]
struct Over(Stop);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl chassis::Service for Link {
    const NAME: &'static str = "link";
    type Settings = Settings;

    async fn build(settings: Settings, host: &Host) -> anyhow::Result<Self> {
        let site: SiteId = host.site().parse()?;
        let lanes =
            expand(&site, &settings.routes()).map_err(|problems| anyhow::anyhow!(problems.join("; ")))?;
        let own = Broker::open(&settings.broker, Self::NAME, host.registry())
            .await
            .context("this edge's broker")?;
        let core = core(&settings).await.context("the core's broker")?;
        let control = Control::attach(host, &own).await?;
        let settings = Arc::new(settings);
        let budget = line::open(&settings).context("the link's budget")?;
        let board = Arc::new(Board::new(control.clone()));
        let unverified: Vec<&str> = certificates::unverified(&settings).collect();
        board.remark(
            "certificates",
            (!unverified.is_empty()).then(|| unverified.join("; ")),
        );
        let rule = Rule::new(settings.clone(), budget.clone(), control.clone(), board.clone());
        let wishes = rule.wishes();
        host.spawn("rule", rule.follow(host.stop()));
        // Commands that read the core's records come this way too.
        let mut door = settings.door.clone();
        door.allow.extend(far::servers(&settings.core));
        if let Some(door) = Door::open(&budget, &door).await? {
            tracing::info!(address = %door.address(), "the link's door is open");
            let stop = host.stop();
            host.spawn("door", async move {
                stop.run_until_cancelled(door.run()).await;
                Ok(())
            });
        }
        let ping = own.clone();
        host.check("broker", move || {
            let broker = ping.clone();
            async move { broker.ping().await.map_err(|error| telemetry::chain(&error)) }
        });
        let line = Line {
            budget: budget.clone(),
            class: Class::Requests,
        };
        let far = match end(&settings.core, Arc::new(line)) {
            Some(End::Kafka(cluster)) => Some(cluster),
            _ => None,
        };
        let near = match end(&settings.broker, Arc::new(Tcp)) {
            Some(End::Kafka(cluster)) => Some(cluster),
            _ => None,
        };
        let disk = Disk::of(&settings.broker, near.clone());
        let (refresh, clusters) = (*settings.refresh, (near, far));
        let finder = Finder::new(
            &site,
            &settings.routes(),
            (&own, &core),
            clusters,
            refresh,
            (&control, &wishes),
        );
        let found = finder.found();
        host.spawn("topics", finder.follow(host.stop()));
        let up = lanes.iter().filter(|lane| lane.direction == Direction::Up);
        let lookout = Lookout {
            site: site.to_string(),
            own: own.clone(),
            lanes: up.cloned().collect(),
            found: found.clone(),
            board: board.clone(),
            budget: budget.clone(),
            control: control.clone(),
            metrics: Metrics::register(host.registry())?,
            refresh: *settings.refresh,
            disk,
        };
        let over = Stop::new();
        host.spawn("lookout", lookout.run(over.clone()));
        Ok(Self {
            site,
            own,
            core,
            lanes,
            found,
            settings,
            control,
            budget,
            wishes,
            board,
            holder: String::new(),
            classes: Classes::new(),
            ends: host.stop(),
            _over: Arc::new(Over(over)),
        })
    }

    async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let control = self.control.clone();
        let paused = control.told().borrow().desired == Desired::Paused;
        self.budget.pause(paused);
        let work = |stop| {
            let link = self.clone();
            async move {
                let budget = link.budget.clone();
                budget.pause(false);
                let ended = link.work(stop).await;
                // What carriers leave open is settled; from here on the door and whoever looks at the core stand still too.
                budget.pause(true);
                ended
            }
        };
        control.supervise(stop, work).await
    }
}

impl Link {
    async fn work(mut self, stop: Stop) -> anyhow::Result<()> {
        let tls = self.settings.core.tls.clone();
        let mut known = certificates::stamp(&tls).await;
        let mut backoff = Backoff::new(*self.settings.backoff, *self.settings.max_backoff);
        while !stop.is_cancelled() {
            let now = certificates::stamp(&tls).await;
            if now != known {
                known = now;
                tracing::info!("certificates have changed: connecting to the core anew");
                match core(&self.settings).await {
                    Ok(core) => self.core = core,
                    Err(error) => {
                        tracing::warn!(error = %telemetry::chain(&error), "new certificates cannot be used")
                    }
                }
            }
            let worked = tokio::select! {
                () = stop.cancelled() => break,
                lease = self.lease() => match lease {
                    Ok(lease) => self.hold(lease, &known, &stop).await,
                    Err(error) => {
                        let text = telemetry::chain(&error);
                        tracing::warn!(error = %text, "lease cannot be asked for");
                        self.control.waiting(text);
                        Err(Fenced)
                    }
                },
            };
            let pause = match worked {
                Ok(()) => {
                    backoff.reset();
                    Duration::ZERO
                }
                Err(Fenced) => backoff.pause(),
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(())
    }

    async fn lease(&self) -> Result<Lease, broker::Error> {
        let checkpoints = at_core(&self.site, topic::CHECKPOINTS);
        if self.own.describe(&checkpoints).await?.is_none() {
            self.own
                .create_topic(&TopicSpec::new(&checkpoints, 1).compacted())
                .await?;
        }
        paths::make(&self.own).await;
        let lease = self
            .own
            .lease(&checkpoints, &format!("{}.link", self.site))
            .await?;
        if tokio::time::timeout(PATIENCE, lease.acquired()).await.is_err() {
            tracing::info!("another instance is at work");
            self.board.stand_by(true);
            self.control
                .waiting("another instance of link is at work at this site");
            lease.acquired().await;
        }
        self.board.stand_by(false);
        Ok(lease)
    }

    /// Carries both ways while the lease is held.
    async fn hold(&self, lease: Lease, certificates: &Stamp, stop: &Stop) -> Result<(), Fenced> {
        tracing::info!("lease acquired");
        for unverified in certificates::unverified(&self.settings) {
            tracing::warn!("{unverified}");
        }
        let ended = tokio::select! {
            ended = self.carry(stop) => ended,
            () = certificates::changed(&self.settings.core.tls, certificates) => Ok(()),
            () = lease.lost() => {
                // What was in hand is dropped, which the protocol allows at any point.
                tracing::warn!("lease lost");
                Ok(())
            }
        };
        lease.release().await;
        ended
    }

    /// Both ways; when a carrier is fenced, all end. They also end when a route is to go in another class, and others begin:
    /// then its topics go under another transactional id, and as after a change of settings nobody of before may be left.
    async fn carry(&self, stop: &Stop) -> Result<(), Fenced> {
        let mut wishes = self.wishes.clone();
        loop {
            self.board.clear();
            self.control.running();
            let link = Self {
                holder: holder::anew(),
                classes: wishes.borrow_and_update().classes.clone(),
                ..self.clone()
            };
            let (mut ways, ends) = (JoinSet::new(), stop.child_token());
            for direction in [Direction::Down, Direction::Up] {
                ways.spawn(link.clone().way(direction, ends.clone()));
            }
            let mut ended = pin!(all(ways));
            tokio::select! {
                ended = &mut ended => return ended,
                () = others(&mut wishes, &link.classes) => ends.cancel(),
            }
            ended.await?;
            if stop.is_cancelled() {
                return Ok(());
            }
            tracing::info!("routes go in other classes from now on");
        }
    }

    /// One carrier for each class that has lanes.
    async fn way(self, direction: Direction, stop: Stop) -> Result<(), Fenced> {
        // What lies at the own broker is read without the link.
        let file = match direction {
            Direction::Down => None,
            Direction::Up => line::beside(&self.settings, KEPT),
        };
        let kept = Kept::new(file);
        if !self.alone(direction, &kept, &stop).await {
            return Ok(());
        }
        let lanes = self.lanes.iter().filter(|lane| lane.direction == direction);
        let lanes: Vec<Lane> = lanes.map(|lane| lane.clone().classed(&self.classes)).collect();
        if direction == Direction::Down
            && let Err(error) = paths::prune(&self.own, &self.site, &lanes, &self.settings.routes()).await
        {
            tracing::warn!(error = %telemetry::chain(&error), "ways that are no more cannot be taken back");
        }
        let mut carriers = JoinSet::new();
        let shared = (&Bell::default(), &Paths::default(), &kept);
        if self.in_classes() {
            let backlogs: Vec<Lane> = lanes.iter().map(Lane::backlog).collect();
            for class in Class::ALL {
                let lanes = lanes.iter().chain(&backlogs);
                let lanes = lanes.filter(|lane| lane.class == class).cloned();
                let carrier = self.carrier(direction, Some(class), lanes, shared);
                let mut patterns = self.patterns(direction);
                if !carrier.all.is_empty()
                    || carrier.awaits
                    || patterns.any(|lane| lane.backlog().class == class)
                {
                    carriers.spawn(carrier.run(stop.clone()));
                }
            }
        } else {
            let carrier = self.carrier(direction, None, lanes.into_iter(), shared);
            carriers.spawn(carrier.run(stop.clone()));
        }
        let ended = tokio::select! {
            ended = all(carriers) => ended,
            () = kept.saving() => Ok(()),
        };
        kept.save().await;
        ended
    }

    /// Says who carries from now on, and fences all carriers that were before, of whatever classes their topics had then.
    /// False when it is told to stop.
    async fn alone(&self, direction: Direction, kept: &Kept, stop: &Stop) -> bool {
        let report = self.board.report((direction, Class::Requests));
        let mut backoff = Backoff::new(*self.settings.backoff, *self.settings.max_backoff);
        while !stop.is_cancelled() {
            if let Err(hold) = self.budget.admits(Class::Requests) {
                report.state(State::Held(hold.to_string()));
                stop.run_until_cancelled(self.budget.admitted(Class::Requests))
                    .await;
                continue;
            }
            match stop.run_until_cancelled(self.fence(direction, kept)).await {
                None => break,
                // Down there is no carrier of this class that would take back what kept it waiting.
                Some(Ok(())) => {
                    report.over();
                    return true;
                }
                Some(Err(error)) => {
                    let text = certificates::named(&self.settings.core.tls, telemetry::chain(&error));
                    tracing::warn!(%direction, error = %text, "earlier carriers cannot be fenced");
                    report.problem(Some(text));
                    stop.run_until_cancelled(tokio::time::sleep(backoff.pause()))
                        .await;
                }
            }
        }
        false
    }

    /// The mark first, and then all ids: see [`holder`].
    async fn fence(&self, direction: Direction, kept: &Kept) -> Worked<()> {
        let wire = self.wire(direction, Class::Requests);
        let destination = match direction {
            Direction::Down => (&self.own, &self.settings.broker),
            Direction::Up => (&self.core, &self.settings.core),
        };
        if in_process(destination.1) {
            // Who else had the file open has ended.
            return Ok(());
        }
        if let Some(Wire {
            source: End::Kafka(source),
            destination: End::Kafka(destination),
        }) = &wire
            && let (Some(source), Some(destination)) = tokio::try_join!(source.id(), destination.id())?
            && source == destination
        {
            return Err(Error::Itself);
        }
        let checkpoints = at_core(&self.site, topic::CHECKPOINTS);
        let mark = holder::mark(&checkpoints, &self.holder)?;
        let missing = || Error::NotEnrolled {
            topic: checkpoints.clone(),
            site: self.site.to_string(),
        };
        // The id of those that carry all classes fences itself.
        let first = transactional_id(&self.site, direction, None);
        let ids = Class::ALL.map(|class| transactional_id(&self.site, direction, Some(class)));
        match wire.map(|wire| wire.destination) {
            Some(End::Embedded) => {}
            Some(End::Kafka(cluster)) => {
                kept.recall(&cluster, &first).await?;
                let marked = batches::mark(&cluster, &first, &checkpoints, mark).await?;
                kept.marked(&first, marked.ok_or_else(missing)?).await;
                let mut fences = JoinSet::new();
                for id in ids {
                    let cluster = cluster.clone();
                    fences.spawn(async move { Producer::take_over(&cluster, &id, TIMEOUT).await.map(drop) });
                }
                while let Some(fenced) = fences.join_next().await {
                    match fenced {
                        // Who is fenced itself at this moment is told so by its first session.
                        Ok(Ok(()) | Err(kafka::Error::Fenced { .. })) | Err(_) => {}
                        Ok(Err(error)) => return Err(error.into()),
                    }
                }
            }
            None => {
                let (broker, _) = destination;
                broker.describe(&checkpoints).await?.ok_or_else(missing)?;
                let mut marking = broker.transactions(&first).await?;
                marking.commit(Vec::new(), |_| vec![mark]).await?;
                for id in ids {
                    broker.transactions(&id).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether each class has a carrier and connections of its own: not where librdkafka goes to the core, for it would
    /// say everything that it says when idle once more for each.
    fn in_classes(&self) -> bool {
        !self.settings.by_records()
    }

    fn carrier(
        &self,
        direction: Direction,
        class: Option<Class>,
        lanes: impl Iterator<Item = Lane>,
        (bell, paths, kept): (&Bell, &Paths, &Kept),
    ) -> Carrier {
        let (source, destination, to) = match direction {
            Direction::Down => (self.core.clone(), self.own.clone(), &self.settings.broker),
            Direction::Up => (self.own.clone(), self.core.clone(), &self.settings.core),
        };
        let crosses = class.unwrap_or(Class::Requests);
        let wire = self
            .wire(direction, crosses)
            .filter(|wire| class.is_some() && wire.leads_out());
        Carrier {
            site: self.site.clone(),
            direction,
            class,
            source,
            destination,
            checkpoints: at_core(&self.site, topic::CHECKPOINTS),
            holder: (!in_process(to)).then(|| self.holder.clone()),
            wire,
            kept: kept.clone(),
            pace: AtomicUsize::new(0),
            again: AtomicU64::new(0),
            all: lanes.collect(),
            found: self.found.clone(),
            classes: self.classes.clone(),
            awaits: self.awaits(direction, class),
            lanes: Vec::new(),
            in_hand: Mutex::default(),
            budget: self.budget.clone(),
            wishes: self.wishes.clone(),
            account: match direction {
                Direction::Down => None,
                Direction::Up => end(&self.settings.core, Arc::new(OnAccount)),
            },
            settle: self.wire(direction, Class::Requests).map(|wire| wire.destination),
            ends: self.ends.clone(),
            settings: self.settings.clone(),
            bell: bell.clone(),
            paths: paths.clone(),
            report: self.board.report((direction, crosses)),
        }
    }

    /// Whether patterns may find topics of a class.
    fn awaits(&self, direction: Direction, class: Option<Class>) -> bool {
        self.patterns(direction)
            .any(|lane| class.is_none_or(|class| class == lane.class))
    }

    /// What patterns find is like these.
    fn patterns(&self, direction: Direction) -> impl Iterator<Item = Lane> {
        let routes = self.settings.routes().into_iter();
        routes
            .filter(move |route| route.direction == direction && route.pattern.is_some())
            .map(|route| route.lane(&self.site, "").classed(&self.classes))
    }

    /// Connections of its own for a direction and class; those to the core are under the budget. None where a broker's
    /// settings say things to librdkafka.
    fn wire(&self, direction: Direction, class: Class) -> Option<Wire> {
        let line = Line {
            budget: self.budget.clone(),
            class,
        };
        let near = end(&self.settings.broker, Arc::new(Tcp))?;
        let far = end(&self.settings.core, Arc::new(line))?;
        let (source, destination) = match direction {
            Direction::Down => (far, near),
            Direction::Up => (near, far),
        };
        Some(Wire { source, destination })
    }
}

/// The core's broker by way of librdkafka; where the link has connections of its own it connects only at need.
async fn core(settings: &Settings) -> Result<Broker, broker::Error> {
    // Its metrics would have the same names as those of the own broker, so they are kept apart and not shown.
    let apart = Default::default();
    let name = <Link as chassis::Service>::NAME;
    if !settings.by_records() {
        Broker::open_at_need(&settings.core, name, &apart).await
    } else {
        Broker::open(&settings.core, name, &apart).await
    }
}

/// Whether a broker is the one in this process.
fn in_process(broker: &broker::Settings) -> bool {
    broker.url.starts_with("sqlite:")
}

/// Waits until routes are to go in other classes.
async fn others(wishes: &mut watch::Receiver<Wishes>, classes: &Classes) {
    while wishes.borrow_and_update().classes == *classes {
        if wishes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Waits for all carriers, or for one that is fenced.
async fn all(mut carriers: JoinSet<Result<(), Fenced>>) -> Result<(), Fenced> {
    while let Some(ended) = carriers.join_next().await {
        let fenced = || {
            tracing::error!("a carrier ended without a word");
            Fenced
        };
        ended.map_err(|_| fenced())??;
    }
    Ok(())
}

#[cfg(test)]
mod zombies;
