//! Whether a site may use the depot now: what table `sites` says of the certificate it came with.
//!
//! The table is asked at most once a second for each site, for open connections too, so a revocation cuts a site off
//! within the settings' limit whatever it has open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::schemas::SiteId;
use common::table::{Row, Session};
use tokio::time::Instant;

use crate::error::{Error, Result};

/// The one partition of table `sites`.
const REALM: &str = "core";
/// Sites that are remembered before old ones are dropped.
const REMEMBERED: usize = 4096;

/// Who is at the other end of a connection, as its certificate says.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its site, or why the certificate names none.
    pub(crate) site: Result<SiteId, String>,
    /// The SHA-256 of its certificate.
    pub(crate) fingerprint: String,
}

/// What the table says of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    NotEnrolled,
    Enrolled { fingerprint: Option<String> },
    Revoked { at: i64, reason: Option<String> },
}

impl Standing {
    fn read(row: Option<&Row>) -> Self {
        let Some(row) = row else { return Self::NotEnrolled };
        if let Some(at) = row.timestamp("revoked_at") {
            return Self::Revoked {
                at,
                reason: row.text("revoked_reason").map(str::to_owned),
            };
        }
        match row.timestamp("enrolled_at") {
            Some(_) => Self::Enrolled {
                fingerprint: row.text("certificate_sha256").map(str::to_owned),
            },
            None => Self::NotEnrolled,
        }
    }

    fn judge(&self, site: &SiteId, presented: &str) -> Result<()> {
        match self {
            Self::NotEnrolled => Err(Error::NotEnrolled(site.clone())),
            Self::Revoked { at, reason } => Err(Error::Revoked {
                site: site.clone(),
                on: day(*at),
                why: reason
                    .as_ref()
                    .map(|reason| format!(": {reason}"))
                    .unwrap_or_default(),
            }),
            Self::Enrolled {
                fingerprint: Some(known),
            } if known == presented => Ok(()),
            Self::Enrolled { .. } => Err(Error::OtherCertificate(site.clone())),
        }
    }
}

fn day(at: i64) -> String {
    jiff::Timestamp::from_millisecond(at)
        .map_or_else(|_| at.to_string(), |at| at.strftime("%Y-%m-%d").to_string())
}

/// Asks the table, and remembers the answer for a moment.
#[derive(Debug)]
pub(crate) struct Register {
    table: Session,
    max_age: Duration,
    known: Mutex<HashMap<SiteId, (Instant, Arc<Standing>)>>,
}

impl Register {
    pub(crate) fn new(table: Session, max_age: Duration) -> Self {
        Self {
            table,
            max_age,
            known: Mutex::default(),
        }
    }

    /// The peer's site, if it may use the depot.
    pub(crate) async fn admit(&self, peer: &Peer) -> Result<SiteId> {
        let site = peer.site.as_ref().map_err(|why| Error::Nameless(why.clone()))?;
        self.standing(site).await?.judge(site, &peer.fingerprint)?;
        Ok(site.clone())
    }

    /// Whether a site was cut off.
    pub(crate) async fn revoked(&self, site: &SiteId) -> Result<bool> {
        let standing = self.standing(site).await?;
        Ok(matches!(*standing, Standing::Revoked { .. }))
    }

    async fn standing(&self, site: &SiteId) -> Result<Arc<Standing>> {
        let asked_at = Instant::now();
        if let Some((at, standing)) = self.known().get(site)
            && asked_at.duration_since(*at) < self.max_age
        {
            return Ok(Arc::clone(standing));
        }
        let row = self
            .table
            .get(
                "sites",
                &[("realm", REALM.into()), ("site", site.as_str().into())],
            )
            .await;
        let standing = Arc::new(Standing::read(row.map_err(Error::Table)?.as_ref()));
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.retain(|_, (at, _)| asked_at.duration_since(*at) < self.max_age);
        }
        // As of the question, not of the answer: the row may have changed in between.
        known.insert(site.clone(), (asked_at, Arc::clone(&standing)));
        Ok(standing)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<SiteId, (Instant, Arc<Standing>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_enrolled_certificate_is_admitted_and_each_refusal_says_why() {
        let site: SiteId = "edge-1".parse().unwrap();
        let enrolled = Standing::Enrolled {
            fingerprint: Some("aa".into()),
        };
        assert!(enrolled.judge(&site, "aa").is_ok());
        let said = |standing: Standing| standing.judge(&site, "bb").unwrap_err().to_string();
        assert_eq!(
            said(enrolled),
            "edge-1 is enrolled with another certificate than this one"
        );
        assert_eq!(
            said(Standing::Enrolled { fingerprint: None }),
            "edge-1 is enrolled with another certificate than this one"
        );
        assert_eq!(said(Standing::NotEnrolled), "edge-1 is not enrolled at this core");
        let revoked = Standing::Revoked {
            at: 1_700_000_000_000,
            reason: Some("laptop stolen".into()),
        };
        assert_eq!(
            said(revoked),
            "the certificate of edge-1 was revoked on 2023-11-14: laptop stolen"
        );
    }
}
