//! As a reader.

use std::time::Duration;

use anyhow::Result;
use broker::{Broker, Outgoing, Position, Reader, Record};
use testkit::proxy::{Cut, End, Flow};
use tokio::time::Instant;

use crate::Line;

const STEP: Duration = Duration::from_secs(1);

fn positions(topic: &str) -> Vec<Position> {
    (0..3)
        .map(|partition| Position::beginning(topic, partition))
        .collect()
}

/// Reads until the deadline or the count; returns records, bytes, and when the first came.
async fn read(reader: &mut Reader, count: usize, limit: Duration) -> Result<(usize, u64, Option<Duration>)> {
    let began = Instant::now();
    let (mut records, mut bytes, mut first) = (0, 0, None);
    while records < count && began.elapsed() < limit {
        let found = reader.next(count - records, STEP).await?;
        if !found.is_empty() {
            first.get_or_insert_with(|| began.elapsed());
        }
        records += found.len();
        bytes += found.iter().map(|record| record.size() as u64).sum::<u64>();
    }
    Ok((records, bytes, first))
}

/// A reader, and a transactional producer, with nothing to do.
pub(crate) async fn idle(line: &mut Line, time: Duration) -> Result<()> {
    let topic = line.topic(3).await?;
    for poor in [false, true] {
        if poor {
            line.poor();
        } else {
            line.clean();
        }
        let name = if poor { "64 kbit/s, 600 ms" } else { "clean line" };
        let far = line.far().await?;
        let mut reader = far.reader(&positions(&topic)).await?;
        read(&mut reader, 1, Duration::from_secs(15)).await?;
        let reading = async { read(&mut reader, 1, time).await.map(|_| ()) };
        line.watch(&format!("idle reader of 3 partitions, {name}"), reading)
            .await?;
        drop(reader);
        let mut transactions = far.transactions(&topic).await?;
        let one = line.records(&topic, 1);
        transactions.commit(one, |_| Vec::new()).await?;
        let waiting = async {
            tokio::time::sleep(time).await;
            Ok(())
        };
        line.watch(&format!("idle transactional producer, {name}"), waiting)
            .await?;
    }
    Ok(())
}

/// A backlog over the poor line.
pub(crate) async fn fetch(line: &mut Line) -> Result<()> {
    let topic = line.topic(3).await?;
    let count = 3000;
    line.fill(&topic, count).await?;
    line.poor();
    line.frames.take();
    let before = line.proxy.carried();
    let began = Instant::now();
    let far = line.far().await?;
    let mut reader = far.reader(&positions(&topic)).await?;
    let opened = began.elapsed();
    let (records, bytes, first) = read(&mut reader, count, Duration::from_secs(240)).await?;
    let carried = line.proxy.carried().since(&before);
    println!(
        "backlog of {count}: {records} records ({bytes} B) in {:.1} s; reader open after {:.1} s, first record {:.1} s later; {} B down, {} B up",
        began.elapsed().as_secs_f64(),
        opened.as_secs_f64(),
        first.unwrap_or_default().as_secs_f64(),
        carried.down,
        carried.up
    );
    print!("{}", line.frames.table(8));
    Ok(())
}

/// What comes although nobody asks for it, and is thrown away with the reader.
pub(crate) async fn pause(line: &mut Line) -> Result<()> {
    let topic = line.topic(3).await?;
    line.fill(&topic, 60_000).await?;
    for poor in [false, true] {
        if poor {
            line.poor();
        } else {
            line.clean();
        }
        let far = line.far().await?;
        let before = line.proxy.carried();
        let mut reader = far.reader(&positions(&topic)).await?;
        let (records, bytes, _) = read(&mut reader, 100, Duration::from_secs(300)).await?;
        let read_at = line.proxy.carried().since(&before).down;
        tokio::time::sleep(Duration::from_secs(30)).await;
        let carried = line.proxy.carried().since(&before).down;
        println!(
            "{}: {records} records read ({bytes} B) when {read_at} B had come; after 30 s of pause {carried} B had come: {} B would come again",
            if poor { "64 kbit/s, 600 ms" } else { "clean line" },
            carried.saturating_sub(bytes)
        );
    }
    Ok(())
}

/// How long after a fault the next record comes, while one comes every 200 ms. A reader that ends with an error is
/// opened anew, as a link does it.
pub(crate) async fn recover(line: &mut Line) -> Result<()> {
    let topic = line.topic(3).await?;
    line.poor();
    let far = line.far().await?;
    let producer = line.near.producer()?;
    let name = topic.clone();
    let sending = tokio::spawn(async move {
        for number in 0_u64.. {
            let record = Outgoing::new(&name, number.to_string(), number.to_be_bytes().to_vec());
            if producer.send(record).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let mut reader = Reopened {
        far: &far,
        topic: &topic,
        reader: None,
        errors: 0,
    };
    reader.pass(Duration::from_secs(15)).await;
    let faults = [
        ("reset", 5),
        ("orderly end", 5),
        ("stall of 10 s", 1),
        ("stall of 90 s", 1),
        ("blackout of 30 s", 1),
        ("half open", 1),
    ];
    for (fault, times) in faults {
        for _ in 0..times {
            let flow = |flow| line.proxy.change(|now| now.flow = flow);
            let began = Instant::now();
            match fault {
                "reset" => line.proxy.cut(Cut::Reset),
                "orderly end" => line.proxy.cut(Cut::Fin),
                "half open" => line.proxy.half_open(End::Client),
                "blackout of 30 s" => {
                    flow(Flow::Dark);
                    reader.pass(Duration::from_secs(30)).await;
                }
                _ => {
                    flow(Flow::Stalled);
                    let long = if fault.contains("90") { 90 } else { 10 };
                    reader.pass(Duration::from_secs(long)).await;
                }
            }
            let over = Instant::now();
            flow(Flow::Open);
            // What was on its way already is no sign of recovery.
            let sent_after = now_ms();
            let mut fresh = false;
            while !fresh && over.elapsed() < Duration::from_secs(180) {
                let found = reader.next().await;
                fresh = found.iter().any(|record| record.timestamp > sent_after);
            }
            println!(
                "{fault}: a record sent after it comes {:.1} s after its end{} (the fault took {:.0} s); {} readers ended with an error",
                over.elapsed().as_secs_f64(),
                if fresh { "" } else { ", NOT AT ALL" },
                (over - began).as_secs_f64(),
                std::mem::take(&mut reader.errors)
            );
            reader.pass(Duration::from_secs(3)).await;
        }
    }
    sending.abort();
    Ok(())
}

/// A reader that is opened anew after an error, at the end.
struct Reopened<'a> {
    far: &'a Broker,
    topic: &'a str,
    reader: Option<Reader>,
    errors: u32,
}

impl Reopened<'_> {
    async fn next(&mut self) -> Vec<Record> {
        let found = async {
            let reader = match &mut self.reader {
                Some(reader) => reader,
                none => {
                    let positions: Vec<Position> = (0..3)
                        .map(|partition| Position::end(self.topic, partition))
                        .collect();
                    none.insert(self.far.reader(&positions).await?)
                }
            };
            reader.next(1000, STEP).await
        };
        match found.await {
            Ok(records) => records,
            Err(_) => {
                self.reader = None;
                self.errors += 1;
                tokio::time::sleep(Duration::from_millis(200)).await;
                Vec::new()
            }
        }
    }

    async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.next().await;
        }
    }
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
