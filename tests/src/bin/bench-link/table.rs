//! The figures side by side.

use crate::contender::Contender;

/// What was measured of one contender.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) cpu_mirror: Option<f64>,
    pub(crate) cpu_source: Option<f64>,
    pub(crate) cpu_destination: Option<f64>,
    pub(crate) cpu_whole: Option<f64>,
    pub(crate) rate: Option<f64>,
    pub(crate) rate_whole: Option<f64>,
    pub(crate) peak: Option<f64>,
    pub(crate) first: Option<f64>,
    pub(crate) floor_p50: Option<f64>,
    pub(crate) delay_p50: Option<f64>,
    pub(crate) delay_p99: Option<f64>,
    pub(crate) steady_cpu: Option<f64>,
    pub(crate) wire_idle: Option<f64>,
    pub(crate) wire_one: Option<f64>,
    pub(crate) kill_lost: Option<f64>,
    pub(crate) kill_twice: Option<f64>,
    pub(crate) kill_resume: Option<f64>,
    pub(crate) away_resume: Option<f64>,
    pub(crate) away_lost: Option<f64>,
}

impl Figures {
    /// Whether nothing was found to be lost, or there twice.
    pub(crate) fn once(&self) -> bool {
        let found = [self.kill_lost, self.kill_twice, self.away_lost];
        found.into_iter().flatten().all(|records| records == 0.0)
    }
}

type Row = (&'static str, bool, fn(&Figures) -> Option<f64>);

/// Name, whether more is better, and the figure.
const ROWS: [Row; 19] = [
    ("CPU-s per million, warm: mirroring process", false, |f| {
        f.cpu_mirror
    }),
    ("  source's broker", false, |f| f.cpu_source),
    ("  destination's broker", false, |f| f.cpu_destination),
    ("CPU-s per million, start and end included", false, |f| {
        f.cpu_whole
    }),
    ("records/s, warm", true, |f| f.rate),
    ("records/s, from start to last record", true, |f| f.rate_whole),
    ("peak memory, MiB", false, |f| f.peak),
    ("start to first record, s", false, |f| f.first),
    ("delay p50 at the steady rate, ms", false, |f| f.delay_p50),
    ("delay p99, ms", false, |f| f.delay_p99),
    ("  p50 at the source, ms: the floor", false, |f| f.floor_p50),
    ("CPU at the steady rate, % of a core", false, |f| f.steady_cpu),
    ("on the wire idle, MB an hour", false, |f| f.wire_idle),
    ("on the wire at 1 record/s, MB an hour", false, |f| f.wire_one),
    ("kill -9 half-way: lost", false, |f| f.kill_lost),
    ("kill -9 half-way: twice", false, |f| f.kill_twice),
    ("kill -9 half-way: to the last record, s", false, |f| {
        f.kill_resume
    }),
    ("core's broker away: to the first record, s", false, |f| {
        f.away_resume
    }),
    ("core's broker away: lost", false, |f| f.away_lost),
];

/// The table; each contender after the first has its ratio to the first, above 1 where it is better.
pub(crate) fn table(all: &[(Contender, Figures)]) -> String {
    let mut text = format!("{:<46}", "");
    for (contender, _) in all {
        text += &format!("{:>16} {:>8}", contender.name(), "");
    }
    text.push('\n');
    for (name, more, figure) in ROWS {
        if all.iter().all(|(_, figures)| figure(figures).is_none()) {
            continue;
        }
        text += &format!("{name:<46}");
        let first = all.first().and_then(|(_, figures)| figure(figures));
        for (index, (_, figures)) in all.iter().enumerate() {
            let value = figure(figures);
            text += &format!("{:>16} ", value.map_or_else(|| "-".to_owned(), shown));
            let ratio = match (first, value) {
                (Some(first), Some(value)) if index > 0 && first > 0.0 && value > 0.0 => {
                    format!("×{}", shown(if more { value / first } else { first / value }))
                }
                _ => String::new(),
            };
            text += &format!("{ratio:>8}");
        }
        text.push('\n');
    }
    text
}

/// Three figures that count.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
