//! What there is to say of the edges that a core hears nothing of.

use super::warning;
use crate::site_status;
use crate::view::Trouble;

/// How long an edge may say nothing before that is worth a word: it says something every [`site_status::EVERY`], and its
/// link may need a while.
pub(super) const EDGE_SILENT_MS: i64 = (site_status::EVERY.as_secs() as i64 + 5 * 60) * 1000;
/// So many silent edges are told by their names.
const NAMED_EDGES: usize = 5;

/// What there is to say of edges of which nothing was heard for long: all of them together, for they can be many.
pub(super) fn unheard(edges: &[(String, Option<i64>)], now: i64) -> Option<Trouble> {
    let mut late: Vec<(&str, Option<i64>)> = edges
        .iter()
        .map(|(edge, at)| (edge.as_str(), at.map(|at| now - at)))
        .filter(|(_, ago)| ago.is_none_or(|ago| ago > EDGE_SILENT_MS))
        .collect();
    // The newest trouble is the one to look into; what was never there may only be on its way.
    late.sort_by_key(|(edge, ago)| (ago.unwrap_or(i64::MAX), *edge));
    let since = |ago: Option<i64>| {
        ago.map_or_else(
            || "from the start".to_owned(),
            |ago| format!("for {}", lasting(ago)),
        )
    };
    let what = match late.as_slice() {
        [] => return None,
        [(edge, ago)] => format!("nothing is heard of {edge} {}", since(*ago)),
        _ => {
            let mut named: Vec<String> = late
                .iter()
                .take(NAMED_EDGES)
                .map(|(edge, ago)| format!("{edge} {}", since(*ago)))
                .collect();
            if late.len() > NAMED_EDGES {
                named.push(format!("{} more", late.len() - NAMED_EDGES));
            }
            format!("nothing is heard of {} edges: {}", late.len(), named.join(", "))
        }
    };
    Some(warning(
        what,
        "a link may be down or paused; nothing is lost, and it goes on when the link is up. Edges has more",
    ))
}

/// A time in its largest unit.
fn lasting(ms: i64) -> String {
    let (number, unit) = match ms / 60_000 {
        minutes @ 0..60 => (minutes, "minute"),
        minutes @ 60..1440 => (minutes / 60, "hour"),
        minutes => (minutes / 1440, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_edges_are_one_trouble_the_newest_first_and_not_all_by_name() {
        const HOUR: i64 = 60 * 60 * 1000;
        let told = |edges: &[(String, Option<i64>)]| unheard(edges, 100 * HOUR).map(|trouble| trouble.what);
        let edge = |number: i64, hours: i64| (format!("edge-{number}"), Some((100 - hours) * HOUR));
        assert_eq!(told(&[edge(1, 0)]), None);
        assert_eq!(
            told(&[edge(1, 0), edge(2, 50)]).unwrap(),
            "nothing is heard of edge-2 for 2 days"
        );
        let many: Vec<_> = (1..=7).map(|number| edge(number, 8 - number)).collect();
        assert_eq!(
            told(&many).unwrap(),
            "nothing is heard of 7 edges: edge-7 for 1 hour, edge-6 for 2 hours, edge-5 for 3 hours, edge-4 for 4 hours, \
             edge-3 for 5 hours, 2 more"
        );
    }
}
