//! The link's past: its figures once a minute for a day, and once a quarter of an hour for thirty days.
//!
//! They are records of the site's own topic `service-history`, each under the key of its slot. A slot comes round again,
//! and compaction keeps the newest record of a key: so the topic is the two rings, as large as they are and no larger, as
//! durable as the broker, and whoever shows them reads it. Two notes lie beside them: where the carriers are (so that what
//! waits here is known after a restart, also while the core is away), and how much each topic had taken in at times of the
//! last day. A point that cannot be written is left out.

use std::collections::BTreeMap;
use std::time::Duration;

use common::broker::{self, Broker, Outgoing, TopicSpec};
use common::schemas::{self, ServiceHistory, topic};
use common::telemetry;

use crate::behind::Reached;
use crate::buffer::SAMPLE_MS;

const SERVICE: &str = "link";
const MINUTE_MS: i64 = 60_000;
const MINUTES: i64 = 24 * 60;
const QUARTER_MS: i64 = 15 * MINUTE_MS;
const QUARTERS: i64 = 30 * 24 * 4;
const SAMPLES: i64 = 96;
const LIMIT: Duration = Duration::from_secs(10);

/// Figures by name.
pub(crate) type Figures = BTreeMap<String, f64>;

/// What an earlier process left.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    /// Where carriers were.
    pub(crate) reached: Reached,
    /// By topic: how many records there had been, and when; the oldest first.
    pub(crate) made: BTreeMap<String, Vec<(i64, i64)>>,
}

/// Writes the past.
#[derive(Debug)]
pub(crate) struct Past {
    own: Broker,
    /// The quarter of an hour that is under way, by its number.
    quarter: Option<(i64, Figures)>,
    /// The last minute that was written, and what the notes say.
    minute: i64,
    /// The key under which it is noted where carriers are: of another site that this broker was, nothing is known.
    note: String,
    sampled: i64,
    reached: Reached,
}

impl Past {
    /// Goes on with what is there.
    ///
    /// # Errors
    /// With the broker's.
    pub(crate) async fn open(own: &Broker, site: &str, now_ms: i64) -> broker::Result<(Self, Earlier)> {
        let name = topic::SERVICE_HISTORY;
        // A site that was made before there was such a topic.
        if own.describe(name).await?.is_none() {
            own.create_topic(&TopicSpec::new(name, 1).compacted()).await?;
        }
        let note = format!("reached/{site}");
        let (mut earlier, mut quarter) = (Earlier::default(), None);
        let this = now_ms / QUARTER_MS;
        own.read_to_end(name, |record| {
            let key = record
                .key
                .as_deref()
                .map(String::from_utf8_lossy)
                .unwrap_or_default();
            let found = record.value.as_deref().map(schemas::decode::<ServiceHistory>);
            let (Some(rest), Some(Ok(found))) = (key.strip_prefix("link/"), found) else {
                return;
            };
            if rest == note {
                earlier.reached = found
                    .figures
                    .iter()
                    .map(|(key, next)| (key.clone(), whole(*next)))
                    .collect();
            } else if rest.starts_with("made/") {
                for (topic, made) in &found.figures {
                    let samples = earlier.made.entry(topic.clone()).or_default();
                    samples.push((found.at, whole(*made)));
                }
            } else if rest.starts_with("quarter/") && found.at / QUARTER_MS == this {
                quarter = Some((this, found.figures));
            }
        })
        .await?;
        for samples in earlier.made.values_mut() {
            samples.sort_unstable();
        }
        let past = Self {
            own: own.clone(),
            quarter,
            note,
            minute: 0,
            sampled: 0,
            reached: earlier.reached.clone(),
        };
        Ok((past, earlier))
    }

    /// Whether a point is due.
    pub(crate) fn due(&self, now_ms: i64) -> bool {
        now_ms / MINUTE_MS != self.minute
    }

    /// Whether it was never noted where carriers are.
    pub(crate) fn knows_nothing(&self) -> bool {
        self.reached.is_empty()
    }

    /// Notes where carriers are, when that is known and new.
    pub(crate) async fn note(&mut self, now_ms: i64, reached: Reached) {
        if !reached.is_empty()
            && reached != self.reached
            && self
                .sent(now_ms, vec![(self.note.clone(), 0, figures(&reached))])
                .await
        {
            self.reached = reached;
        }
    }

    /// Writes a point, and a sample when one is due.
    pub(crate) async fn write(&mut self, now_ms: i64, point: Figures, made: Figures) {
        let quarter = now_ms / QUARTER_MS;
        let mut whole = match self.quarter.take() {
            Some((of, figures)) if of == quarter => figures,
            _ => Figures::new(),
        };
        merge(&mut whole, &point);
        let mut records = vec![
            (format!("minute/{}", now_ms / MINUTE_MS % MINUTES), 60, point),
            (format!("quarter/{}", quarter % QUARTERS), 900, whole.clone()),
        ];
        self.quarter = Some((quarter, whole));
        let sample = now_ms / SAMPLE_MS;
        if sample != self.sampled && !made.is_empty() {
            records.push((format!("made/{}", sample % SAMPLES), 0, made));
        }
        self.minute = now_ms / MINUTE_MS;
        if self.sent(now_ms, records).await {
            self.sampled = sample;
        }
    }

    async fn sent(&self, now_ms: i64, records: Vec<(String, i32, Figures)>) -> bool {
        match tokio::time::timeout(LIMIT, self.send(now_ms, records)).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => {
                tracing::debug!(error = %telemetry::chain(error.as_ref()), "a point of the past is left out");
            }
            Err(_) => tracing::debug!("a point of the past is left out: no answer in time"),
        }
        false
    }

    async fn send(&self, at: i64, records: Vec<(String, i32, Figures)>) -> anyhow::Result<()> {
        let mut outgoing = Vec::with_capacity(records.len());
        for (key, every_s, figures) in records {
            let point = ServiceHistory {
                service: SERVICE.to_owned(),
                at,
                every_s,
                figures,
            };
            let key = format!("{SERVICE}/{key}");
            outgoing.push(Outgoing::new(
                topic::SERVICE_HISTORY,
                key,
                schemas::encode(&point)?,
            ));
        }
        self.own.producer()?.send_all(outgoing).await?;
        Ok(())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "was whole, and below 2^53")]
fn whole(figure: f64) -> i64 {
    figure as i64
}

#[expect(clippy::cast_precision_loss, reason = "offsets stay below 2^53")]
fn figures(reached: &Reached) -> Figures {
    reached
        .iter()
        .map(|(key, next)| (key.clone(), *next as f64))
        .collect()
}

/// Makes a point part of a longer time: of what is behind the most counts, of what is left the least, else the last.
fn merge(whole: &mut Figures, point: &Figures) {
    for (name, value) in point {
        let old = whole.get(name).copied().unwrap_or(*value);
        let kept = if name.starts_with("buffer") {
            old.min(*value)
        } else if name.contains(".lag_") || name.ends_with(".catch_up_seconds") {
            old.max(*value)
        } else {
            *value
        };
        whole.insert(name.clone(), kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_time_keeps_the_worst_and_the_last_of_what_only_grows() {
        let of = |lag, left, bytes| -> Figures {
            let figures = [
                ("route.a.lag_records", lag),
                ("buffer_hours", left),
                ("class.sensors.month_bytes", bytes),
            ];
            figures.map(|(name, value)| (name.to_owned(), value)).into()
        };
        let mut whole = Figures::new();
        for point in [of(5.0, 9.0, 1.0), of(7.0, 3.0, 2.0), of(1.0, 8.0, 3.0)] {
            merge(&mut whole, &point);
        }
        assert_eq!(whole, of(7.0, 3.0, 3.0));
    }

    #[tokio::test]
    async fn rings_stay_as_large_as_they_are_and_a_later_process_goes_on() {
        let dir = testkit::temp_dir();
        let settings = broker::Settings::url(testkit::sqlite(dir.path(), "edge.db"));
        let own = Broker::open(&settings, "test", &Default::default())
            .await
            .unwrap();
        let start = 1_000 * 24 * 60 * MINUTE_MS;
        let (mut past, earlier) = Past::open(&own, "edge-1", start).await.unwrap();
        assert!(earlier.reached.is_empty() && past.due(start));
        let point = |lag: f64| Figures::from([("route.a.lag_records".to_owned(), lag)]);
        let reached = Reached::from([("a/t/0".to_owned(), 1 << 40)]);
        let made = Figures::from([("t".to_owned(), 12.0)]);
        past.write(start, point(8.0), made.clone()).await;
        past.note(start, reached.clone()).await;
        assert!(!past.due(start + 59_999) && past.due(start + MINUTE_MS));
        let (mut past, earlier) = Past::open(&own, "edge-1", start + MINUTE_MS).await.unwrap();
        assert_eq!(earlier.reached, reached);
        assert_eq!(earlier.made["t"], [(start, 12)]);
        past.write(start + MINUTE_MS, point(2.0), made.clone()).await;
        // A day later the same slots are taken.
        past.write(start + 24 * 60 * MINUTE_MS, point(3.0), made).await;
        let mut newest = BTreeMap::new();
        own.read_to_end(topic::SERVICE_HISTORY, |record| {
            let key = String::from_utf8_lossy(record.key.as_deref().unwrap()).into_owned();
            let point: ServiceHistory = schemas::decode(&record.value.unwrap()).unwrap();
            newest.insert(key, point.figures);
        })
        .await
        .unwrap();
        let first = start / MINUTE_MS % MINUTES;
        assert_eq!(newest[&format!("link/minute/{first}")], point(3.0));
        assert_eq!(newest[&format!("link/minute/{}", first + 1)], point(2.0));
        // Of the first quarter of an hour the most is kept, over a restart.
        assert_eq!(
            newest[&format!("link/quarter/{}", start / QUARTER_MS % QUARTERS)],
            point(8.0)
        );
    }
}
