//! How the link is and was, in a few lines: for `fieldline status`, `link status` and `link history`.

use anyhow::Result;
use clap::ValueEnum;
use serde_json::Value;

use crate::cli::Api;
use crate::client::Client;
use crate::inspect::rows;
use crate::output::{bytes, line, show, table, text, time};

/// How far back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Span {
    /// The last hour.
    Hour,
    /// The last day.
    Day,
    /// The last month.
    Month,
}

impl Span {
    fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// How many columns or rows the past is told in.
const PARTS: usize = 24;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of bytes"
)]
fn sized(value: f64) -> String {
    bytes(value.max(0.0) as u64)
}

/// A time in the one or two units that matter.
pub(crate) fn span(seconds: f64) -> String {
    match seconds {
        ..1.0 => "less than 1 s".to_owned(),
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.0} d", seconds / 86_400.0),
    }
}

/// How far a route is behind, in a line.
pub(crate) fn route(route: &Value) -> String {
    let figure = |name: &str| route[name].as_f64();
    let mut said = Vec::new();
    if route["paused"] == true {
        said.push("paused".to_owned());
    }
    if let Some(class) = route["class"].as_str() {
        said.push(format!("class {class}"));
    }
    if route["live_first"] == true {
        said.push("what comes in goes first".to_owned());
    }
    match figure("lag_records") {
        None => said.push("not known yet what waits".to_owned()),
        Some(0.0) => said.push("nothing waits".to_owned()),
        Some(_) => {
            let mut waits = format!("{} records wait", text(route, "lag_records"));
            if let Some(bytes) = figure("lag_bytes").filter(|bytes| *bytes > 0.0) {
                waits.push_str(&format!(", about {}", sized(bytes)));
            }
            if let Some(seconds) = figure("lag_seconds").filter(|seconds| *seconds > 0.0) {
                waits.push_str(&format!(", the oldest {} old", span(seconds)));
            }
            said.push(waits);
            if route["paused"] != true {
                said.push(figure("catch_up_seconds").map_or_else(
                    || "not getting less".to_owned(),
                    |seconds| format!("caught up in {}", span(seconds)),
                ));
            }
        }
    }
    format!("route {}: {}", text(route, "name"), said.join("; "))
}

/// How long the site can wait, and what would go first.
pub(crate) fn buffer(buffer: &Value) -> Option<String> {
    let first = rows(buffer, "first").next()?;
    let hours = first["hours"].as_f64()?;
    let what = match (first["topic"].as_str(), first["by"].as_str()) {
        (Some(topic), Some("size")) => format!("the oldest of {topic} go first, for the topic is full"),
        (Some(topic), _) => format!("the oldest of {topic} go first, for they are too old"),
        (None, _) => "the disk is full".to_owned(),
    };
    Some(format!(
        "this site holds what waits for {}; then {what}",
        span(hours * 3600.0)
    ))
}

/// How far this site's clock and the core's are apart.
fn clock(ahead_ms: f64, within_ms: f64) -> String {
    let within = within_ms.max(1000.0);
    if ahead_ms.abs() <= within {
        return format!(
            "this site's clock is as the core's, within {}",
            span(within / 1000.0)
        );
    }
    let way = if ahead_ms > 0.0 { "ahead of" } else { "behind" };
    format!(
        "this site's clock is {} {way} the core's",
        span(ahead_ms.abs() / 1000.0)
    )
}

/// The link in a few lines: how it is, what waits, how long it can, what it used, and how that was over the last day.
pub(crate) fn glance(link: &Value, past: Option<&Value>) {
    let contact = time(link["last_contact_at"].as_i64());
    line(format!(
        "link: {}; the core last answered {contact}",
        text(link, "state")
    ));
    if let Some(why) = link["why"].as_str() {
        line(format!("  {why}"));
    }
    if let Some(ahead) = link["clock"]["ahead_ms"].as_f64() {
        let within = link["clock"]["within_ms"].as_f64().unwrap_or_default();
        line(format!("  {}", clock(ahead, within)));
    }
    let limits = &link["limits"];
    for one in rows(limits, "routes") {
        if one["paused"] == true || one["lag_records"].as_f64() != Some(0.0) {
            line(format!("  {}", route(one)));
        }
    }
    if let Some(said) = buffer(&limits["buffer"]) {
        line(format!("  {said}"));
    }
    let spent = |span: &str| {
        let (used, limit) = (&limits[span]["bytes"], &limits[span]["limit"]);
        let of = limit.as_f64().map(|limit| format!(" of {}", sized(limit)));
        format!(
            "{}{}",
            sized(used.as_f64().unwrap_or_default()),
            of.unwrap_or_default()
        )
    };
    line(format!(
        "  today: {}; this month: {}",
        spent("day"),
        spent("month")
    ));
    for class in rows(limits, "classes") {
        let (day, held) = (
            class["day_bytes"].as_f64().unwrap_or_default(),
            class["held"].as_str(),
        );
        if day > 0.0 || held.is_some() {
            let held = held.map(|held| format!("; held: {held}"));
            line(format!(
                "    {}: {} today{}",
                text(class, "class"),
                sized(day),
                held.unwrap_or_default()
            ));
        }
    }
    let Some(past) = past else { return };
    for (what, parts, say) in [
        ("waiting", waited(past), count as fn(f64) -> String),
        ("crossed", crossed(past), sized),
    ] {
        let most = parts.iter().flatten().copied().fold(f64::NAN, f64::max);
        if most.is_finite() {
            line(format!(
                "  last day, {what}: {} at most {}",
                bars(&parts),
                say(most)
            ));
        }
    }
}

fn count(value: f64) -> String {
    format!("{value:.0} records")
}

/// A column for each part; a dot where nothing is known.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 7")]
fn bars(parts: &[Option<f64>]) -> String {
    let most = parts.iter().flatten().copied().fold(0.0, f64::max);
    let bar = |value: f64| {
        let height = if most > 0.0 {
            (value / most * 7.0).ceil() as usize
        } else {
            0
        };
        BARS[height.min(7)]
    };
    parts.iter().map(|part| part.map_or('·', bar)).collect()
}

/// Folds a list into [`PARTS`] parts.
fn parts(list: &Value, fold: impl Fn(f64, f64) -> f64) -> Vec<Option<f64>> {
    let values: Vec<Option<f64>> = list.as_array().into_iter().flatten().map(Value::as_f64).collect();
    let each = values.len().div_ceil(PARTS).max(1);
    let parts = values.chunks(each);
    parts
        .map(|part| part.iter().flatten().copied().reduce(&fold))
        .collect()
}

/// Adds lists of parts up.
fn sum(lists: impl Iterator<Item = Vec<Option<f64>>>) -> Vec<Option<f64>> {
    lists
        .reduce(|all, list| {
            let pairs = all.into_iter().zip(list);
            pairs
                .map(|(a, b)| match (a, b) {
                    (None, None) => None,
                    (a, b) => Some(a.unwrap_or(0.0) + b.unwrap_or(0.0)),
                })
                .collect()
        })
        .unwrap_or_default()
}

fn waited(past: &Value) -> Vec<Option<f64>> {
    sum(rows(past, "routes").map(|route| parts(&route["lag_records"], f64::max)))
}

fn crossed(past: &Value) -> Vec<Option<f64>> {
    sum(rows(past, "classes").map(|class| parts(&class["bytes"], |a, b| a + b)))
}

/// `fieldline link history`.
pub(crate) async fn history(api: &Api, span: Span) -> Result<()> {
    let path = format!("/api/link/history?span={}", span.name());
    let answer = Client::new(api)?.get(&path).await?;
    show(api.json, &answer, |past| {
        let at: Vec<Option<i64>> = rows(past, "at").map(Value::as_i64).collect();
        let each = at.len().div_ceil(PARTS).max(1);
        let (waited, crossed) = (waited(past), crossed(past));
        let held = parts(&past["buffer_hours"], f64::min);
        let reached: Vec<Option<bool>> = rows(past, "reached").map(Value::as_bool).collect();
        let nothing = |place: usize| {
            let known = |list: &[Option<f64>]| list.get(place).copied().flatten().is_some();
            !known(&waited) && !known(&crossed) && !known(&held)
        };
        let cell = |list: &[Option<f64>], place: usize, say: &dyn Fn(f64) -> String| {
            let value = list.get(place).copied().flatten();
            value.map_or_else(|| "–".to_owned(), say)
        };
        let lines: Vec<Vec<String>> = at
            .iter()
            .step_by(each)
            .enumerate()
            .skip_while(|(place, _)| nothing(*place))
            .map(|(place, from)| {
                let known = reached.iter().skip(place * each).take(each).flatten();
                let core = match known.copied().reduce(|all, one| all && one) {
                    None => "–",
                    Some(true) => "answered",
                    Some(false) => "was away",
                };
                vec![
                    time(*from),
                    cell(&waited, place, &|value| format!("{value:.0}")),
                    cell(&crossed, place, &sized),
                    cell(&held, place, &|hours| self::span(hours * 3600.0)),
                    core.to_owned(),
                ]
            })
            .collect();
        table(
            &["FROM", "RECORDS WAITED", "CROSSED", "COULD WAIT", "CORE"],
            &lines,
        );
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_route_says_what_waits_and_whether_it_gets_less() {
        let says = |value: Value| route(&value);
        let none = json!({"name": "a", "lag_records": 0.0, "paused": false});
        assert_eq!(says(none), "route a: nothing waits");
        let some = json!({"name": "a", "lag_records": 12.0, "lag_bytes": 2048.0, "lag_seconds": 90.0, "catch_up_seconds": 7200.0});
        assert_eq!(
            says(some),
            "route a: 12 records wait, about 2.00 KiB, the oldest 90 s old; caught up in 2.0 h"
        );
        let stuck = json!({"name": "a", "lag_records": 12.0, "catch_up_seconds": null});
        assert_eq!(says(stuck), "route a: 12 records wait; not getting less");
        let paused = json!({"name": "a", "lag_records": 12.0, "paused": true});
        assert_eq!(says(paused), "route a: paused; 12 records wait");
    }

    #[test]
    fn the_first_to_go_is_named() {
        let first = json!({"first": [{"topic": "ore", "hours": 30.0, "by": "age"}, {"topic": null, "hours": 90.0, "by": "disk"}]});
        assert_eq!(
            buffer(&first).unwrap(),
            "this site holds what waits for 30.0 h; then the oldest of ore go first, for they are too old"
        );
        assert_eq!(buffer(&json!({"first": []})), None);
    }

    #[test]
    fn the_past_is_a_row_of_columns_with_dots_where_nothing_is_known() {
        let mut list = vec![json!(null); 288];
        list[12] = json!(4.0);
        list[24] = json!(8.0);
        list[25] = json!(1.0);
        let found = parts(&list.into(), f64::max);
        assert_eq!((found.len(), found[1], found[2]), (PARTS, Some(4.0), Some(8.0)));
        assert_eq!(bars(&found).trim_matches('·'), "▅█");
        assert_eq!(bars(&[Some(0.0), None]), "▁·");
        assert_eq!(
            sum([vec![None, Some(1.0)], vec![None, Some(2.0)]].into_iter()),
            [None, Some(3.0)]
        );
    }
}
