//! `fieldline link verify`: whether what was carried is the same on both sides.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use link::Direction;
use link::verify::{self, Compared, Point, Verdict};
use serde_json::json;

use crate::link_offsets::open;
use crate::output::{bytes, line, show, table};

/// Compare source and destination of what the link carries. It reads the far side's records, under the link's cap and
/// budget. Exit code: 0 the same, 1 different, 2 could not tell.
#[derive(Debug, Args)]
pub(crate) struct LinkVerify {
    /// The edge's settings file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only this topic, by its name on either side.
    #[arg(long)]
    topic: Option<String>,
    /// Begin at this offset of the source (with --topic), or this time, as 2026-11-20T06:00:00Z; at the beginning
    /// unless told.
    #[arg(long)]
    from: Option<String>,
    /// End before it; at the end of what was carried unless told.
    #[arg(long)]
    to: Option<String>,
    /// Read the far side though it is more than 10 MB, or its bytes cost money.
    #[arg(long)]
    yes: bool,
    /// Print JSON for scripts instead of text.
    #[arg(long)]
    json: bool,
}

/// Why the exit code is not 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unlike {
    /// Something is different.
    #[error("source and destination differ in {0} partitions")]
    Different(usize),
    /// Nothing different was found, but not all could be told.
    #[error("{0}")]
    Unsure(String),
}

impl Unlike {
    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Different(_) => 1,
            Self::Unsure(_) => 2,
        }
    }
}

/// `fieldline link verify`.
pub(crate) async fn run(wish: &LinkVerify) -> Result<()> {
    let found = match compare(wish).await {
        Ok(found) => found,
        // Whatever goes wrong on the way, nothing was found to be different.
        Err(error) => return Err(Unlike::Unsure(format!("could not tell: {error:#}")).into()),
    };
    let count = |verdict| found.iter().filter(|found| found.verdict == verdict).count();
    match (count(Verdict::Different), count(Verdict::Unsure)) {
        (0, 0) => Ok(()),
        (0, unsure) => Err(Unlike::Unsure(format!("could not tell for {unsure} partitions")).into()),
        (different, _) => Err(Unlike::Different(different).into()),
    }
}

async fn compare(wish: &LinkVerify) -> Result<Vec<Compared>> {
    let (from, to) = (
        point(wish, wish.from.as_deref())?,
        point(wish, wish.to.as_deref())?,
    );
    let ends = open(&wish.config, wish.yes).await?;
    let named = |topic: &String| {
        ends.lanes
            .iter()
            .any(|lane| lane.source == *topic || lane.destination == *topic)
    };
    if let Some(topic) = &wish.topic {
        ensure!(named(topic), "no route carries {topic}");
    }
    let checkpoints = ends.checkpoints().await?;
    let cost = format!("at most {} of checkpoints, and then records", bytes(checkpoints));
    ends.agreed(wish.yes, checkpoints, &cost)?;
    let mut spans = Vec::new();
    for direction in [Direction::Down, Direction::Up] {
        let lanes = ends.lanes.iter().filter(|lane| {
            let wanted = |topic: &String| lane.source == *topic || lane.destination == *topic;
            lane.direction == direction && wish.topic.as_ref().is_none_or(wanted)
        });
        let histories = ends.sides.histories(direction).await?;
        for lane in lanes {
            spans.extend(verify::spans(&ends.sides, lane, &histories, from, to).await?);
        }
    }
    let weight = verify::weigh(&ends.sides, &spans).await?;
    let cost = format!(
        "{} records, about {} of the core's before compression",
        weight.records,
        bytes(weight.bytes)
    );
    let agreed = ends.agreed(wish.yes, weight.bytes, &cost);
    agreed.map_err(|error| anyhow!("{error}; --topic, --from and --to make it less"))?;
    if !wish.json {
        let under = ends.sides.far.as_ref();
        let under = under.map(|far| format!(", {}", far.says())).unwrap_or_default();
        line(format!("reading {cost}{under}"));
    }
    let mut found = Vec::with_capacity(spans.len());
    for span in &spans {
        found.push(verify::compare(&ends.sides, span).await?);
    }
    let answer = json!({"site": ends.sides.site, "weight": weight, "partitions": found});
    show(wish.json, &answer, |_| print(&found));
    Ok(found)
}

fn point(wish: &LinkVerify, text: Option<&str>) -> Result<Option<Point>> {
    let Some(text) = text else { return Ok(None) };
    if let Ok(offset) = text.parse() {
        ensure!(wish.topic.is_some(), "an offset needs --topic");
        return Ok(Some(Point::Offset(offset)));
    }
    let time: jiff::Timestamp = text
        .parse()
        .with_context(|| format!("`{text}` is no offset and no time as 2026-11-20T06:00:00Z"))?;
    Ok(Some(Point::Time(time.as_millisecond())))
}

fn print(found: &[Compared]) {
    let row = |found: &Compared| {
        let mut said = match found.verdict {
            Verdict::Same => "same".to_owned(),
            Verdict::Different => format!("{} DIFFER", found.differences),
            Verdict::Unsure => "could not tell".to_owned(),
        };
        if found.put_aside > 0 {
            said.push_str(&format!(", {} among the dead letters", found.put_aside));
        }
        let digest = found.source_digest.get(..12).unwrap_or("–").to_owned();
        vec![
            format!("{}/{}", found.source, found.partition),
            format!("{}..{}", found.source_offsets.0, found.source_offsets.1),
            found.source_records.to_string(),
            found.destination_records.to_string(),
            digest,
            found.waiting.to_string(),
            said,
        ]
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    table(
        &["SOURCE", "OFFSETS", "RECORDS", "ARRIVED", "DIGEST", "WAITING", ""],
        &rows,
    );
    for found in found {
        let place = format!("{}/{}", found.source, found.partition);
        if let Some(note) = &found.note {
            line(format!("{place}: {note}"));
        }
        if let Some(first) = &found.first {
            let at = |offset: Option<i64>| offset.map_or_else(|| "the end".to_owned(), |at| at.to_string());
            line(format!(
                "{place}: first at {} here, {} in {}: {}",
                at(first.source_offset),
                at(first.destination_offset),
                found.destination,
                first.what
            ));
        }
    }
}
