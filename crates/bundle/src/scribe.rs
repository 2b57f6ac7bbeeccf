//! Reading a partition into segments.

use std::collections::VecDeque;
use std::time::Duration;

use common::broker::{Broker, Position, Reader, Record};

use crate::error::Result;
use crate::segment::Pen;

const POLL: Duration = Duration::from_millis(500);
const RECORDS: usize = 1000;

/// Reads a partition to an end that is known, and writes segments of it.
#[derive(Debug)]
pub(crate) struct Scribe {
    reader: Reader,
    topic: String,
    partition: i32,
    high: i64,
    waiting: VecDeque<Record>,
    next: i64,
    /// Whether all has been handed out.
    pub(crate) done: bool,
}

impl Scribe {
    pub(crate) async fn open(
        broker: &Broker,
        topic: &str,
        partition: i32,
        begin: i64,
        high: i64,
    ) -> Result<Self> {
        Ok(Self {
            reader: broker.reader(&[Position::at(topic, partition, begin)]).await?,
            topic: topic.to_owned(),
            partition,
            high,
            waiting: VecDeque::new(),
            next: begin,
            done: false,
        })
    }

    /// The next segment's records; none after the last.
    pub(crate) async fn segment(&mut self) -> Result<Option<Pen>> {
        if self.done {
            return Ok(None);
        }
        let mut pen = Pen::new(self.next);
        loop {
            while let Some(record) = self.waiting.pop_front() {
                if record.offset >= self.high {
                    self.done = true;
                    return Ok(Some(pen));
                }
                pen.put(&record);
                self.next = pen.next();
                if pen.full() {
                    self.done = self.next >= self.high;
                    return Ok(Some(pen));
                }
            }
            // Behind the last record there may be offsets that no reader is given.
            let position = self.reader.position(&self.topic, self.partition);
            if self.next >= self.high || position.is_some_and(|position| position >= self.high) {
                self.done = true;
                return Ok(Some(pen));
            }
            self.waiting.extend(self.reader.next(RECORDS, POLL).await?);
        }
    }
}
