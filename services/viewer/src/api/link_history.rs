//! The link's past: how far it was behind, how long the site could hold that, and what crossed.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use common::budget::Class;
use common::chassis::now_ms;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Site;
use super::glance::CONTACT_MS;
use super::input::Params;
use crate::app::Kind;
use crate::history::Points;
use crate::problem::{ProblemBody, Result};

/// How far back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SpanOfTime {
    /// 60 points, a minute apart.
    Hour,
    /// 288 points, five minutes apart.
    #[default]
    Day,
    /// 360 points, two hours apart.
    Month,
}

impl SpanOfTime {
    /// How many points, how far apart.
    fn points(self) -> (i64, i64) {
        match self {
            Self::Hour => (60, 60_000),
            Self::Day => (288, 5 * 60_000),
            Self::Month => (360, 120 * 60_000),
        }
    }
}

/// Which part of the past.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct HistoryQuery {
    /// hour, day or month; day unless told.
    #[serde(default)]
    #[param(inline)]
    span: SpanOfTime,
}

type Series = Vec<Option<f64>>;

/// A route's past.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct RouteHistory {
    name: String,
    /// The most that waited; bytes are estimated.
    lag_records: Series,
    lag_bytes: Series,
    /// How old the oldest was that waited.
    lag_seconds: Series,
    /// How long it would have taken; null while it did not get less.
    catch_up_seconds: Series,
}

/// What crossed of a class.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ClassHistory {
    class: &'static str,
    bytes: Series,
}

/// The link's past. Each list has a value for each point, null where it is not known: link did not run, or did not know.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct HistoryView {
    span: SpanOfTime,
    /// How far apart points are, in seconds.
    every_s: i64,
    /// When each point begins.
    at: Vec<i64>,
    routes: Vec<RouteHistory>,
    classes: Vec<ClassHistory>,
    /// How many hours the site's broker would have held what waited, at the least.
    buffer_hours: Series,
    /// Whether the core answered all the time.
    reached: Vec<Option<bool>>,
}

/// Points of a time, put into fewer.
struct Buckets<'a> {
    points: &'a Points,
    /// The bucket of each point; none for those before the first.
    place: Vec<Option<usize>>,
    count: usize,
}

impl Buckets<'_> {
    fn fold(&self, name: &str, better: impl Fn(f64, f64) -> f64) -> Series {
        let mut all = vec![None; self.count];
        for (place, value) in self
            .place
            .iter()
            .zip(self.points.series.get(name).into_iter().flatten())
        {
            if let Some(bucket) = place
                .filter(|_| value.is_finite())
                .and_then(|place| all.get_mut(place))
            {
                *bucket = Some(bucket.map_or(*value, |old| better(old, *value)));
            }
        }
        all
    }

    /// By how much a total grew. What begins anew, as a month does, begins at nothing.
    fn growth(&self, name: &str) -> Series {
        let mut all = vec![None; self.count];
        let mut before: Option<f64> = None;
        for (place, value) in self
            .place
            .iter()
            .zip(self.points.series.get(name).into_iter().flatten())
        {
            if !value.is_finite() {
                continue;
            }
            let more = before.map(|before| if *value >= before { value - before } else { *value });
            before = Some(*value);
            if let (Some(bucket), Some(more)) = (place.and_then(|place| all.get_mut(place)), more) {
                *bucket = Some(bucket.unwrap_or(0.0) + more);
            }
        }
        all
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds since 1970 stay below 2^53"
    )]
    fn reached(&self) -> Vec<Option<bool>> {
        let mut all = vec![None; self.count];
        let contacts = self.points.series.get("last_contact_at");
        for (at, place) in self.place.iter().enumerate() {
            let contact = contacts
                .and_then(|contacts| contacts.get(at))
                .copied()
                .unwrap_or(f64::NAN);
            let reached = self.points.at[at] as f64 - contact < CONTACT_MS as f64;
            if let Some(bucket) = place.and_then(|place| all.get_mut(place)) {
                *bucket = Some(bucket.unwrap_or(true) && reached);
            }
        }
        all
    }
}

fn view(span: SpanOfTime, points: &Points, now: i64) -> HistoryView {
    let (count, every) = span.points();
    // The last bucket is the one that is under way.
    let first = (now / every + 1 - count) * every;
    let count = usize::try_from(count).unwrap_or_default();
    let place = |at: &i64| usize::try_from((at - first).div_euclid(every)).ok();
    let buckets = Buckets {
        place: points.at.iter().map(place).collect(),
        points,
        count,
    };
    let mut routes: BTreeMap<&str, RouteHistory> = BTreeMap::new();
    for name in points.series.keys() {
        let Some((route, _)) = name.strip_prefix("route.").and_then(|name| name.rsplit_once('.')) else {
            continue;
        };
        routes.entry(route).or_insert_with(|| {
            let most = |what: &str| buckets.fold(&format!("route.{route}.{what}"), f64::max);
            RouteHistory {
                name: route.to_owned(),
                lag_records: most("lag_records"),
                lag_bytes: most("lag_bytes"),
                lag_seconds: most("lag_seconds"),
                catch_up_seconds: most("catch_up_seconds"),
            }
        });
    }
    // Of a route that there was before this time nothing is left to tell.
    let told = |route: &RouteHistory| route.lag_records.iter().any(Option::is_some);
    HistoryView {
        span,
        every_s: every / 1000,
        at: (0..).map(|bucket| first + bucket * every).take(count).collect(),
        routes: routes.into_values().filter(told).collect(),
        classes: Class::ALL
            .map(|class| ClassHistory {
                class: class.name(),
                bytes: buckets.growth(&format!("class.{class}.month_bytes")),
            })
            .into(),
        buffer_hours: buckets.fold("buffer_hours", f64::min),
        reached: buckets.reached(),
    }
}

/// Says how the link was: an hour, a day or a month of it (edge).
#[utoipa::path(get, path = "/api/link/history", params(HistoryQuery),
    responses((status = 200, body = HistoryView), (status = 400, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(crate) async fn history(
    State(app): Site,
    Params(query): Params<HistoryQuery>,
) -> Result<Json<HistoryView>> {
    app.only(Kind::Edge)?;
    let now = now_ms();
    let (count, every) = query.span.points();
    // Some points before, from which totals grew.
    let from = now - (count + 1) * every - 15 * 60_000;
    let points = app
        .history
        .points(query.span == SpanOfTime::Month, from, now + every);
    Ok(Json(view(query.span, &points, now)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000;
    const NOW: i64 = 10_000 * MINUTE + 1_000;

    fn points(series: &[(&str, &[f64])], at: &[i64]) -> Points {
        Points {
            at: at.iter().map(|minute| NOW - minute * MINUTE).collect(),
            series: series
                .iter()
                .map(|(name, values)| ((*name).to_owned(), values.to_vec()))
                .collect(),
        }
    }

    #[test]
    fn of_what_is_behind_the_most_is_told_and_totals_by_how_much_they_grew() {
        let nothing = f64::NAN;
        let found = points(
            &[
                ("route.news.lag_records", &[1.0, 5.0, 2.0, nothing]),
                ("class.sensors.month_bytes", &[100.0, 130.0, 10.0, 10.0]),
                ("buffer_hours", &[9.0, 7.0, 8.0, 8.0]),
                (
                    "last_contact_at",
                    &[
                        (NOW - 8 * MINUTE) as f64,
                        (NOW - 8 * MINUTE) as f64,
                        (NOW - 2 * MINUTE) as f64,
                        nothing,
                    ],
                ),
            ],
            &[8, 7, 2, 1],
        );
        let hour = view(SpanOfTime::Hour, &found, NOW);
        let last = |series: &Series| series[60 - 9..].to_vec();
        assert_eq!((hour.at.len(), hour.at[59] / MINUTE), (60, 10_000));
        assert_eq!(
            last(&hour.routes[0].lag_records)[..3],
            [Some(1.0), Some(5.0), None]
        );
        assert_eq!(last(&hour.routes[0].lag_records)[6..], [Some(2.0), None, None]);
        let sensors = &hour
            .classes
            .iter()
            .find(|class| class.class == "sensors")
            .unwrap()
            .bytes;
        assert_eq!(last(sensors)[..2], [None, Some(30.0)]);
        assert_eq!(last(sensors)[6..8], [Some(10.0), Some(0.0)]);
        assert_eq!(hour.reached[60 - 9..60 - 7], [Some(true), Some(true)]);
        assert_eq!(hour.reached[58..], [Some(false), None]);
        let day = view(SpanOfTime::Day, &found, NOW);
        assert_eq!(
            day.buffer_hours.iter().flatten().copied().collect::<Vec<_>>(),
            [7.0, 8.0]
        );
        assert_eq!(view(SpanOfTime::Month, &found, NOW).at.len(), 360);
    }

    proptest! {
        #[test]
        fn every_list_has_a_value_for_each_point(at in prop::collection::vec(-10_i64..2_000, 0..50), values in prop::collection::vec(any::<f64>(), 50)) {
            let mut at = at;
            at.sort_unstable_by(|a, b| b.cmp(a));
            let values = &values[..at.len()];
            let found = points(&[("route.a.lag_records", values), ("class.assets.month_bytes", values), ("buffer_hours", values), ("last_contact_at", values)], &at);
            for span in [SpanOfTime::Hour, SpanOfTime::Day, SpanOfTime::Month] {
                let view = view(span, &found, NOW);
                let count = view.at.len();
                prop_assert!(view.routes.iter().all(|route| route.lag_records.len() == count));
                prop_assert!(view.classes.iter().all(|class| class.bytes.len() == count));
                prop_assert_eq!((view.buffer_hours.len(), view.reached.len()), (count, count));
            }
        }
    }
}
