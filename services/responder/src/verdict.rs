//! Whether a site is given an asset: a pure function of what the core knows.

use std::fmt;

use common::chassis::ByteSize;
use common::schemas::Hash;
use common::table::Row;

/// What table `published` holds of an asset that can be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) hash: Hash,
    pub(crate) size: u64,
    pub(crate) media_type: String,
    pub(crate) file_name: String,
    pub(crate) expires_at: Option<i64>,
}

/// What table `published` says of an asset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    Unknown,
    Withdrawn { reason: Option<String> },
    Published(Published),
}

impl Standing {
    /// Reads a row; one that lacks what publishing writes is as good as none.
    pub(crate) fn read(row: Option<&Row>) -> Self {
        let Some(row) = row else { return Self::Unknown };
        if row.timestamp("withdrawn_at").is_some() {
            return Self::Withdrawn {
                reason: row.text("withdrawn_reason").map(str::to_owned),
            };
        }
        let published = || {
            Some(Published {
                hash: row.text("hash")?.parse().ok()?,
                size: row.bigint("size")?.try_into().ok()?,
                media_type: row.text("media_type")?.to_owned(),
                file_name: row.text("file_name")?.to_owned(),
                expires_at: row.timestamp("expires_at"),
            })
        };
        published().map_or(Self::Unknown, Self::Published)
    }
}

/// Whether the core has enrolled a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enrolment {
    Enrolled,
    NotEnrolled,
    Revoked,
}

/// Why a request is refused: a code word for programs, then a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    OtherRequest,
    NotEnrolled,
    Revoked,
    Unknown,
    Withdrawn { reason: Option<String> },
    Expired,
    TooLarge { size: u64, limit: u64 },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherRequest => {
                f.write_str("not_allowed: the request's id is not of this site, asset and attempt.")
            }
            Self::NotEnrolled => f.write_str("not_allowed: the core has not enrolled this site."),
            Self::Revoked => f.write_str("not_allowed: the core has revoked this site."),
            Self::Unknown => f.write_str("unknown: the core has not published such an asset."),
            Self::Withdrawn { reason: Some(reason) } => {
                write!(f, "withdrawn: the core took the asset back: {reason}")
            }
            Self::Withdrawn { reason: None } => f.write_str("withdrawn: the core took the asset back."),
            Self::Expired => f.write_str("expired: the asset is not offered any more."),
            Self::TooLarge { size, limit } => write!(
                f,
                "too_large: the asset has {}; this site is given {} at most.",
                ByteSize(*size),
                ByteSize(*limit)
            ),
        }
    }
}

/// Decides a request. Who may not ask is told nothing about assets.
pub(crate) fn judge(
    standing: Standing,
    enrolment: Enrolment,
    limit: Option<u64>,
    now: i64,
) -> Result<Published, Refusal> {
    match enrolment {
        Enrolment::Enrolled => {}
        Enrolment::NotEnrolled => return Err(Refusal::NotEnrolled),
        Enrolment::Revoked => return Err(Refusal::Revoked),
    }
    let published = match standing {
        Standing::Unknown => return Err(Refusal::Unknown),
        Standing::Withdrawn { reason } => return Err(Refusal::Withdrawn { reason }),
        Standing::Published(published) => published,
    };
    if published.expires_at.is_some_and(|expires_at| expires_at <= now) {
        return Err(Refusal::Expired);
    }
    match limit {
        Some(limit) if published.size > limit => Err(Refusal::TooLarge {
            size: published.size,
            limit,
        }),
        _ => Ok(published),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published() -> Published {
        Published {
            hash: "0".repeat(64).parse().unwrap(),
            size: 100,
            media_type: "image/png".to_owned(),
            file_name: "a.png".to_owned(),
            expires_at: Some(50),
        }
    }

    fn judged(standing: Standing, enrolment: Enrolment, limit: Option<u64>, now: i64) -> String {
        let refusal = judge(standing, enrolment, limit, now).unwrap_err().to_string();
        refusal.split_once(": ").unwrap().0.to_owned()
    }

    #[test]
    fn each_refusal_has_its_word() {
        let known = || Standing::Published(published());
        let withdrawn = Standing::Withdrawn { reason: None };
        assert_eq!(judged(known(), Enrolment::NotEnrolled, None, 0), "not_allowed");
        assert_eq!(judged(known(), Enrolment::Revoked, None, 0), "not_allowed");
        assert_eq!(judged(Standing::Unknown, Enrolment::Enrolled, None, 0), "unknown");
        assert_eq!(judged(withdrawn, Enrolment::Enrolled, None, 0), "withdrawn");
        assert_eq!(judged(known(), Enrolment::Enrolled, None, 50), "expired");
        assert_eq!(judged(known(), Enrolment::Enrolled, Some(99), 0), "too_large");
        assert_eq!(
            Refusal::OtherRequest.to_string().split_once(": ").unwrap().0,
            "not_allowed"
        );
        assert_eq!(
            judge(known(), Enrolment::Enrolled, Some(100), 49),
            Ok(published())
        );
    }

    #[test]
    fn who_is_not_enrolled_is_told_nothing_about_assets() {
        assert_eq!(
            judge(Standing::Unknown, Enrolment::Revoked, None, 0),
            Err(Refusal::Revoked)
        );
    }
}
