//! What becomes of what was read: batches go as they are, or are written anew where they cannot; records of a broker in
//! this process become batches, and batches become records for one.
//!
//! As it is goes a batch whose records are all there and all wanted, of a size that the destination and the line take.
//! Written anew, record by record but each byte of a record as it was: what compaction left gaps in, what the source
//! stamped with times of arrival, what begins before the checkpoint, what is too large, and many small ones in a row.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use common::broker::Record;
use common::kafka::batch::{Batch, Invalid};
use common::kafka::{Fetched, Row, pack, read, rebuild};

use crate::place::record;

/// Batches below this size go together, when several of a partition follow one another.
const SMALL: usize = 8 * 1024;
/// What a record takes in a batch beside key, value and headers, at most; so does a header beside its name and value.
const AROUND: usize = 32;

/// What was read of a partition and is not carried yet.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    /// Where reading was; the first batch may begin before it.
    pub(crate) from: i64,
    /// Where reading goes on.
    pub(crate) next: i64,
    /// The end of what is committed at the source, if that was told.
    pub(crate) stable: Option<i64>,
    load: Load,
}

#[derive(Debug)]
enum Load {
    Batches(Vec<Batch>),
    Records(Vec<Record>),
}

impl From<Fetched> for News {
    fn from(fetched: Fetched) -> Self {
        Self {
            topic: fetched.topic,
            partition: fetched.partition,
            from: fetched.from,
            next: fetched.next,
            stable: Some(fetched.stable),
            load: Load::Batches(fetched.batches),
        }
    }
}

impl News {
    /// Records as they came, each partition's together.
    pub(crate) fn of_records(records: Vec<Record>) -> Vec<Self> {
        let mut news: Vec<Self> = Vec::new();
        for record in records {
            let next = record.offset + 1;
            match waiting_of(news.iter_mut(), &record.topic, record.partition) {
                Some((behind, same)) => {
                    *behind = next;
                    same.push(record);
                }
                None => news.push(Self {
                    topic: record.topic.clone(),
                    partition: record.partition,
                    from: record.offset,
                    next,
                    stable: None,
                    load: Load::Records(vec![record]),
                }),
            }
        }
        news
    }

    /// Adds what came to what waits: records to those of their partition, since fewer and larger batches are made of them.
    pub(crate) fn join(waiting: &mut VecDeque<Self>, came: Vec<Self>) {
        for mut news in came {
            if let Load::Records(records) = &mut news.load
                && let Some((behind, same)) = waiting_of(waiting.iter_mut(), &news.topic, news.partition)
            {
                *behind = news.next;
                same.append(records);
            } else {
                waiting.push_back(news);
            }
        }
    }

    /// Only what is before an offset at which a batch begins.
    pub(crate) fn before(mut self, until: i64) -> Result<Self, Invalid> {
        match &mut self.load {
            Load::Batches(batches) => {
                batches.retain(|batch| batch.header.base_offset < until);
                // Who goes record by record finds the place.
                if batches.iter().any(|batch| batch.header.next_offset() > until) {
                    return Err(Invalid::Records);
                }
            }
            Load::Records(records) => records.retain(|record| record.offset < until),
        }
        self.next = self.next.min(until);
        Ok(self)
    }

    /// Keeps so many bytes of batches, one batch at least, and gives back what is behind them.
    pub(crate) fn split(&mut self, most: usize) -> Option<Self> {
        let Load::Batches(batches) = &mut self.load else {
            return None;
        };
        let mut bytes = 0;
        let fits = |batch: &&Batch| {
            bytes += batch.bytes.len();
            bytes <= most
        };
        let keeps = batches.iter().take_while(fits).count().max(1);
        let behind = batches.get(keeps)?.header.base_offset;
        let rest = Self {
            topic: self.topic.clone(),
            partition: self.partition,
            from: behind,
            next: mem::replace(&mut self.next, behind),
            stable: self.stable,
            load: Load::Batches(batches.split_off(keeps)),
        };
        Some(rest)
    }

    /// The keys of what is to be carried; an empty one for what has none, or cannot be read.
    pub(crate) fn keys(&self) -> Vec<Bytes> {
        match &self.load {
            Load::Batches(batches) => batches
                .iter()
                .flat_map(|batch| match read(batch) {
                    Ok(rows) => rows.into_iter().map(|row| row.key.unwrap_or_default()).collect(),
                    Err(_) => vec![Bytes::new()],
                })
                .collect(),
            Load::Records(records) => records
                .iter()
                .map(|record| record.key.clone().unwrap_or_default())
                .collect(),
        }
    }

    /// Whether nothing is to be carried: only the position moved.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.load {
            Load::Batches(batches) => batches.is_empty(),
            Load::Records(records) => records.is_empty(),
        }
    }

    /// How much there is to be carried.
    pub(crate) fn bytes(&self) -> usize {
        match &self.load {
            Load::Batches(batches) => batches.iter().map(|batch| batch.bytes.len()).sum(),
            Load::Records(records) => records.iter().map(Record::size).sum(),
        }
    }
}

/// What pieces are to be like.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    /// Batches of at most so many bytes.
    Batches(usize),
    /// At most so many records, of so many bytes.
    Records(usize, usize),
}

/// A piece with the place it comes from (topic and partition) and the topic it goes to.
#[derive(Debug)]
pub(crate) struct Freight {
    pub(crate) at: (String, i32),
    pub(crate) to: String,
    pub(crate) piece: Piece,
}

/// Something to be written as a whole.
#[derive(Debug)]
pub(crate) struct Piece {
    body: Body,
    /// Where reading goes on behind it.
    pub(crate) next: i64,
    /// The source offsets of its records.
    offsets: Offsets,
}

#[derive(Debug)]
enum Body {
    Batch(Batch),
    Records(Vec<Record>),
}

#[derive(Debug)]
enum Offsets {
    /// One after the other, from here.
    From(i64),
    Each(Vec<i64>),
}

impl Piece {
    pub(crate) fn records(&self) -> usize {
        match &self.body {
            Body::Batch(batch) => usize::try_from(batch.header.count).unwrap_or_default(),
            Body::Records(records) => records.len(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match &self.body {
            Body::Batch(batch) => batch.bytes.len(),
            Body::Records(records) => records.iter().map(Record::size).sum(),
        }
    }

    /// The batch, for a destination that takes batches.
    pub(crate) fn batch(&self) -> Option<&Batch> {
        match &self.body {
            Body::Batch(batch) => Some(batch),
            Body::Records(_) => None,
        }
    }

    /// The records, for a destination that takes records.
    pub(crate) fn contents(&self) -> &[Record] {
        match &self.body {
            Body::Batch(_) => &[],
            Body::Records(records) => records,
        }
    }

    /// The newest of its records' times.
    pub(crate) fn newest(&self) -> i64 {
        match self.batch() {
            Some(batch) => batch.header.max_timestamp,
            None => self
                .contents()
                .iter()
                .map(|record| record.timestamp)
                .max()
                .unwrap_or_default(),
        }
    }

    /// Its only record, as it is at the source.
    pub(crate) fn only(self, (topic, partition): &(String, i32)) -> Result<Record, Invalid> {
        let offset = self.last();
        let only = match self.body {
            Body::Records(records) => records.into_iter().next(),
            Body::Batch(batch) => {
                let row = read(&batch)?.into_iter().next();
                row.map(|row| record(&Arc::from(topic.as_str()), *partition, row))
            }
        };
        let only = only.ok_or(Invalid::Records)?;
        Ok(Record { offset, ..only })
    }

    /// The source offset of its last record.
    pub(crate) fn last(&self) -> i64 {
        match &self.offsets {
            Offsets::From(first) => first + self.records() as i64 - 1,
            Offsets::Each(each) => each.last().copied().unwrap_or_default(),
        }
    }

    /// Runs of source offsets without gaps: the first, how many, and how many records come before it in the batch.
    pub(crate) fn runs(&self) -> Vec<(i64, i64, i64)> {
        match &self.offsets {
            Offsets::From(first) => vec![(*first, self.records() as i64, 0)],
            Offsets::Each(each) => {
                let mut runs: Vec<(i64, i64, i64)> = Vec::new();
                for (before, offset) in (0_i64..).zip(each) {
                    match runs.last_mut() {
                        Some((first, count, _)) if *first + *count == *offset => *count += 1,
                        _ => runs.push((*offset, 1, before)),
                    }
                }
                runs
            }
        }
    }
}

/// The records of a partition that wait behind all else of it, and where reading goes on behind them.
fn waiting_of<'a>(
    all: impl DoubleEndedIterator<Item = &'a mut News>,
    topic: &str,
    partition: i32,
) -> Option<(&'a mut i64, &'a mut Vec<Record>)> {
    let last = all
        .rev()
        .find(|news| news.partition == partition && *news.topic == *topic)?;
    match &mut last.load {
        Load::Records(records) => Some((&mut last.next, records)),
        Load::Batches(_) => None,
    }
}

/// Cuts what was read of a partition into pieces of a form; a single record that is larger still is one.
pub(crate) fn cut(news: News, from: i64, form: Form) -> Result<Vec<Piece>, Invalid> {
    let (next, partition, topic) = (news.next, news.partition, news.topic);
    let mut pieces = match (news.load, form) {
        (Load::Batches(batches), Form::Batches(limit)) => return as_they_are(batches, from, limit),
        (Load::Batches(batches), Form::Records(most, limit)) => {
            let mut records = Vec::new();
            for batch in &batches {
                let rows = read(batch)?.into_iter();
                records.extend(rows.map(|row| record(&topic, partition, row)));
            }
            by_size(records, from, most, limit)
        }
        (Load::Records(records), Form::Records(most, limit)) => by_size(records, from, most, limit),
        (Load::Records(records), Form::Batches(limit)) => {
            let mut pieces = by_size(records, from, usize::MAX, limit);
            for piece in &mut pieces {
                piece.body = Body::Batch(packed(piece.contents())?);
            }
            pieces
        }
    };
    if let Some(last) = pieces.last_mut() {
        last.next = last.next.max(next);
    }
    Ok(pieces)
}

/// Records from an offset on, in pieces of so many and so many bytes, as a batch has them.
fn by_size(records: Vec<Record>, from: i64, most: usize, limit: usize) -> Vec<Piece> {
    let mut pieces: Vec<Vec<Record>> = Vec::new();
    let mut bytes = 0;
    for record in records.into_iter().filter(|record| record.offset >= from) {
        let size = record.size() + AROUND * (1 + record.headers.len());
        match pieces.last_mut() {
            Some(piece) if piece.len() < most && bytes + size <= limit => {
                bytes += size;
                piece.push(record);
            }
            _ => {
                bytes = AROUND * 2 + size;
                pieces.push(vec![record]);
            }
        }
    }
    let piece = |records: Vec<Record>| Piece {
        next: records.last().map_or(from, |last| last.offset + 1),
        offsets: Offsets::Each(records.iter().map(|record| record.offset).collect()),
        body: Body::Records(records),
    };
    pieces.into_iter().map(piece).collect()
}

fn packed(records: &[Record]) -> Result<Batch, Invalid> {
    let rows: Vec<Row<'_>> = records
        .iter()
        .map(|record| Row {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
        })
        .collect();
    pack(&rows).ok_or(Invalid::Records)
}

fn as_they_are(batches: Vec<Batch>, from: i64, limit: usize) -> Result<Vec<Piece>, Invalid> {
    let mut pieces = Vec::new();
    let mut small: Vec<Batch> = Vec::new();
    let mut bytes = 0;
    for batch in batches {
        let whole = batch.header.plain() && batch.header.base_offset >= from && batch.bytes.len() <= limit;
        let joins = small
            .first()
            .is_none_or(|first| first.header.compression() == batch.header.compression());
        if !joins || bytes + batch.bytes.len() > limit {
            flush(&mut small, from, limit, &mut pieces)?;
            bytes = 0;
        }
        if whole && batch.bytes.len() >= SMALL {
            flush(&mut small, from, limit, &mut pieces)?;
            bytes = 0;
            pieces.push(as_it_is(batch));
        } else {
            bytes += batch.bytes.len();
            small.push(batch);
        }
    }
    flush(&mut small, from, limit, &mut pieces)?;
    Ok(pieces)
}

fn as_it_is(batch: Batch) -> Piece {
    Piece {
        next: batch.header.next_offset(),
        offsets: Offsets::From(batch.header.base_offset),
        body: Body::Batch(batch),
    }
}

fn flush(small: &mut Vec<Batch>, from: i64, limit: usize, pieces: &mut Vec<Piece>) -> Result<(), Invalid> {
    let batches = mem::take(small);
    match &batches[..] {
        [] => {}
        [one] if one.header.plain() && one.header.base_offset >= from && one.bytes.len() <= limit => {
            pieces.extend(batches.into_iter().map(as_it_is));
        }
        [.., last] => {
            let next = last.header.next_offset();
            let built = rebuild(&batches, from, limit)?;
            pieces.extend(built.into_iter().map(|built| Piece {
                next: built.offsets.last().map_or(next, |last| last + 1),
                offsets: Offsets::Each(built.offsets),
                body: Body::Batch(built.batch),
            }));
            // What compaction took from the end of a batch is behind its last record.
            if let Some(piece) = pieces.last_mut() {
                piece.next = piece.next.max(next);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(offset: i64) -> Record {
        Record {
            topic: "t".into(),
            partition: 1,
            offset,
            timestamp: 1_000 - offset,
            key: (offset % 2 == 0).then(|| Bytes::from_static(b"key")),
            value: (offset % 3 != 0).then(|| Bytes::from(vec![b'v'; 100])),
            headers: vec![("h".into(), Bytes::new()), ("h".into(), Bytes::from_static(b"1"))],
        }
    }

    #[test]
    fn records_of_a_partition_are_together_however_they_come() {
        let at = |partition, offset| Record {
            partition,
            ..record(offset)
        };
        let mut waiting = VecDeque::new();
        News::join(
            &mut waiting,
            News::of_records(vec![at(1, 5), at(2, 8), at(1, 6), at(2, 9)]),
        );
        News::join(
            &mut waiting,
            News::of_records(vec![at(2, 10), at(3, 0), at(1, 7)]),
        );
        let found: Vec<_> = waiting
            .into_iter()
            .map(|news| {
                (
                    news.partition,
                    news.from,
                    news.next,
                    cut(news, 0, Form::Batches(10_000)).unwrap(),
                )
            })
            .map(|(partition, from, next, pieces)| (partition, from, next, pieces.len(), pieces[0].records()))
            .collect();
        assert_eq!(found, [(1, 5, 8, 1, 3), (2, 8, 11, 1, 3), (3, 0, 1, 1, 1)]);
        assert!(News::of_records(Vec::new()).is_empty());
    }

    #[test]
    fn records_that_were_made_batches_are_the_same_records_again() {
        let offsets = [3, 4, 7, 8, 9, 20];
        let records: Vec<Record> = offsets.into_iter().map(record).collect();
        let news = News::of_records(records.clone());
        assert_eq!((news.len(), news[0].from, news[0].next), (1, 3, 21));
        let pieces = cut(news.into_iter().next().unwrap(), 4, Form::Batches(500)).unwrap();
        assert!(pieces.len() > 1);
        let mut found = Vec::new();
        for piece in &pieces {
            let batch = piece.batch().unwrap();
            assert!(batch.bytes.len() <= 500);
            for ((source, count, before), base) in piece.runs().into_iter().zip([1_000; 3]) {
                let rows = read(batch).unwrap();
                for step in 0..count {
                    let row = rows[usize::try_from(before + step).unwrap()].clone();
                    assert!(base + before + step >= 1_000);
                    found.push(Record {
                        topic: "t".into(),
                        partition: 1,
                        offset: source + step,
                        timestamp: row.timestamp,
                        key: row.key,
                        value: row.value,
                        headers: row.headers,
                    });
                }
            }
        }
        assert_eq!(found, records[1..]);
        assert_eq!(pieces.last().unwrap().next, 21);
    }

    #[test]
    fn news_are_split_between_batches() {
        let batches: Vec<Batch> = (0..3).map(|at| packed(&[record(at)]).unwrap()).collect();
        let size = batches.iter().map(|batch| batch.bytes.len()).max().unwrap();
        let mut first = News {
            topic: "t".into(),
            partition: 1,
            from: 0,
            next: 9,
            stable: Some(9),
            load: Load::Batches(batches),
        };
        assert!(first.split(usize::MAX).is_none());
        let mut second = first.split(size * 2).unwrap();
        assert_eq!(
            (first.from, first.next, first.bytes() > size),
            (0, second.from, true)
        );
        // One batch goes even if it is larger.
        assert!(second.split(1).is_none());
        assert_eq!((second.next, second.bytes() > 0), (9, true));
        assert!(first.split(1).is_some() && first.bytes() > 0);
    }

    #[test]
    fn pieces_for_a_broker_in_this_process_are_of_so_many_records() {
        let news = News::of_records((0..10).map(record).collect());
        let news = news.into_iter().next().unwrap();
        let pieces = cut(news, 0, Form::Records(4, usize::MAX)).unwrap();
        let counts: Vec<usize> = pieces.iter().map(Piece::records).collect();
        assert_eq!(counts, [4, 4, 2]);
        assert_eq!(pieces[0].next, 4);
    }
}
