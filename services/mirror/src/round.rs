//! One round: the manifest as it comes, and the copies of what it lists, as it is listed.

use std::collections::HashMap;
use std::time::Duration;

use common::budget::Hold;
use common::chassis::{ByteSize, Stop};
use common::schemas::{AssetId, RequestId};
use common::volume::ManifestEntry;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::batch::{Outcome, small};
use crate::command::{Command, LISTED, Work};
use crate::depot::Depot;
use crate::error::{Concerns, Error, Result};
use crate::lanes::{Lane, Lanes, Width};
use crate::manifest::{Manifest, Part};
use crate::pass::Worker;
use crate::progress::Progress;
use crate::tls;

/// How often it is looked whether an asset is still wanted, in what order they are, and whether the link is still open.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    /// There was nothing to do.
    Empty,
    /// All that was tried worked.
    Worked,
    /// Some entries failed.
    Failed,
}

/// What happened.
enum Step<'a> {
    Read(Read<'a>),
    Worked {
        taken: Vec<ManifestEntry>,
        outcome: Outcome,
    },
    /// Assets may not cross any more.
    Shut(Hold),
    /// In what order the team wants them.
    Orders(HashMap<AssetId, i32>),
}

/// What was read of an answer.
struct Read<'a> {
    /// Behind which entry the answer began.
    from: Option<String>,
    /// None when the manifest is the one that is known.
    part: Result<Option<Part>>,
    rest: Option<Box<Manifest<'a>>>,
}

/// How the round stands.
#[derive(Debug)]
struct Standing {
    round: Round,
    /// What concerns all.
    trouble: Option<Error>,
    no_room: Option<Error>,
    /// Bytes of each asset for which there was no room.
    refused: Vec<u64>,
    reading: bool,
    copies: usize,
    /// Single copies, each with what makes it give way.
    running: HashMap<RequestId, (AssetId, Stop)>,
    /// Ends the other copies too when there is trouble that concerns all; they go on in the next round where they stopped.
    halt: Stop,
}

impl Standing {
    fn trouble(&mut self, error: Error) {
        self.halt.cancel();
        self.trouble.get_or_insert(error);
    }
}

impl Worker {
    /// Lists what is open, and copies it.
    pub(crate) async fn round(
        &self,
        command: &mut Command,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<Round> {
        tls::check_dates(&self.settings.tls)?;
        let mut cap = self.settings.bytes_per_second.map(ByteSize::bytes);
        if let Some(door) = &self.door {
            let budget = door.budget().await?;
            cap = budget.cap.into_iter().chain(cap).min();
        }
        let mut depot = match command.depot.take() {
            Some(depot) => depot,
            None => Depot::open(&self.settings)?,
        };
        depot.cap = cap;
        if self.copier.room.limited() {
            let usage = self.copier.volume.usage().await;
            let usage = usage.map_err(|source| Error::Volume { source })?;
            self.copier.room.holds(usage.bytes);
        }
        command.begin();
        command.queue.order(self.book.orders().await?);
        let mut standing = Standing {
            round: Round::Empty,
            trouble: None,
            no_room: None,
            refused: Vec::new(),
            reading: false,
            copies: 0,
            running: HashMap::new(),
            halt: stop.child_token(),
        };
        let halt = standing.halt.clone();
        let lanes = Lanes::default();
        let mut steps: FuturesUnordered<BoxFuture<'_, Step<'_>>> = FuturesUnordered::new();
        steps.push(self.look_at_orders().boxed());
        if let Some(door) = &self.door {
            steps.push(async { Step::Shut(door.shut(LOOK).await) }.boxed());
        }
        loop {
            if let Some(from) = command.read_on()
                && !standing.reading
                && !halt.is_cancelled()
            {
                standing.reading = true;
                let known = if from.is_none() { command.known() } else { None };
                steps.push(ask(&depot, from, known, &halt).boxed());
            }
            let rate = progress.rate().into_iter().chain(depot.speed()).reduce(f64::max);
            let width = Width::of(self.settings.parallel, cap, rate);
            while lanes.taken() < width.lanes && standing.copies < width.copies && !halt.is_cancelled() {
                let together = |entry: &ManifestEntry| small(entry) && !self.copier.begun(&entry.hash);
                let Some(work) = command.queue.take(width.batch, width.bytes, together) else {
                    break;
                };
                standing.copies += 1;
                let own = halt.child_token();
                if let Work::One(entry) = &work {
                    let running = (entry.asset_id.clone(), own.clone());
                    standing.running.insert(entry.request_id.clone(), running);
                }
                steps.push(self.work(&depot, work, progress, lanes.take(), own).boxed());
            }
            if !standing.reading && standing.copies == 0 {
                break;
            }
            let step = tokio::select! {
                step = steps.next() => step,
                () = lanes.freed() => continue,
            };
            match step {
                None => break,
                Some(Step::Shut(hold)) => standing.trouble(Error::Held { hold }),
                Some(Step::Orders(orders)) => {
                    command.queue.order(orders);
                    if lanes.taken() >= width.lanes {
                        give_way(command, &standing.running);
                    }
                    steps.push(self.look_at_orders().boxed());
                }
                Some(Step::Read(read)) => {
                    standing.reading = false;
                    match read.part {
                        Ok(part) => self.take_in(part, read.from.as_deref(), command, progress),
                        Err(error) => standing.trouble(error),
                    }
                    // What was asked for is read to its end, however much waits: it is on its way.
                    if let Some(rest) = read.rest.filter(|_| !halt.is_cancelled()) {
                        standing.reading = true;
                        steps.push(go_on(rest, read.from, &halt).boxed());
                    }
                }
                Some(Step::Worked { taken, outcome }) => {
                    self.worked(taken, outcome, command, &mut standing, progress);
                }
            }
        }
        drop(steps);
        if standing.trouble.is_none() {
            command.depot = Some(depot);
        }
        if standing.trouble.is_none()
            && standing.no_room.is_some()
            && !stop.is_cancelled()
            && self.displace(&standing.refused, command.given_at).await?
        {
            return Ok(Round::Worked);
        }
        let room = standing.no_room.filter(|_| standing.round != Round::Failed);
        match standing.trouble.or(room) {
            Some(error) => Err(error),
            None if stop.is_cancelled() => Err(Error::Stopped),
            None => Ok(standing.round),
        }
    }

    /// Takes in the entries that are to be worked on.
    fn take_in(&self, part: Option<Part>, from: Option<&str>, command: &mut Command, progress: &Progress) {
        self.control.running();
        command.hear(part.is_none());
        let Some(part) = part else {
            return command.listing.ended(from, None);
        };
        if part.unreadable > 0 {
            let unreadable = part.unreadable;
            self.control
                .error(format!("{unreadable} entries of the manifest cannot be read"));
        }
        let last = part.entries.last().map(|entry| entry.request_id.to_string());
        for entry in part.entries {
            if command.open(&entry, || progress.found(entry.size)) {
                command.wait(entry);
            }
        }
        command.listing.read(last);
        if let Some(next) = part.end {
            command.listing.ended(from, next);
        }
    }

    /// Notes what became of entries.
    fn worked(
        &self,
        taken: Vec<ManifestEntry>,
        outcome: Outcome,
        command: &mut Command,
        standing: &mut Standing,
        progress: &Progress,
    ) {
        standing.copies -= 1;
        if standing.round == Round::Empty {
            standing.round = Round::Worked;
        }
        let mut left = HashMap::new();
        for entry in taken {
            command.queue.give_back(&entry.hash);
            standing.running.remove(&entry.request_id);
            left.insert(entry.request_id.clone(), entry);
        }
        for (entry, result) in outcome.entries {
            left.remove(&entry.request_id);
            let Err(error) = result else {
                command.done(&entry);
                progress.over();
                continue;
            };
            match error.concerns() {
                Concerns::Asset => {
                    standing.round = Round::Failed;
                    self.failed(&entry, &error, command.failed(&entry), progress);
                }
                Concerns::Room => {
                    standing.no_room = Some(error);
                    standing.refused.push(entry.size);
                    command.no_room(entry);
                }
                Concerns::Nobody => command.again(entry),
                _ => {
                    if matches!(error, Error::Cut { .. }) {
                        command.moved(&entry);
                    }
                    command.again(entry);
                    standing.trouble(error);
                }
            }
        }
        left.into_values().for_each(|entry| command.again(entry));
        if let Some(error) = outcome.trouble {
            standing.trouble(error);
        }
    }

    async fn work(
        &self,
        depot: &Depot,
        work: Work,
        progress: &Progress,
        lane: Lane<'_>,
        stop: Stop,
    ) -> Step<'_> {
        match work {
            Work::One(entry) => {
                let result = self.single(depot, &entry, progress, Some(&lane), &stop).await;
                let taken = vec![entry.clone()];
                let outcome = Outcome {
                    entries: vec![(entry, result)],
                    trouble: None,
                };
                Step::Worked { taken, outcome }
            }
            Work::Many(taken) => {
                let outcome = self.batch(depot, taken.clone(), progress, &lane, &stop).await;
                Step::Worked { taken, outcome }
            }
        }
    }

    /// What the team wants first, a moment from now.
    async fn look_at_orders(&self) -> Step<'_> {
        loop {
            tokio::time::sleep(LOOK).await;
            // A table that does not answer is told by those who need it.
            if let Ok(orders) = self.book.orders().await {
                return Step::Orders(orders);
            }
        }
    }
}

/// Asks for the manifest behind an entry, and reads the first that comes.
async fn ask<'a>(depot: &'a Depot, from: Option<String>, known: Option<String>, halt: &Stop) -> Step<'a> {
    let manifest = depot.manifest(from.as_deref(), LISTED, known.as_deref());
    let manifest = halt.run_until_cancelled(manifest).await;
    let part = match manifest.unwrap_or(Err(Error::Stopped)) {
        Ok(Some(manifest)) => return go_on(Box::new(manifest), from, halt).await,
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    Step::Read(Read {
        from,
        part,
        rest: None,
    })
}

/// Reads what comes next of an answer.
async fn go_on<'a>(mut manifest: Box<Manifest<'a>>, from: Option<String>, halt: &Stop) -> Step<'a> {
    let part = halt.run_until_cancelled(manifest.part()).await;
    let part = part.unwrap_or(Err(Error::Stopped));
    let more = part.as_ref().is_ok_and(|part| part.end.is_none());
    Step::Read(Read {
        from,
        part: part.map(Some),
        rest: more.then_some(manifest),
    })
}

/// When something that is wanted sooner waits, the copy that is wanted least stops; it goes on later, at its byte.
fn give_way(command: &Command, running: &HashMap<RequestId, (AssetId, Stop)>) {
    let priority = |asset_id: &AssetId| command.queue.priority(asset_id);
    let least = running.values().min_by_key(|(asset_id, _)| priority(asset_id));
    if let Some((asset_id, stop)) = least
        && command
            .queue
            .highest()
            .is_some_and(|highest| highest > priority(asset_id))
    {
        stop.cancel();
    }
}
