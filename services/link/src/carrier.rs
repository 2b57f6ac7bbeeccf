//! A direction of the link: session after session, until it is stopped or another instance takes over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use common::broker::Broker;
use common::chassis::Stop;
use common::schemas::SiteId;
use common::telemetry;

use crate::backoff::Backoff;
use crate::error::{Error, Result};
use crate::refused::Refused;
use crate::report::Report;
use crate::routes::{Direction, Lane};
use crate::session::{DRAIN, Ended, Session};
use crate::settings::Settings;
use crate::wire::Wire;

/// Another instance works under the same transactional id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fenced;

/// What one session tells the next about a record that the destination refuses.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    /// How many records to carry in transactions of their own, to find the one.
    pub(crate) one_by_one: usize,
    /// The one, which is to be put aside.
    pub(crate) refused: Option<Refused>,
    /// How many records to carry one by one because they cannot go in batches as they are.
    pub(crate) by_record: usize,
}

/// How many records are carried one by one before batches are tried again.
const DETOUR: usize = 10_000;

impl Trouble {
    /// Whether batches may go as they are.
    pub(crate) fn over(&self) -> bool {
        self.one_by_one == 0 && self.by_record == 0 && self.refused.is_none()
    }

    /// Counts down what was carried.
    pub(crate) fn carried(&mut self, records: usize) {
        self.one_by_one = self.one_by_one.saturating_sub(records);
        self.by_record = self.by_record.saturating_sub(records);
    }
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Carrier {
    /// This edge.
    pub(crate) site: SiteId,
    /// Which way.
    pub(crate) direction: Direction,
    /// Where records are read.
    pub(crate) source: Broker,
    /// Where they are written, with the checkpoints.
    pub(crate) destination: Broker,
    /// The topic of checkpoints there.
    pub(crate) checkpoints: String,
    /// Both brokers once more, when batches can be carried between them as they are.
    pub(crate) wire: Option<Wire>,
    /// How many bytes a transaction of batches is to begin with, as far as earlier sessions know.
    pub(crate) pace: AtomicUsize,
    /// After how many seconds whole batches look again for what is missing.
    pub(crate) again: AtomicU64,
    /// What is carried.
    pub(crate) lanes: Vec<Lane>,
    /// Limits and pauses.
    pub(crate) settings: Arc<Settings>,
    /// Where it says how it is.
    pub(crate) report: Arc<Report>,
}

impl Carrier {
    /// The id that fences: one for each edge and direction.
    pub(crate) fn transactional_id(&self) -> String {
        format!("{}.link.{}", self.site, self.direction)
    }

    /// Carries until `stop`. Errors are told and tried again; being fenced is not.
    pub(crate) async fn run(&self, stop: &Stop) -> Result<(), Fenced> {
        let mut backoff = Backoff::new(*self.settings.backoff, *self.settings.max_backoff);
        let mut trouble = Trouble::default();
        // A commit that no broker answers must not hold up a stop: dropped, it is settled by the next session.
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::pin!(late);
        while !stop.is_cancelled() {
            let ended = tokio::select! {
                () = &mut late => break,
                ended = self.session(&mut trouble, &mut backoff, stop) => ended,
            };
            let pause = match ended {
                Ok(Ended::Stopped) => break,
                Ok(Ended::LookAgain) => continue,
                Err(error) if error.fenced() => {
                    tracing::warn!(direction = %self.direction, "another instance has taken over");
                    return Err(Fenced);
                }
                Err(Error::Refused {
                    records,
                    last,
                    source,
                }) => {
                    self.look_for(&mut trouble, records, last, &source);
                    *self.settings.backoff
                }
                Err(error) => {
                    let text = telemetry::chain(&error);
                    tracing::warn!(direction = %self.direction, error = %text, "session ended");
                    if error.unreadable() {
                        trouble.by_record = DETOUR;
                    }
                    self.report.problem(self.direction, Some(text));
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

    async fn session(&self, trouble: &mut Trouble, backoff: &mut Backoff, stop: &Stop) -> Result<Ended> {
        let mut session = tokio::select! {
            () = stop.cancelled() => return Ok(Ended::Stopped),
            session = Session::open(self, trouble) => session?,
        };
        tracing::info!(direction = %self.direction, "carrying");
        self.report.problem(self.direction, session.missing());
        backoff.reset();
        session.carry(trouble, stop).await
    }

    /// A transaction does not say which record was refused: the next session finds it by carrying one by one.
    fn look_for(
        &self,
        trouble: &mut Trouble,
        records: usize,
        last: (String, i32, i64),
        source: &common::broker::Error,
    ) {
        let reason = telemetry::chain(source);
        if records > 1 {
            trouble.one_by_one = records;
        } else {
            tracing::warn!(
                topic = %last.0, partition = last.1, offset = last.2, error = %reason,
                "record is refused by the destination and put aside"
            );
            trouble.refused = Some(Refused { at: last, reason });
        }
    }
}
