//! The figures as they are read: process by process, and as docs/scaling.md has them.

use std::fmt::Write as _;

use anyhow::Result;
use schemas::{SiteId, Topic};

use crate::{Round, Row};

/// For how many edges it is reckoned what nobody has measured.
const RECKONED: [usize; 2] = [1_000, 10_000];

/// A figure of a run.
type Figure = fn(&Round) -> f64;

/// What it is called, its decimal places, and whether it is one edge's already.
const LINES: [(&str, usize, bool, Figure); 13] = [
    ("Fieldline's services, cores while quiet", 3, false, |round| {
        quiet(round, service)
    }),
    ("the same, resident MiB", 0, false, |round| {
        resident(round, service)
    }),
    ("the same, CPU-s until every edge knew all", 1, false, |round| {
        burst(round, service)
    }),
    ("Kafka, cores while quiet", 3, false, |round| quiet(round, kafka)),
    ("Kafka, resident MiB", 0, false, |round| resident(round, kafka)),
    ("Kafka, CPU-s until every edge knew all", 1, false, |round| {
        burst(round, kafka)
    }),
    ("Cassandra, cores while quiet", 3, false, |round| {
        quiet(round, cassandra)
    }),
    ("Cassandra, resident MiB", 0, false, |round| {
        resident(round, cassandra)
    }),
    ("an edge (whole), cores while quiet", 4, true, |round| {
        quiet(round, edge) / round.edges as f64
    }),
    ("an edge (whole), resident MiB", 1, true, |round| {
        resident(round, edge) / round.edges as f64
    }),
    (
        "an edge's connections to Kafka when it knew all",
        1,
        true,
        |round| round.connections[0] as f64 / round.edges as f64,
    ),
    ("the same while quiet", 1, true, |round| {
        round.connections[1] as f64 / round.edges as f64
    }),
    ("until every edge knew all, s", 0, true, |round| {
        round.took.as_secs_f64()
    }),
];

fn service(row: &Row) -> bool {
    row.process.starts_with("core.")
}

fn kafka(row: &Row) -> bool {
    row.process == "kafka"
}

fn cassandra(row: &Row) -> bool {
    row.process == "cassandra"
}

fn edge(row: &Row) -> bool {
    row.process == "all edges"
}

fn sum(round: &Round, of: fn(&Row) -> bool, figure: fn(&Row) -> f64) -> f64 {
    round.rows.iter().filter(|row| of(row)).map(figure).sum()
}

fn quiet(round: &Round, of: fn(&Row) -> bool) -> f64 {
    sum(round, of, |row| row.quiet_cores)
}

fn burst(round: &Round, of: fn(&Row) -> bool) -> f64 {
    sum(round, of, |row| row.burst_seconds)
}

fn resident(round: &Round, of: fn(&Row) -> bool) -> f64 {
    sum(round, of, mebi)
}

fn mebi(row: &Row) -> f64 {
    row.resident_bytes as f64 / f64::from(1 << 20)
}

/// How much a figure grows with each edge, from the first run to the last; nothing when there was one run.
fn growth(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> Option<f64> {
    let (first, last) = (rounds.first()?, rounds.last()?);
    let more = last.edges.checked_sub(first.edges).filter(|more| *more > 0)?;
    Some((figure(last) - figure(first)) / more as f64)
}

/// Each process by itself.
pub(crate) fn processes(rounds: &[Round], assets: usize) -> String {
    let mut text = format!(
        "\n{:<22} {:>6} {:>14} {:>12} {:>10}\n",
        "process", "edges", "quiet, cores", "CPU-s before", "MiB"
    );
    let names = rounds.first().into_iter().flat_map(|round| &round.rows);
    for name in names.map(|row| &row.process) {
        for round in rounds {
            for row in round.rows.iter().filter(|row| row.process == *name) {
                text += &format!(
                    "{name:<22} {:>6} {:>14.4} {:>12.1} {:>10.1}\n",
                    round.edges,
                    row.quiet_cores,
                    row.burst_seconds,
                    mebi(row)
                );
            }
        }
    }
    text += &format!("\nCPU-s before: since the run began, {assets} assets to every edge included\n");
    text
}

/// The tables of docs/scaling.md: what was measured, and what it comes to with many more edges.
pub(crate) fn for_the_document(rounds: &[Round], assets: usize) -> Result<String> {
    let Some(last) = rounds.last() else {
        return Ok(String::new());
    };
    let mut text = format!("{assets} assets to every edge\n\n| |");
    for round in rounds {
        write!(text, " {} edges |", round.edges)?;
    }
    text += " each further edge |\n|---|";
    text += &"---|".repeat(rounds.len() + 1);
    for (name, places, one_edge, figure) in LINES {
        write!(text, "\n| {name} |")?;
        for round in rounds {
            write!(text, " {:.places$} |", figure(round))?;
        }
        match growth(rounds, figure).filter(|_| !one_edge) {
            Some(more) => write!(text, " {more:.0$} |", places + 1)?,
            None => text += " |",
        }
    }
    let topics = Topic::core_for(&"edge-1".parse::<SiteId>()?);
    let partitions = |open: i32| -> i32 { topics.iter().map(|topic| topic.partitions.unwrap_or(open)).sum() };
    write!(
        text,
        "\n\n{} topics of each edge at the core: {} partitions at 3, {} at 1. In a straight line from {} edges, where it rises:\n\n\
         | edges | partitions at 3, at 1 | Kafka, cores, MiB | Fieldline's services, cores, MiB |\n|---|---|---|---|",
        topics.len(),
        partitions(3),
        partitions(1),
        last.edges
    )?;
    for edges in RECKONED {
        let more = edges.saturating_sub(last.edges) as f64;
        let at = |figure: Figure| figure(last) + growth(rounds, figure).unwrap_or(0.0).max(0.0) * more;
        let all = |open| i64::from(partitions(open)) * edges as i64;
        write!(
            text,
            "\n| {edges} | {}, {} | {:.1}, {:.0} | {:.2}, {:.0} |",
            all(3),
            all(1),
            at(|round| quiet(round, kafka)),
            at(|round| resident(round, kafka)),
            at(|round| quiet(round, service)),
            at(|round| resident(round, service))
        )?;
    }
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn round(edges: usize, cores: f64) -> Round {
        let row = |process: &str, quiet_cores| Row {
            process: process.to_owned(),
            quiet_cores,
            burst_seconds: 1.0,
            resident_bytes: 1 << 20,
        };
        Round {
            edges,
            took: Duration::from_secs(5),
            rows: vec![
                row("core.viewer", 0.25),
                row("core.depot", 0.25),
                row("kafka", cores),
                row("all edges", edges as f64),
            ],
            connections: [8 * edges, 4 * edges],
        }
    }

    #[test]
    fn what_grows_is_drawn_out_in_a_straight_line_and_what_does_not_stays() {
        let text = for_the_document(&[round(10, 0.1), round(50, 0.5)], 7).unwrap();
        assert!(
            text.contains("| Kafka, cores while quiet | 0.100 | 0.500 | 0.0100 |"),
            "{text}"
        );
        assert!(
            text.contains("| Fieldline's services, cores while quiet | 0.500 | 0.500 | 0.0000 |"),
            "{text}"
        );
        assert!(
            text.contains("| 1000 | 11000, 5000 | 10.0, 1 | 0.50, 2 |"),
            "{text}"
        );
    }

    #[test]
    fn one_run_tells_no_growth() {
        let text = for_the_document(&[round(10, 0.1)], 7).unwrap();
        assert!(text.contains("| Kafka, cores while quiet | 0.100 | |"), "{text}");
        assert!(processes(&[round(10, 0.1)], 7).contains("core.depot"));
    }
}
