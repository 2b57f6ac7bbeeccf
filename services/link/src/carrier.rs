//! A carrier of the link: one direction and class, session after session, until it is stopped or another instance takes
//! over.
//!
//! A session goes on as long as the class may cross and the same routes are wanted. When that changes it ends as if it
//! were told to stop, and another begins when there is something to do again. A transaction in hand is carried to its end
//! unless what is in it may not cross any more: then it is left, its connections are reset so that nothing of it lies in
//! wait in any buffer, and it is settled, by way of the first class, for whoever reads behind it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::broker::Broker;
use common::budget::{Budget, Class, Hold};
use common::chassis::Stop;
use common::kafka::Producer;
use common::schemas::SiteId;
use common::telemetry;
use tokio::sync::watch;

use crate::backlog::Bell;
use crate::backoff::Backoff;
use crate::certificates;
use crate::error::{Error, Result};
use crate::found::Found;
use crate::kept::Kept;
use crate::line;
use crate::paths::{self, Paths};
use crate::place::Place;
use crate::report::{Report, State};
use crate::routes::{Classes, Direction, Lane};
use crate::rule::Wishes;
use crate::session::{DRAIN, Ended, Session};
use crate::settings::Settings;
use crate::trouble::Trouble;
use crate::wire::{End, Wire};

/// Another instance works under the same transactional id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fenced;

/// A transaction that its holder does not end in this time is aborted by the broker; one in hand has as long when a route
/// is resumed.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// How long a transaction in hand may go on when what is in it may not cross any more: a change takes effect within a
/// second.
const BRIEF: Duration = Duration::from_millis(300);

/// One direction and class.
#[derive(Debug)]
pub(crate) struct Carrier {
    /// This edge.
    pub(crate) site: SiteId,
    /// Which way.
    pub(crate) direction: Direction,
    /// What it carries; without one it is everything that goes this way.
    pub(crate) class: Option<Class>,
    /// Where records are read.
    pub(crate) source: Broker,
    /// Where they are written, with the checkpoints.
    pub(crate) destination: Broker,
    /// The topic of checkpoints there.
    pub(crate) checkpoints: String,
    /// Whose mark has to be the newest there; none where only one process can write.
    pub(crate) holder: Option<String>,
    /// Both brokers once more, when batches can be carried between them as they are.
    pub(crate) wire: Option<Wire>,
    /// What is known of the checkpoints there.
    pub(crate) kept: Kept,
    /// How many bytes a transaction of batches is to begin with, as far as earlier sessions know.
    pub(crate) pace: AtomicUsize,
    /// After how many seconds whole batches look again for what is missing.
    pub(crate) again: AtomicU64,
    /// All that may be carried.
    pub(crate) all: Vec<Lane>,
    /// What patterns have found beside that.
    pub(crate) found: Found,
    /// Classes that routes have in place of their configured ones, as long as it works.
    pub(crate) classes: Classes,
    /// Whether patterns may find something of its class.
    pub(crate) awaits: bool,
    /// What is carried now: the lanes of routes that are not paused.
    pub(crate) lanes: Vec<Lane>,
    /// The routes that have records in the transaction in hand.
    pub(crate) in_hand: Mutex<BTreeSet<String>>,
    /// Whether its class may cross.
    pub(crate) budget: Budget,
    /// What is wanted of routes.
    pub(crate) wishes: watch::Receiver<Wishes>,
    /// The destination once more, by way of the first class: for what a held carrier leaves open there.
    pub(crate) settle: Option<End>,
    /// The same in spite of the budget, for when no byte is left of it.
    pub(crate) account: Option<End>,
    /// When the process is told to end. A pause is no such thing: it takes effect at once and leaves nothing open.
    pub(crate) ends: Stop,
    /// Limits and pauses.
    pub(crate) settings: Arc<Settings>,
    /// By which live lanes tell who carries backlogs.
    pub(crate) bell: Bell,
    /// By which ways topics came to the source.
    pub(crate) paths: Paths,
    /// Where it says how it is.
    pub(crate) report: Report,
}

/// The transactional id of a carrier.
pub fn transactional_id(site: &SiteId, direction: Direction, class: Option<Class>) -> String {
    match class {
        Some(class) => format!("{site}.link.{direction}.{class}"),
        None => format!("{site}.link.{direction}"),
    }
}

impl Carrier {
    /// The id that fences: one for each edge, direction and class.
    pub(crate) fn transactional_id(&self) -> String {
        transactional_id(&self.site, self.direction, self.class)
    }

    /// Source and destination, to look at their topics and to make some.
    pub(crate) fn sides(&self) -> (Place<'_>, Place<'_>) {
        let wire = self.wire.as_ref();
        (
            Place::of(wire.map(|wire| &wire.source), &self.source),
            Place::of(wire.map(|wire| &wire.destination), &self.destination),
        )
    }

    /// The class in which all that it carries crosses.
    pub(crate) fn crosses(&self) -> Class {
        self.class.unwrap_or(Class::Requests)
    }

    /// Whether it carries what waits from outages.
    pub(crate) fn carries_backlogs(&self) -> bool {
        self.lanes.iter().any(|lane| lane.backlog_of.is_some())
    }

    /// Whether something may come by itself; a backlog does not.
    fn is_called(&self) -> bool {
        self.awaits || self.all.iter().any(|lane| lane.backlog_of.is_none())
    }

    /// What patterns have found for it.
    fn found(&self) -> Vec<Lane> {
        let mut found = self.found.lanes(self.direction);
        if self.class.is_some() {
            found = found
                .into_iter()
                .map(|lane| lane.classed(&self.classes))
                .collect();
            let backlogs: Vec<Lane> = found.iter().map(Lane::backlog).collect();
            found.extend(backlogs);
            found.retain(|lane| Some(lane.class) == self.class);
        }
        found
    }

    /// The lanes whose routes are not paused, as they are wanted.
    fn wanted(&self) -> Vec<Lane> {
        let found = self.found();
        let wishes = self.wishes.borrow();
        let all = self.all.iter().chain(&found);
        all.filter_map(|lane| wishes.of_lane(lane.clone())).collect()
    }

    /// The routes that have records in the transaction in hand.
    pub(crate) fn in_hand(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something is under way that may not cross any more.
    fn is_overruled(&self) -> bool {
        if self.budget.admits(self.crosses()).is_err() {
            return true;
        }
        let wanted = self.wanted();
        let mut withdrawn = self.lanes.iter().filter(|lane| !wanted.contains(lane));
        match self.direction {
            // What is read ahead crosses too.
            Direction::Down => withdrawn.next().is_some(),
            Direction::Up => {
                let in_hand = self.in_hand();
                withdrawn.any(|lane| in_hand.contains(&lane.route))
            }
        }
    }

    /// Waits until its class may not cross.
    async fn held(&self) {
        let mut changes = self.budget.changes();
        while self.budget.admits(self.crosses()).is_ok() {
            // The sender is held by the budget.
            drop(changes.changed().await);
        }
    }

    /// Waits until something is under way that may not cross any more.
    async fn overruled(&self) {
        let (mut changes, mut wishes) = (self.budget.changes(), self.wishes.clone());
        let mut found = self.found.clone();
        while !self.is_overruled() {
            tokio::select! {
                _ = changes.changed() => {}
                () = found.changed() => {}
                // What is in hand changes without a word.
                () = tokio::time::sleep(BRIEF / 3) => {}
                changed = wishes.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
            }
        }
    }

    /// Waits until it may not go on as it does.
    async fn interrupted(&self, bell: &mut watch::Receiver<u64>, paths: &mut paths::News) {
        let (mut changes, mut wishes) = (self.budget.changes(), self.wishes.clone());
        let mut found = self.found.clone();
        while self.budget.admits(self.crosses()).is_ok() && self.wanted() == self.lanes {
            tokio::select! {
                // There are spans that this session does not know.
                _ = bell.changed(), if self.carries_backlogs() => return,
                // A route may close a ring now, or not any more.
                () = paths.concerns(&self.lanes) => return,
                _ = changes.changed() => {}
                () = found.changed() => {}
                changed = wishes.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
            }
        }
    }

    /// Waits until there is something that may be carried; false when it is told to stop.
    async fn may_begin(&mut self, stop: &Stop) -> bool {
        let mut changes = self.budget.changes();
        while !stop.is_cancelled() {
            let mut found = self.found.clone();
            self.lanes = self.wanted();
            let mut wishes = self.wishes.clone();
            wishes.mark_unchanged();
            let state = match self.budget.admits(self.crosses()) {
                // Nothing is there yet.
                _ if self.all.is_empty() && self.found().is_empty() => State::Carrying,
                _ if self.lanes.is_empty() => State::Paused,
                Ok(()) => return true,
                Err(hold) => State::Held(hold.to_string()),
            };
            tracing::info!(direction = %self.direction, class = %self.crosses(), ?state, "nothing is carried");
            self.hang_up().await;
            self.report.state(state.clone());
            loop {
                tokio::select! {
                    () = stop.cancelled() => return false,
                    _ = changes.changed() => {}
                    _ = wishes.changed() => {}
                    () = found.changed() => break,
                }
                // Spending changes too; only what ends the wait, or its reason, is worth telling.
                let now = match self.budget.admits(self.crosses()) {
                    _ if self.wanted().is_empty() => Some(State::Paused),
                    Ok(()) => None,
                    Err(hold) => Some(State::Held(hold.to_string())),
                };
                if now.as_ref() != Some(&state) {
                    break;
                }
            }
        }
        false
    }

    /// Carries until `stop`. Errors are told and tried again; being fenced is not.
    pub(crate) async fn run(mut self, stop: Stop) -> Result<(), Fenced> {
        let mut backoff = Backoff::new(*self.settings.backoff, *self.settings.max_backoff);
        let mut trouble = Trouble::default();
        let mut bell = self.bell.hear();
        let mut nothing = !self.is_called();
        while self.may_begin(&stop).await {
            if nothing {
                self.report.state(State::Carrying);
                tokio::select! {
                    () = stop.cancelled() => break,
                    // It has a sender as long as this carrier.
                    _ = bell.changed() => nothing = false,
                    // That is to be told.
                    () = self.held() => {}
                }
                continue;
            }
            bell.mark_unchanged();
            let ended = self.work(&mut trouble, &mut backoff, &mut bell, &stop).await;
            let pause = match ended {
                Ok(Ended::Nothing) => {
                    nothing = true;
                    continue;
                }
                Ok(Ended::Stopped | Ended::LookAgain) => continue,
                Err(error) if error.fenced() => {
                    tracing::warn!(direction = %self.direction, "another instance has taken over");
                    return Err(Fenced);
                }
                Err(Error::Refused {
                    records,
                    bytes,
                    last,
                    source,
                }) => {
                    trouble.refused(records, bytes, last, &source);
                    *self.settings.backoff
                }
                Err(error) => {
                    let text = certificates::named(&self.settings.core.tls, telemetry::chain(&error));
                    tracing::warn!(
                        direction = %self.direction, class = %self.crosses(), error = %text, "session ended"
                    );
                    if error.unreadable() {
                        trouble.unreadable();
                    }
                    if self.is_overruled() {
                        let open = !self.in_hand().is_empty();
                        self.settle(open).await;
                    }
                    self.report.problem(Some(text));
                    backoff.pause()
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(())
    }

    /// One session, which ends when it is told to or may not go on.
    async fn work(
        &self,
        trouble: &mut Trouble,
        backoff: &mut Backoff,
        bell: &mut watch::Receiver<u64>,
        stop: &Stop,
    ) -> Result<Ended> {
        let (ends, mut paths) = (stop.child_token(), self.paths.hear());
        let late = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.interrupted(bell, &mut paths) => ends.cancel(),
            }
            let told = async {
                stop.cancelled().await;
                // A commit that no broker answers must not hold up a stop: dropped, it is settled by the next session.
                let patience = if self.ends.is_cancelled() { DRAIN } else { BRIEF };
                tokio::time::sleep(patience).await;
            };
            tokio::select! {
                // What has crossed of the transaction in hand is not wasted for what comes next.
                () = tokio::time::sleep(TIMEOUT) => {}
                () = self.overruled() => tokio::time::sleep(BRIEF).await,
                () = told => {}
            }
        };
        tokio::select! {
            () = late => {
                let open = !self.in_hand().is_empty();
                self.hang_up().await;
                self.settle(open).await;
                Ok(Ended::Stopped)
            }
            ended = self.session(trouble, backoff, &ends) => ended,
        }
    }

    /// Ends the connections that sessions leave to the next one: the rest of a request that was left would cross first.
    async fn hang_up(&self) {
        self.in_hand().clear();
        for end in self
            .wire
            .iter()
            .flat_map(|wire| [&wire.source, &wire.destination])
        {
            if let End::Kafka(cluster) = end {
                cluster.hang_up().await;
            }
        }
    }

    /// Ends the transaction that was left: whoever reads there, the checkpoints too, would
    /// wait for it. Where one is `open` and the day's or the month's bytes are spent, it is ended all the same: that takes some
    /// thousand bytes, which are counted when they may cross. Outside the windows nothing crosses.
    async fn settle(&self, open: bool) {
        let spent = matches!(
            self.budget.admits(Class::Requests),
            Err(Hold::Day { .. } | Hold::Month { .. })
        );
        let account = self.account.as_ref().filter(|_| open && spent);
        let way = account.or(self.settle.as_ref());
        let Some(End::Kafka(cluster)) = way.filter(|_| !self.ends.is_cancelled()) else {
            return;
        };
        let id = self.transactional_id();
        let crossed = || cluster.traffic().crossed();
        let before = crossed();
        let settled = tokio::time::timeout(DRAIN, Producer::take_over(cluster, &id, TIMEOUT)).await;
        if !matches!(settled, Ok(Ok(_))) {
            tracing::debug!(%id, "what was under way is left to time out");
        }
        if account.is_some() {
            cluster.hang_up().await;
            let bytes = crossed() - before;
            tracing::info!(%id, bytes, "what was under way is ended on account");
            line::bill(&self.budget, bytes);
        }
    }

    async fn session(&self, trouble: &mut Trouble, backoff: &mut Backoff, stop: &Stop) -> Result<Ended> {
        let mut session = tokio::select! {
            () = stop.cancelled() => return Ok(Ended::Stopped),
            session = Session::open(self, trouble) => session?,
        };
        for unverified in certificates::unverified(&self.settings) {
            tracing::warn!("{unverified}");
        }
        tracing::info!(direction = %self.direction, "carrying");
        self.report.problem(session.missing());
        backoff.reset();
        session.carry(trouble, stop).await
    }
}
