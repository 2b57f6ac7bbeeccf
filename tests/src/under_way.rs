//! Whether faults met anything: a storm over lines on which nothing moves proves nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use broker::{Broker, Position};
use tokio::task::JoinHandle;

use crate::pair;
use crate::site::Site;

/// Every topic here has so many.
const PARTITIONS: i32 = 3;
/// A site that is starting again is asked once more at the next fault.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long one who counts waits for records, and after a failure.
const WAIT: Duration = Duration::from_millis(500);
const RECORDS: usize = 1000;
/// So many faults may come before anything moves.
const BEGINNING: usize = 3;

/// One end of a direction: how many records are there.
#[derive(Debug)]
pub enum End {
    /// At a real broker.
    Broker(Count),
    /// In these topics of a site whose broker nobody but its own process can read.
    Site(Site, Vec<String>),
    /// As many as were put there.
    Filled(i64),
}

impl End {
    /// None when nobody answers.
    async fn count(&self) -> Option<i64> {
        match self {
            Self::Broker(count) => Some(count.seen.load(Ordering::Relaxed)),
            Self::Filled(records) => Some(*records),
            Self::Site(site, topics) => {
                let all = async {
                    let mut sum = 0;
                    for topic in topics {
                        sum += site.length(topic).await.ok()?;
                    }
                    Some(sum)
                };
                tokio::time::timeout(PATIENCE, all).await.ok()?
            }
        }
    }
}

/// Counts the committed records of a broker's topics as they come.
#[derive(Debug)]
pub struct Count {
    seen: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl Count {
    /// Begins; topics need not be there yet, nor does the broker need to stay.
    ///
    /// # Errors
    /// When the URL is none.
    pub async fn start(url: &str, topics: &[String]) -> Result<Self> {
        let broker = pair::open(url, "count").await?;
        let seen = Arc::new(AtomicI64::new(0));
        let places = topics
            .iter()
            .flat_map(|topic| (0..PARTITIONS).map(move |partition| Position::beginning(topic, partition)));
        let task = tokio::spawn(count(broker, places.collect(), seen.clone()));
        Ok(Self { seen, task })
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn count(broker: Broker, mut places: Vec<Position>, seen: Arc<AtomicI64>) {
    loop {
        if let Ok(mut reader) = broker.reader(&places).await {
            while let Ok(records) = reader.next(RECORDS, WAIT).await {
                let records = i64::try_from(records.len()).unwrap_or(i64::MAX);
                seen.fetch_add(records, Ordering::Relaxed);
            }
            for place in &mut places {
                if let Some(next) = reader.position(&place.topic, place.partition) {
                    *place = Position::at(&place.topic, place.partition, next);
                }
            }
        }
        tokio::time::sleep(WAIT).await;
    }
}

/// One direction.
#[derive(Debug)]
struct Way {
    sent: End,
    came: End,
    /// How many had come when the last fault struck, and whether more were to come.
    before: i64,
    waited: bool,
    met: usize,
}

impl Way {
    fn new([sent, came]: [End; 2]) -> Self {
        Self {
            sent,
            came,
            before: 0,
            waited: false,
            met: 0,
        }
    }

    /// Whether the fault before this one met something: records that had not come, or have come since.
    async fn look(&mut self) -> bool {
        let now = self.came.count().await.unwrap_or(self.before);
        let met = self.waited || now > self.before;
        self.waited = self.sent.count().await.is_some_and(|sent| sent > now);
        self.before = now;
        met
    }
}

/// How many faults there were, and how many of them met records or copies on their way.
#[derive(Debug)]
pub struct UnderWay {
    up: Way,
    down: Way,
    staging: PathBuf,
    faults: usize,
    copies: usize,
}

impl UnderWay {
    /// Of records that go up and down, from the first to the second end, and of copies that come into the edge's volume.
    pub fn new(up: [End; 2], down: [End; 2], volume: &Path) -> Self {
        Self {
            up: Way::new(up),
            down: Way::new(down),
            staging: volume.join("staging"),
            faults: 0,
            copies: 0,
        }
    }

    /// So many records more were put where those that go up come from.
    pub fn filled(&mut self, records: usize) {
        if let End::Filled(filled) = &mut self.up.sent {
            *filled = filled.saturating_add_unsigned(records as u64);
        }
    }

    /// Looks before a fault: a part of a copy in the volume's staging is a copy on its way.
    ///
    /// # Errors
    /// When the volume cannot be read.
    pub async fn strikes(&mut self) -> Result<()> {
        self.look().await;
        let mut copy = false;
        for file in std::fs::read_dir(&self.staging)? {
            copy |= file?.path().extension().is_some_and(|kind| kind == "partial");
        }
        self.faults += 1;
        self.copies += usize::from(copy);
        Ok(())
    }

    /// Looks after the last fault. At least half must have met records each way, and a copy.
    ///
    /// # Errors
    /// When it was too quiet for the faults to prove anything.
    pub async fn enough(&mut self) -> Result<()> {
        self.look().await;
        let least = self.up.met.min(self.down.met).min(self.copies);
        ensure!(2 * (least + BEGINNING) >= self.faults, "too quiet: {self}");
        Ok(())
    }

    async fn look(&mut self) {
        let (up, down) = (self.up.look().await, self.down.look().await);
        // What came before the first fault met none.
        if self.faults > 0 {
            self.up.met += usize::from(up);
            self.down.met += usize::from(down);
        }
    }
}

impl fmt::Display for UnderWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "of {} faults {} met records going up ({} came), {} records going down ({} came), {} a copy in the making",
            self.faults, self.up.met, self.up.before, self.down.met, self.down.before, self.copies
        )
    }
}
