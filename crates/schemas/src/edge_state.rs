//! What the facts of one row of an edge's table `assets` come to: a pure function, the same for page, tool and service.
//!
//! Each column has one writer, and no writer reads what another wrote before it writes: so facts arrive in any order,
//! some of them from attempts that are over. Only facts of the newest attempt count. What is mirrored stays mirrored,
//! whatever else is learnt; what is withdrawn is never offered again.

use serde::{Deserialize, Serialize};

use crate::ids::{AssetId, Hash};

/// The facts of one row of table `assets`, but for the preview's bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the columns of schemas/cql/001_edge_assets.cql, explained there"
)]
pub struct EdgeAsset {
    pub asset_id: Option<AssetId>,
    pub title: Option<String>,
    pub description: Option<String>,
    pub credit: Option<String>,
    pub hash: Option<Hash>,
    pub size: Option<i64>,
    pub media_type: Option<String>,
    pub file_name: Option<String>,
    pub created_at: Option<i64>,
    pub broadcast_at: Option<i64>,
    pub expires_at: Option<i64>,
    pub withdrawn_at: Option<i64>,
    pub withdrawn_reason: Option<String>,
    pub preview_media_type: Option<String>,
    pub attempt: Option<i32>,
    pub requesting_at: Option<i64>,
    pub requested_by: Option<String>,
    pub cancelled_at: Option<i64>,
    pub requested_attempt: Option<i32>,
    pub requested_at: Option<i64>,
    pub response: Option<String>,
    pub response_reason: Option<String>,
    pub response_attempt: Option<i32>,
    pub responded_at: Option<i64>,
    pub mirrored_at: Option<i64>,
    pub mirrored_hash: Option<Hash>,
    /// The later of columns `evicted_at` and `displaced_at`: whoever gave the room back, the bytes are gone.
    pub evicted_at: Option<i64>,
    pub pinned_at: Option<i64>,
}

/// Where an asset is for the team at this edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeState {
    /// It can be requested.
    Available,
    /// The team asked for it; the request is not in the site's topic yet.
    Requesting,
    /// The request is on its way, or with the core.
    Requested,
    /// The core has an entry for it: the mirror can fetch the bytes.
    Ready,
    /// Its bytes are here, whole and verified.
    Mirrored,
    /// The core will not give it; `response_reason` says why. It can be asked for again.
    Refused,
    /// The team took its request back. It can be asked for again.
    Cancelled,
    /// Its time is over.
    Expired,
    /// The core offers it no longer; `withdrawn_reason` says why.
    Withdrawn,
}

impl EdgeState {
    /// Every state, in the order in which an asset can pass through them.
    pub const ALL: [Self; 9] = [
        Self::Available,
        Self::Requesting,
        Self::Requested,
        Self::Ready,
        Self::Mirrored,
        Self::Refused,
        Self::Cancelled,
        Self::Expired,
        Self::Withdrawn,
    ];

    /// The state as programs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Requesting => "requesting",
            Self::Requested => "requested",
            Self::Ready => "ready",
            Self::Mirrored => "mirrored",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// The state as people read it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Available => "Available",
            Self::Requesting => "Requesting…",
            Self::Requested => "Requested",
            Self::Ready => "Ready",
            Self::Mirrored => "Mirrored",
            Self::Refused => "Refused",
            Self::Cancelled => "Cancelled",
            Self::Expired => "Expired",
            Self::Withdrawn => "Withdrawn",
        }
    }
}

impl EdgeAsset {
    /// The columns that [`Self::read`] asks for: all of the table's but `bucket` and `preview`.
    pub const COLUMNS: [&'static str; 29] = [
        "asset_id",
        "title",
        "description",
        "credit",
        "hash",
        "size",
        "media_type",
        "file_name",
        "created_at",
        "broadcast_at",
        "expires_at",
        "withdrawn_at",
        "withdrawn_reason",
        "preview_media_type",
        "attempt",
        "requesting_at",
        "requested_by",
        "cancelled_at",
        "requested_attempt",
        "requested_at",
        "response",
        "response_reason",
        "response_attempt",
        "responded_at",
        "mirrored_at",
        "mirrored_hash",
        "evicted_at",
        "displaced_at",
        "pinned_at",
    ];

    /// Reads the facts from a row, given how to read a column of texts and one of numbers (`int`, `bigint` and
    /// `timestamp` alike). An id or hash that is none reads as absent, and so does a mirroring that was evicted since, where
    /// `evicted_at` and `displaced_at` are among the columns.
    pub fn read<'row>(
        text: impl Fn(&str) -> Option<&'row str>,
        number: impl Fn(&str) -> Option<i64>,
    ) -> Self {
        let owned = |column| text(column).map(str::to_owned);
        let hash = |column| text(column).and_then(|hash| hash.parse().ok());
        let int = |column| number(column).and_then(|number| i32::try_from(number).ok());
        let evicted_at = number("evicted_at").max(number("displaced_at"));
        let mirrored_at =
            number("mirrored_at").filter(|mirrored| evicted_at.is_none_or(|evicted| *mirrored > evicted));
        Self {
            asset_id: text("asset_id").and_then(|id| id.parse().ok()),
            title: owned("title"),
            description: owned("description"),
            credit: owned("credit"),
            hash: hash("hash"),
            size: number("size"),
            media_type: owned("media_type"),
            file_name: owned("file_name"),
            created_at: number("created_at"),
            broadcast_at: number("broadcast_at"),
            expires_at: number("expires_at"),
            withdrawn_at: number("withdrawn_at"),
            withdrawn_reason: owned("withdrawn_reason"),
            preview_media_type: owned("preview_media_type"),
            attempt: int("attempt"),
            requesting_at: number("requesting_at"),
            requested_by: owned("requested_by"),
            cancelled_at: number("cancelled_at"),
            requested_attempt: int("requested_attempt"),
            requested_at: number("requested_at"),
            response: owned("response"),
            response_reason: owned("response_reason"),
            response_attempt: int("response_attempt"),
            responded_at: number("responded_at"),
            mirrored_at,
            mirrored_hash: hash("mirrored_hash").filter(|_| mirrored_at.is_some()),
            evicted_at,
            pinned_at: number("pinned_at"),
        }
    }

    /// Whether the broadcast has arrived. A preview can come before it, and a row that holds nothing but a preview is
    /// not shown as an asset.
    pub fn known(&self) -> bool {
        self.title.is_some()
    }

    /// The state at a moment, in milliseconds since 1970.
    pub fn state(&self, now_ms: i64) -> EdgeState {
        if self.mirrored_at.is_some() {
            return EdgeState::Mirrored;
        }
        if self.withdrawn_at.is_some() {
            return EdgeState::Withdrawn;
        }
        if self.expires_at.is_some_and(|expires_at| expires_at <= now_ms) {
            return EdgeState::Expired;
        }
        let attempt = self.attempt.unwrap_or(0);
        if attempt < 1 || self.over() {
            return EdgeState::Available;
        }
        if self.cancelled() {
            return EdgeState::Cancelled;
        }
        if self.response_attempt == Some(attempt) {
            match self.response.as_deref() {
                Some("ready") => return EdgeState::Ready,
                Some("refused") => return EdgeState::Refused,
                Some("cancelled") => return EdgeState::Cancelled,
                // Columns of one write become visible together; a word from a newer core is no answer to this program.
                _ => return EdgeState::Requested,
            }
        }
        if self.requested_attempt == Some(attempt) {
            EdgeState::Requested
        } else {
            EdgeState::Requesting
        }
    }

    /// Whether what the newest attempt brought was evicted. A later request is another attempt.
    fn over(&self) -> bool {
        self.evicted_at.is_some_and(|evicted_at| {
            self.requesting_at
                .is_none_or(|requesting_at| requesting_at <= evicted_at)
        })
    }

    /// Whether the newest attempt was taken back. A cancellation older than the request belongs to an attempt before.
    fn cancelled(&self) -> bool {
        match (self.cancelled_at, self.requesting_at) {
            (Some(cancelled_at), Some(requesting_at)) => cancelled_at >= requesting_at,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// Whether the team can ask for it now.
    pub fn may_request(&self, now_ms: i64) -> bool {
        self.known()
            && matches!(
                self.state(now_ms),
                EdgeState::Available | EdgeState::Refused | EdgeState::Cancelled
            )
    }

    /// Whether the team can take its request back now.
    pub fn may_cancel(&self, now_ms: i64) -> bool {
        matches!(
            self.state(now_ms),
            EdgeState::Requesting | EdgeState::Requested | EdgeState::Ready
        )
    }

    /// The number of the next request: beyond every attempt that this row has heard of, also of those that were made
    /// before the edge lost its table, since the core answers an attempt it knows as it did then.
    pub fn next_attempt(&self) -> i32 {
        let attempts = [self.attempt, self.requested_attempt, self.response_attempt];
        attempts
            .into_iter()
            .flatten()
            .max()
            .unwrap_or(0)
            .max(0)
            .saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn facts() -> impl Strategy<Value = EdgeAsset> {
        let time = || option::of(0..100_i64);
        let attempt = || option::of(0..4_i32);
        let response = option::of(prop::sample::select(vec![
            "ready",
            "refused",
            "cancelled",
            "newer word",
        ]));
        let known = any::<bool>();
        (
            (known, time(), time(), time()),
            (attempt(), time(), time()),
            (attempt(), attempt(), response),
        )
            .prop_map(
                |((known, expires, withdrawn, mirrored), viewer, answer)| EdgeAsset {
                    title: known.then(|| "a title".to_owned()),
                    expires_at: expires,
                    withdrawn_at: withdrawn,
                    mirrored_at: mirrored,
                    attempt: viewer.0,
                    requesting_at: viewer.1,
                    cancelled_at: viewer.2,
                    requested_attempt: answer.0,
                    response_attempt: answer.1,
                    response: answer.2.map(str::to_owned),
                    ..EdgeAsset::default()
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_mirrored_stays_mirrored(facts in facts(), mirrored_at: i64, now: i64) {
            let facts = EdgeAsset { mirrored_at: Some(mirrored_at), ..facts };
            prop_assert_eq!(facts.state(now), EdgeState::Mirrored);
            prop_assert!(!facts.may_request(now) && !facts.may_cancel(now));
        }

        #[test]
        fn what_is_withdrawn_is_offered_no_more(facts in facts(), withdrawn_at: i64, now: i64) {
            let facts = EdgeAsset { withdrawn_at: Some(withdrawn_at), ..facts };
            prop_assert!(matches!(facts.state(now), EdgeState::Withdrawn | EdgeState::Mirrored));
            prop_assert!(!facts.may_request(now) && !facts.may_cancel(now));
        }

        #[test]
        fn what_has_expired_stays_expired(facts in facts(), now in 0..100_i64, later in 0..100_i64) {
            if facts.state(now) == EdgeState::Expired {
                prop_assert_eq!(facts.state(now + later), EdgeState::Expired);
            }
        }

        #[test]
        fn answers_to_other_attempts_do_not_count(facts in facts(), response in "ready|refused|cancelled", now in 0..100_i64) {
            let attempt = facts.attempt.unwrap_or(0);
            prop_assume!(facts.response_attempt != Some(attempt) && facts.requested_attempt != Some(attempt));
            let other = EdgeAsset { response: Some(response), response_attempt: Some(attempt + 1), ..facts.clone() };
            let older = EdgeAsset { requested_attempt: Some(attempt - 1), ..facts.clone() };
            prop_assert_eq!(other.state(now), facts.state(now));
            prop_assert_eq!(older.state(now), facts.state(now));
        }

        #[test]
        fn a_cancelled_attempt_stays_cancelled_whatever_is_answered(facts in facts(), response in "ready|refused|cancelled", now in 0..100_i64) {
            if facts.state(now) == EdgeState::Cancelled && facts.cancelled() {
                let answered = EdgeAsset { response: Some(response), response_attempt: facts.attempt, ..facts };
                prop_assert_eq!(answered.state(now), EdgeState::Cancelled);
            }
        }

        #[test]
        fn the_next_attempt_is_beyond_all_that_is_known(facts in facts(), now in 0..100_i64) {
            let next = facts.next_attempt();
            prop_assert!([facts.attempt, facts.requested_attempt, facts.response_attempt].into_iter().flatten().all(|attempt| attempt < next));
            if facts.may_request(now) {
                let asked = EdgeAsset { attempt: Some(next), requesting_at: Some(now), cancelled_at: None, ..facts };
                prop_assert_eq!(asked.state(now), EdgeState::Requesting);
            }
        }

        #[test]
        fn one_can_request_or_cancel_but_never_both(facts in facts(), now in 0..100_i64) {
            prop_assert!(!(facts.may_request(now) && facts.may_cancel(now)));
            if facts.may_cancel(now) {
                let cancelled = EdgeAsset { cancelled_at: Some(now.max(facts.requesting_at.unwrap_or(0))), ..facts };
                prop_assert_eq!(cancelled.state(now), EdgeState::Cancelled);
            }
        }
    }

    #[test]
    fn a_row_with_nothing_but_a_preview_cannot_be_requested() {
        let facts = EdgeAsset {
            preview_media_type: Some("image/webp".to_owned()),
            ..EdgeAsset::default()
        };
        assert!(!facts.known() && !facts.may_request(0));
    }

    #[test]
    fn the_usual_way_from_available_to_mirrored() {
        let mut facts = EdgeAsset {
            title: Some("a title".to_owned()),
            ..EdgeAsset::default()
        };
        assert_eq!(facts.state(0), EdgeState::Available);
        facts.attempt = Some(facts.next_attempt());
        facts.requesting_at = Some(1);
        assert_eq!(facts.state(1).label(), "Requesting…");
        facts.requested_attempt = Some(1);
        assert_eq!(facts.state(2).label(), "Requested");
        facts.response = Some("ready".to_owned());
        facts.response_attempt = Some(1);
        assert_eq!(facts.state(3), EdgeState::Ready);
        facts.mirrored_at = Some(4);
        assert_eq!(facts.state(4), EdgeState::Mirrored);
    }

    #[test]
    fn what_is_evicted_is_available_until_it_is_requested_and_mirrored_again() {
        let state = |changes: &[(&str, i64)]| {
            let number = |column: &str| {
                let usual = [
                    ("attempt", 1),
                    ("requesting_at", 1),
                    ("response_attempt", 1),
                    ("mirrored_at", 4),
                    ("evicted_at", 5),
                ];
                let all = changes.iter().chain(&usual);
                all.into_iter()
                    .find(|(name, _)| *name == column)
                    .map(|(_, value)| *value)
            };
            let text = |column: &str| match column {
                "title" => Some("a title"),
                "response" => Some("ready"),
                _ => None,
            };
            let facts = EdgeAsset::read(text, number);
            (facts.state(9), facts.may_request(9))
        };
        assert_eq!(state(&[("evicted_at", 3)]), (EdgeState::Mirrored, false));
        assert_eq!(state(&[]), (EdgeState::Available, true));
        assert_eq!(state(&[("evicted_at", 4)]), (EdgeState::Available, true));
        let displaced = [("evicted_at", 2), ("displaced_at", 5)];
        assert_eq!(state(&displaced), (EdgeState::Available, true));
        let again = [("attempt", 2), ("requesting_at", 6)];
        assert_eq!(state(&again), (EdgeState::Requesting, false));
        assert_eq!(
            state(&[again[0], again[1], ("response_attempt", 2)]),
            (EdgeState::Ready, false)
        );
        assert_eq!(
            state(&[again[0], again[1], ("mirrored_at", 8)]),
            (EdgeState::Mirrored, false)
        );
    }

    #[test]
    fn every_column_is_read() {
        let facts = EdgeAsset::read(
            |column| match column {
                "asset_id" => Some("0123456789abcdef0123456789abcdef"),
                "hash" | "mirrored_hash" => {
                    Some("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
                }
                _ => Some("text"),
            },
            |column| {
                Some(if matches!(column, "evicted_at" | "displaced_at") {
                    6
                } else {
                    7
                })
            },
        );
        let json = serde_json::to_value(&facts).unwrap();
        let object = json.as_object().unwrap();
        // Two columns come to one fact.
        assert_eq!(object.len() + 1, EdgeAsset::COLUMNS.len());
        for column in EdgeAsset::COLUMNS
            .into_iter()
            .filter(|column| *column != "displaced_at")
        {
            assert!(!object[column].is_null(), "{column}");
        }
    }
}
