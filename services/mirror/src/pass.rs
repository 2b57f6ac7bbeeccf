//! From the word to start until nothing is left: rounds over the manifest, each a listing and its copies.

use std::collections::HashMap;
use std::time::Duration;

use common::broker::Broker;
use common::budget::Hold;
use common::chassis::{ByteSize, Stop};
use common::control::{self, Control};
use common::schemas::Desired;
use common::telemetry::chain;
use common::volume::ManifestEntry;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::arrival::Book;
use crate::backoff::Backoff;
use crate::batch::Outcome;
use crate::command::{Command, Work};
use crate::depot::{Depot, Page};
use crate::door::Door;
use crate::error::{Concerns, Error, Result};
use crate::lanes::lanes;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::tls;
use crate::transfer::Copier;

/// The manifest is read on when fewer entries than this wait.
const LISTED: usize = 1000;
/// How often it is looked whether an asset is still wanted, and whether the link is still open for assets.
const LOOK: Duration = Duration::from_secs(1);
/// How soon it is tried again when the link's budget holds assets back: asking costs nothing.
const HELD: Duration = Duration::from_millis(500);

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Told to stop.
    Stopped,
    /// Nothing is left to do.
    Finished,
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// There was nothing to do.
    Empty,
    /// All that was tried worked.
    Worked,
    /// Some entries failed.
    Failed,
}

/// What happened in a round.
enum Step {
    Page(Result<Page>),
    Worked {
        taken: Vec<ManifestEntry>,
        outcome: Outcome,
    },
    /// Assets may not cross any more.
    Shut(Hold),
}

/// Does what it is told.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) settings: Settings,
    pub(crate) broker: Broker,
    pub(crate) control: Control,
    pub(crate) book: Book,
    pub(crate) copier: Copier,
    pub(crate) door: Option<Door>,
}

impl Worker {
    /// Works while it is told to: when a command is done it takes it back, and then waits for the next or for `stop`.
    pub(crate) async fn obey(&self, stop: &Stop) -> anyhow::Result<()> {
        loop {
            let progress = Progress::new(self.control.clone());
            let ended = self.command(&progress, stop).await;
            self.copier.put_down().await;
            match ended? {
                Ended::Finished if self.rest(stop).await => {}
                Ended::Finished | Ended::Stopped => return Ok(()),
            }
        }
    }

    async fn command(&self, progress: &Progress, stop: &Stop) -> anyhow::Result<Ended> {
        let mut command = Command::new(self.settings.tries);
        let (mut away, mut again) = (Backoff::new(&self.settings), Backoff::new(&self.settings));
        let mut refusals = 0;
        while !stop.is_cancelled() {
            let before = progress.steps();
            progress.begin();
            let round = self.round(&mut command, progress, stop).await;
            progress.end();
            if progress.steps() > before {
                away.reset();
            }
            let pause = match round {
                Ok(Round::Empty) => {
                    self.summary(&command);
                    return Ok(Ended::Finished);
                }
                Ok(Round::Worked) => Duration::ZERO,
                Ok(Round::Failed) => again.pause(),
                Err(error) => match error.concerns() {
                    Concerns::Nobody => return Ok(Ended::Stopped),
                    Concerns::Process => return Err(error.into()),
                    concerns => {
                        self.trouble(&error);
                        if matches!(error, Error::Held { .. }) {
                            away.reset();
                        }
                        refusals += u32::from(concerns == Concerns::Site);
                        if refusals >= self.settings.tries {
                            return Ok(Ended::Finished);
                        }
                        if matches!(error, Error::Held { .. }) {
                            HELD
                        } else {
                            away.pause()
                        }
                    }
                },
            };
            if stop
                .run_until_cancelled(tokio::time::sleep(pause))
                .await
                .is_none()
            {
                return Ok(Ended::Stopped);
            }
        }
        Ok(Ended::Stopped)
    }

    /// Says what holds all copies up.
    fn trouble(&self, error: &Error) {
        let text = chain(error);
        tracing::warn!(error = text, "waiting");
        if error.needs_somebody() {
            self.control.error(text.clone());
        }
        self.control.waiting(text);
    }

    /// Says at the end how many assets did not come; each has said why before.
    fn summary(&self, command: &Command) {
        let given_up = command.given_up();
        if given_up > 1
            && let Some(last) = self.control.status().last_error
        {
            self.control.error(format!(
                "{given_up} assets could not be mirrored; the last: {last}"
            ));
        }
    }

    /// Lists what is open, and copies it as it is listed.
    async fn round(&self, command: &mut Command, progress: &Progress, stop: &Stop) -> Result<Round> {
        tls::check_dates(&self.settings.tls)?;
        let mut cap = self.settings.bytes_per_second.map(ByteSize::bytes);
        if let Some(door) = &self.door {
            let budget = door.budget().await?;
            cap = budget.cap.into_iter().chain(cap).min();
        }
        let depot = Depot::open(&self.settings)?;
        if self.copier.room.limited() {
            let used = self
                .copier
                .volume
                .used()
                .await
                .map_err(|source| Error::Volume { source })?;
            self.copier.room.holds(used);
        }
        if command.listing.stale() || (command.queue.len() == 0 && command.listing.next().is_none()) {
            command.queue.clear();
            command.listing.begin();
        }
        // Trouble that concerns all ends the other copies too; they go on in the next round where they stopped.
        let halt = stop.child_token();
        let (mut round, mut trouble, mut no_room) = (Round::Empty, None, None);
        let (mut reading, mut copies) = (false, 0);
        let mut steps: FuturesUnordered<BoxFuture<'_, Step>> = FuturesUnordered::new();
        if let Some(door) = &self.door {
            steps.push(async { Step::Shut(door.shut(LOOK).await) }.boxed());
        }
        loop {
            if let Some((after, limit)) = command.listing.next()
                && !reading
                && !halt.is_cancelled()
                && command.queue.len() < LISTED
            {
                reading = true;
                let (depot, halt) = (&depot, &halt);
                steps.push(
                    async move {
                        let page = depot.manifest(after.as_deref(), limit);
                        Step::Page(
                            halt.run_until_cancelled(page)
                                .await
                                .unwrap_or(Err(Error::Stopped)),
                        )
                    }
                    .boxed(),
                );
            }
            let most = lanes(self.settings.parallel, cap, progress.rate());
            while copies < most && !halt.is_cancelled() {
                let Some(work) = command.queue.take() else { break };
                copies += 1;
                steps.push(self.work(&depot, work, progress, &halt).boxed());
            }
            if !reading && copies == 0 {
                break;
            }
            match steps.next().await {
                None => break,
                Some(Step::Shut(hold)) => {
                    halt.cancel();
                    trouble.get_or_insert(Error::Held { hold });
                }
                Some(Step::Page(Ok(page))) => {
                    reading = false;
                    self.control.running();
                    self.take_in(page, command, progress);
                }
                Some(Step::Page(Err(error))) => {
                    reading = false;
                    halt.cancel();
                    trouble.get_or_insert(error);
                }
                Some(Step::Worked { taken, outcome }) => {
                    copies -= 1;
                    if round == Round::Empty {
                        round = Round::Worked;
                    }
                    taken
                        .iter()
                        .for_each(|entry| command.queue.give_back(&entry.hash));
                    let mut left: HashMap<_, _> = taken
                        .into_iter()
                        .map(|entry| (entry.request_id.clone(), entry))
                        .collect();
                    for (entry, result) in outcome.entries {
                        left.remove(&entry.request_id);
                        let Err(error) = result else {
                            command.done(&entry);
                            progress.over();
                            continue;
                        };
                        match error.concerns() {
                            Concerns::Asset => {
                                round = Round::Failed;
                                let last = command.failed(&entry);
                                self.failed(&entry, &error, last, progress);
                                if !last {
                                    continue;
                                }
                            }
                            Concerns::Room => no_room = Some(error),
                            Concerns::Nobody => command.wait(entry),
                            _ => {
                                if matches!(error, Error::Cut { .. }) {
                                    command.moved(&entry);
                                }
                                command.wait(entry);
                                halt.cancel();
                                trouble.get_or_insert(error);
                            }
                        }
                    }
                    left.into_values().for_each(|entry| command.wait(entry));
                    if let Some(error) = outcome.trouble {
                        halt.cancel();
                        trouble.get_or_insert(error);
                    }
                }
            }
        }
        match trouble.or_else(|| no_room.filter(|_| round != Round::Failed)) {
            Some(error) => Err(error),
            None if stop.is_cancelled() => Err(Error::Stopped),
            None => Ok(round),
        }
    }

    /// Takes in the entries of a page that are to be worked on.
    fn take_in(&self, page: Page, command: &mut Command, progress: &Progress) {
        if page.unreadable > 0 {
            self.control.error(format!(
                "{} entries of the manifest cannot be read",
                page.unreadable
            ));
        }
        for entry in page.entries {
            if command.open(&entry, || progress.found(entry.size)) {
                command.wait(entry);
            }
        }
        command.listing.read(page.next);
    }

    async fn work(&self, depot: &Depot, work: Work, progress: &Progress, stop: &Stop) -> Step {
        match work {
            Work::One(entry) => {
                let result = self.single(depot, &entry, progress, stop).await;
                let outcome = Outcome {
                    entries: vec![(entry.clone(), result)],
                    trouble: None,
                };
                let taken = vec![entry];
                Step::Worked { taken, outcome }
            }
            Work::Many(taken) => {
                let outcome = self.batch(depot, taken.clone(), progress, stop).await;
                Step::Worked { taken, outcome }
            }
        }
    }

    /// Mirrors one asset; ends early when it is taken back meanwhile.
    pub(crate) async fn single(
        &self,
        depot: &Depot,
        entry: &ManifestEntry,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<()> {
        if !self.book.wants(entry).await? {
            self.unwanted(entry, progress).await;
            return Ok(());
        }
        let own = stop.child_token();
        let bring = self.copier.bring(depot, entry, progress, &own);
        tokio::pin!(bring);
        let brought = tokio::select! {
            brought = &mut bring => brought,
            () = self.taken_back(entry) => {
                own.cancel();
                match bring.await {
                    Err(Error::Stopped) => Err(Error::Unwanted),
                    other => other,
                }
            }
        };
        match brought {
            Err(Error::Unwanted) => {
                self.unwanted(entry, progress).await;
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => self.arrived(entry).await,
        }
    }

    /// Ends when the team does not want the asset any more.
    async fn taken_back(&self, entry: &ManifestEntry) {
        loop {
            tokio::time::sleep(LOOK).await;
            // A table that does not answer is told by those who need it.
            if let Ok(false) = self.book.wants(entry).await {
                return;
            }
        }
    }

    pub(crate) async fn unwanted(&self, entry: &ManifestEntry, progress: &Progress) {
        tracing::info!(asset_id = %entry.asset_id, request_id = %entry.request_id, "not wanted any more");
        progress.unwanted(entry.size);
        self.copier.forget(entry).await;
    }

    pub(crate) async fn arrived(&self, entry: &ManifestEntry) -> Result<()> {
        self.book.arrived(entry).await?;
        self.control.count("assets_mirrored", 1);
        tracing::info!(asset_id = %entry.asset_id, request_id = %entry.request_id, bytes = entry.size, "mirrored");
        Ok(())
    }

    fn failed(&self, entry: &ManifestEntry, error: &Error, last: bool, progress: &Progress) {
        let text = chain(error);
        tracing::error!(asset_id = %entry.asset_id, request_id = %entry.request_id, error = text, last, "asset not mirrored");
        self.control
            .error(format!("asset {} ({}): {text}", entry.asset_id, entry.file_name));
        self.control.count("tries_failed", 1);
        if last {
            progress.over();
        }
    }

    /// Takes the command back and waits; true when told to work again before anybody noticed the pause.
    async fn rest(&self, stop: &Stop) -> bool {
        let mut desired = self.control.desired();
        desired.mark_unchanged();
        let mut backoff = Backoff::new(&self.settings);
        loop {
            let asked = control::ask(&self.broker, "mirror", Desired::Paused, Some("mirror"));
            match stop.run_until_cancelled(asked).await {
                None => return false,
                Some(Ok(())) => break,
                Some(Err(error)) => self.control.waiting(chain(&error)),
            }
            if stop
                .run_until_cancelled(tokio::time::sleep(backoff.pause()))
                .await
                .is_none()
            {
                return false;
            }
        }
        loop {
            match stop.run_until_cancelled(desired.changed()).await {
                Some(Ok(())) if *desired.borrow_and_update() == Desired::Running => return true,
                Some(Ok(())) => {}
                Some(Err(_)) | None => return false,
            }
        }
    }
}
