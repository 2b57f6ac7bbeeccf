//! What a request will cost: bytes, and how long they take as far as anybody knows.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use common::chassis::now_ms;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Site;
use super::input::Params;
use super::link::LimitsView;
use crate::app::{App, Kind};
use crate::index::Sum;
use crate::pace::Measured;
use crate::problem::{Problem, ProblemBody, Result};

/// The most assets of an estimate.
const MAX_IDS: usize = 1000;

/// Which assets.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct EstimateQuery {
    /// These assets, with commas between, 1000 at most; all that are ready unless told.
    ids: Option<String>,
}

/// What the mirror command would fetch.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EstimateView {
    assets: usize,
    /// Without what is here already.
    bytes: i64,
    /// Null when nothing is known of it.
    bytes_per_second: Option<f64>,
    /// What that rate is; null when there is none.
    rate_from: Option<RateFrom>,
    /// How long it takes at that rate.
    seconds: Option<f64>,
    /// How much of the hour there was that was looked at; null for a cap.
    measured_over_s: Option<i64>,
    /// When it was last so; null for a cap.
    as_of: Option<i64>,
}

/// What a rate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RateFrom {
    /// The mirror's, over the last hour in which it moved bytes.
    Mirror,
    /// The link's, in the busiest minute of the last hour in which the core answered: the mirror never moved a byte.
    Link,
    /// What the link may use, where it never used half of that: it takes so long at the least.
    Cap,
}

/// At what rate bytes will come: as they did, or else as others did, or else as they may.
fn rate(
    mirror: Option<Measured>,
    link: Option<Measured>,
    cap: Option<f64>,
) -> Option<(RateFrom, f64, Option<Measured>)> {
    // A link that had little to carry does not show what it can do.
    let busy = |link: &Measured| cap.is_none_or(|cap| link.bytes_per_second >= cap / 2.0);
    let measured = |from| move |measured: Measured| (from, measured.bytes_per_second, Some(measured));
    mirror
        .map(measured(RateFrom::Mirror))
        .or_else(|| link.filter(busy).map(measured(RateFrom::Link)))
        .or_else(|| cap.map(|cap| (RateFrom::Cap, cap, None)))
}

/// Says what there is to fetch, or how much some assets are, and how long that takes, as far as is known (edge).
#[utoipa::path(get, path = "/api/mirror/estimate", params(EstimateQuery),
    responses((status = 200, body = EstimateView), (status = 400, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(crate) async fn estimate(
    State(app): Site,
    Params(query): Params<EstimateQuery>,
) -> Result<Json<EstimateView>> {
    app.only(Kind::Edge)?;
    app.indexed().await?;
    let now = now_ms();
    let sum = match query.ids {
        None => app.index.sum("ready", now),
        Some(ids) => selected(&app, &ids, now)?,
    };
    let cap = LimitsView::of(&app, &app.services.list(Some("link"), now)).cap();
    let known = rate(app.services.moved(), app.history.busiest(), cap);
    let rate = known.map(|(_, rate, _)| rate);
    let measured = known.and_then(|(_, _, measured)| measured);
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let seconds = rate.map(|rate| sum.bytes as f64 / rate);
    Ok(Json(EstimateView {
        assets: sum.assets,
        bytes: sum.bytes,
        bytes_per_second: rate,
        rate_from: known.map(|(from, ..)| from),
        seconds,
        measured_over_s: measured.map(|measured| measured.over_s),
        as_of: measured.map(|measured| measured.as_of),
    }))
}

fn selected(app: &App, ids: &str, now: i64) -> Result<Sum> {
    let ids: BTreeSet<&str> = ids.split(',').filter(|id| !id.is_empty()).collect();
    if ids.len() > MAX_IDS {
        return Err(Problem::bad_request(format!(
            "ids names more than {MAX_IDS} assets"
        )));
    }
    let mut sum = Sum::default();
    for text in ids {
        let id = text
            .parse()
            .map_err(|_| Problem::bad_request(format!("ids: {text:?} is no asset id")))?;
        let unknown = || Problem::not_found(format!("{} knows no asset {id}", app.site));
        let entry = app.index.get(&id).ok_or_else(unknown)?;
        if entry.state_at(now) != "mirrored" {
            sum.assets += 1;
            sum.bytes = sum.bytes.saturating_add(entry.size);
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_mirrors_or_that_of_a_busy_link_or_the_most_that_may_be() {
        let measured = |bytes_per_second: f64| {
            Some(Measured {
                bytes_per_second,
                over_s: 60,
                as_of: 7,
            })
        };
        let from = |mirror, link, cap| rate(mirror, link, cap).map(|(from, rate, _)| (from, rate));
        assert_eq!(from(None, None, None), None);
        assert_eq!(
            from(measured(3.0), measured(9.0), Some(10.0)),
            Some((RateFrom::Mirror, 3.0))
        );
        assert_eq!(from(None, measured(9.0), Some(10.0)), Some((RateFrom::Link, 9.0)));
        assert_eq!(from(None, measured(1.0), None), Some((RateFrom::Link, 1.0)));
        assert_eq!(
            from(None, measured(1.0), Some(10.0)),
            Some((RateFrom::Cap, 10.0)),
            "it was idle"
        );
    }
}
