//! From the word to start until nothing is left: rounds over the manifest.

use std::time::Duration;

use common::broker::Broker;
use common::chassis::{Stop, now_ms};
use common::control::{self, Control};
use common::schemas::Desired;
use common::telemetry::chain;

use crate::arrival::Book;
use crate::backoff::Backoff;
use crate::command::Command;
use crate::door::Door;
use crate::error::{Concerns, Error, Result};
use crate::progress::Progress;
use crate::round::Round;
use crate::settings::Settings;
use crate::transfer::Copier;

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

/// What the volume did not take would be fetched again with each try: so it is asked first whether it takes anything, which
/// costs nothing, and where it said so in vain the next try waits for longer and longer.
#[derive(Debug)]
struct Unstored {
    doubt: bool,
    probed: bool,
    pauses: Backoff,
}

impl Unstored {
    fn new(settings: &Settings) -> Self {
        Self {
            doubt: false,
            probed: false,
            pauses: Backoff::patient(settings),
        }
    }

    /// Asks the volume, if the last round could not store what it had.
    async fn probe(&mut self, copier: &Copier) -> Result<()> {
        self.probed = false;
        if self.doubt {
            copier.probe().await?;
            self.doubt = false;
        }
        self.probed = true;
        Ok(())
    }

    /// The volume did not take something. The pause after that; none when that was only asked.
    fn pause(&mut self) -> Option<Duration> {
        self.doubt = true;
        self.probed.then(|| self.pauses.pause())
    }

    fn reset(&mut self) {
        self.pauses.reset();
    }
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
    /// Works while it is told to: a command that is done is declared so, and the next or `stop` waited for.
    pub(crate) async fn obey(&self, stop: &Stop) -> anyhow::Result<()> {
        loop {
            let progress = Progress::new(self.control.clone());
            // Known before the work begins: what is asked from now on is a command of its own.
            let asked_at = self.control.told().borrow().asked_at;
            let ended = self.command(&progress, stop).await;
            self.copier.put_down().await;
            match ended? {
                Ended::Finished if self.rest(asked_at, stop).await => {}
                Ended::Finished | Ended::Stopped => return Ok(()),
            }
        }
    }

    async fn command(&self, progress: &Progress, stop: &Stop) -> anyhow::Result<Ended> {
        let (asked_at, now) = (self.control.told().borrow().asked_at, now_ms());
        let given_at = asked_at.map_or(now, |asked_at| asked_at.min(now));
        let mut command = Command::new(self.settings.tries, given_at);
        let (mut away, mut again) = (Backoff::new(&self.settings), Backoff::new(&self.settings));
        let mut unstored = Unstored::new(&self.settings);
        let mut heard = asked_at;
        let mut refusals = 0;
        while !stop.is_cancelled() {
            let told = self.control.told().borrow().asked_at;
            if told != heard {
                heard = told;
                command.listing.outdate();
            }
            let before = progress.steps();
            progress.begin();
            let round = match unstored.probe(&self.copier).await {
                Ok(()) => self.round(&mut command, progress, stop).await,
                Err(error) => Err(error),
            };
            progress.end();
            if progress.steps() > before {
                away.reset();
                unstored.reset();
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
                        match error {
                            Error::Held { .. } => HELD,
                            Error::Volume { .. } => unstored.pause().unwrap_or_else(|| away.pause()),
                            _ => away.pause(),
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
