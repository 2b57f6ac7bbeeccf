//! From the word to start until nothing is left: rounds over the manifest, each a listing and its copies.

use std::time::Duration;

use common::broker::Broker;
use common::chassis::Stop;
use common::control::{self, Control};
use common::schemas::Desired;
use common::telemetry::chain;
use common::volume::ManifestEntry;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::arrival::Book;
use crate::backoff::Backoff;
use crate::command::Command;
use crate::depot::Depot;
use crate::error::{Concerns, Error, Result};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::tls;
use crate::transfer::Copier;

/// The most entries of one round; what is beyond comes in the next.
const ROUND: usize = 10_000;

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

/// Does what it is told.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) settings: Settings,
    pub(crate) broker: Broker,
    pub(crate) control: Control,
    pub(crate) book: Book,
    pub(crate) copier: Copier,
}

impl Worker {
    /// Works while it is told to: a command that is done is declared so, and the next or `stop` waited for.
    pub(crate) async fn obey(&self, stop: &Stop) -> anyhow::Result<()> {
        loop {
            let progress = Progress::new(self.control.clone());
            // Known before the work begins: what is asked from now on is a command of its own.
            let asked_at = self.control.told().borrow().asked_at;
            match self.command(&progress, stop).await? {
                Ended::Finished if self.rest(asked_at, stop).await => {}
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
                        refusals += u32::from(concerns == Concerns::Site);
                        if refusals >= self.settings.tries {
                            return Ok(Ended::Finished);
                        }
                        away.pause()
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

    /// Lists what is open, and copies it.
    async fn round(&self, command: &mut Command, progress: &Progress, stop: &Stop) -> Result<Round> {
        tls::check_dates(&self.settings.tls)?;
        let depot = Depot::open(&self.settings)?;
        let entries = self.list(&depot, command, progress, stop).await?;
        self.control.running();
        if entries.is_empty() {
            return Ok(Round::Empty);
        }
        let mut queue = command.queue(entries);
        // Trouble that concerns all ends the other copies too; they go on in the next round where they stopped.
        let halt = stop.child_token();
        let mut trouble = None;
        let mut round = Round::Worked;
        let mut copies = FuturesUnordered::new();
        loop {
            while copies.len() < self.settings.parallel && !halt.is_cancelled() {
                let Some(entry) = queue.take() else { break };
                let (depot, halt) = (&depot, &halt);
                copies.push(async move {
                    let result = self.mirror(depot, &entry, progress, halt).await;
                    (entry, result)
                });
            }
            let Some((entry, result)) = copies.next().await else {
                break;
            };
            queue.give_back(&entry);
            let Err(error) = result else {
                command.done(&entry);
                progress.over();
                continue;
            };
            match error.concerns() {
                Concerns::Asset => {
                    round = Round::Failed;
                    self.failed(&entry, &error, command.failed(&entry), progress);
                }
                Concerns::Nobody => {}
                _ => {
                    if matches!(error, Error::Cut { .. }) {
                        command.moved(&entry);
                    }
                    halt.cancel();
                    trouble.get_or_insert(error);
                }
            }
        }
        match trouble {
            Some(error) => Err(error),
            None if stop.is_cancelled() => Err(Error::Stopped),
            None => Ok(round),
        }
    }

    /// The open entries, as many as one round takes.
    async fn list(
        &self,
        depot: &Depot,
        command: &mut Command,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<Vec<ManifestEntry>> {
        let mut entries = Vec::new();
        let mut after = None;
        loop {
            let page = depot.manifest(after.as_deref());
            let page = stop.run_until_cancelled(page).await.ok_or(Error::Stopped)??;
            if page.unreadable > 0 {
                self.control.error(format!(
                    "{} entries of the manifest cannot be read",
                    page.unreadable
                ));
            }
            for entry in page.entries {
                if command.open(&entry, || progress.found(entry.size)) {
                    entries.push(entry);
                }
            }
            if page.next.is_none() || page.next == after || entries.len() >= ROUND {
                return Ok(entries);
            }
            after = page.next;
        }
    }

    async fn mirror(
        &self,
        depot: &Depot,
        entry: &ManifestEntry,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<()> {
        if !self.book.wants(entry).await? {
            tracing::info!(asset_id = %entry.asset_id, request_id = %entry.request_id, "not wanted any more");
            progress.unwanted(entry.size);
            self.copier.forget(entry).await;
            return Ok(());
        }
        self.copier.bring(depot, entry, progress, stop).await?;
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

    /// Declares the command done and waits; true when there is another one to work on.
    async fn rest(&self, asked_at: Option<i64>, stop: &Stop) -> bool {
        let mut told = self.control.told();
        let mut backoff = Backoff::new(&self.settings);
        while let Some(asked_at) = asked_at {
            let said = control::finished(&self.broker, "mirror", asked_at);
            match stop.run_until_cancelled(said).await {
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
        let another = told.wait_for(|told| told.desired == Desired::Running && told.asked_at != asked_at);
        matches!(stop.run_until_cancelled(another).await, Some(Ok(_)))
    }
}
