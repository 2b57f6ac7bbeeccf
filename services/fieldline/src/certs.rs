//! The certificate authority, and which edges the core knows.

use std::path::Path;

use anyhow::{Context, Result, bail};
use common::schemas::SiteId;
use identity::{Authority, Enrolment, Issued, KafkaNeeds, kafka_principal};
use serde_json::json;

use crate::cli::{Certs, CoreAddresses, Site};
use crate::client::Client;
use crate::output::{line, show, table, text};

/// The authority in a directory, made there when there is none.
pub(crate) fn authority(directory: &Path) -> Result<Authority> {
    if directory.join("ca.crt").exists() {
        return Authority::load(directory).context("cannot open the certificate authority");
    }
    let authority = Authority::create(directory).context("cannot make a certificate authority")?;
    line(format!(
        "made {}; keep ca.key beside it off every server",
        authority.certificate_path().display()
    ));
    Ok(authority)
}

/// What was issued now or earlier.
fn once(issued: identity::Result<Issued>, what: &str) -> Result<()> {
    match issued {
        Ok(issued) => line(format!(
            "{what}: {} and {}",
            issued.certificate.display(),
            issued.key.display()
        )),
        Err(identity::Error::Exists { path }) => line(format!("{what}: {} is there already", path.display())),
        Err(error) => return Err(error).with_context(|| format!("cannot issue a certificate for {what}")),
    }
    Ok(())
}

/// `fieldline certs`.
pub(crate) fn make(command: &Certs) -> Result<()> {
    let authority = authority(&command.dir)?;
    if !command.servers.is_empty() {
        once(
            authority.issue_server(&command.servers),
            &command.servers.join(", "),
        )?;
    }
    for site in &command.sites {
        once(authority.issue_site(site), site.as_str())?;
    }
    Ok(())
}

/// All that the sites of a demo need, without a word.
pub(crate) fn prepare(directory: &Path, servers: &[String], sites: &[SiteId]) -> Result<()> {
    let authority = if directory.join("ca.crt").exists() {
        Authority::load(directory).context("cannot open the certificate authority")?
    } else {
        Authority::create(directory).context("cannot make a certificate authority")?
    };
    let issued = std::iter::once(authority.issue_server(servers))
        .chain(sites.iter().map(|site| authority.issue_site(site)));
    for issued in issued {
        match issued {
            Ok(_) | Err(identity::Error::Exists { .. }) => {}
            Err(error) => return Err(error).context("cannot issue a certificate"),
        }
    }
    Ok(())
}

/// The certificate of an edge, issued when it has none.
pub(crate) fn site_certificate(directory: &Path, site: &SiteId) -> Result<String> {
    let authority = authority(directory)?;
    once(authority.issue_site(site), site.as_str())?;
    let path = directory.join("sites").join(format!("{site}.crt"));
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The enrolment of an edge that has its certificate.
pub(crate) fn enrolment(directory: &Path, site: &SiteId, core: &CoreAddresses) -> Result<Enrolment> {
    let (Some(broker), Some(depot)) = (&core.broker, &core.depot) else {
        bail!(
            "an enrolment says where the core is\nhint: give --broker URL and --depot URL, as the edge reaches them"
        );
    };
    let read = |path: std::path::PathBuf| {
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let own = |ending: &str| read(directory.join("sites").join(format!("{site}.{ending}")));
    Enrolment::new(
        site.clone(),
        broker,
        depot,
        &read(directory.join("ca.crt"))?,
        &own("crt")?,
        &own("key")?,
    )
    .with_context(|| format!("cannot make the enrolment of {site}"))
}

/// Writes an enrolment; one that is there with another content is kept.
pub(crate) fn write(enrolment: &Enrolment, path: &Path) -> Result<()> {
    match enrolment.write(path) {
        Err(identity::Error::Exists { path }) => bail!(
            "there is another enrolment at {}; nothing was changed\nhint: move it away first, or write to another file",
            path.display()
        ),
        written => written.with_context(|| format!("cannot write the enrolment of {}", enrolment.site())),
    }
}

/// `fieldline site …`.
pub(crate) async fn site(command: &Site) -> Result<()> {
    match command {
        Site::Add {
            site,
            certs,
            out,
            core,
            api,
        } => {
            let fingerprint = identity::fingerprint(&site_certificate(certs, site)?)?;
            let document = match out {
                Some(path) => Some((path, enrolment(certs, site, core)?)),
                None => None,
            };
            let body = json!({"site": site, "certificate_sha256": fingerprint});
            let answer = Client::new(api)?.post("/api/sites", body).await?;
            if let Some((path, enrolment)) = &document {
                write(enrolment, path)?;
            }
            show(api.json, &answer, |_| match &document {
                Some((path, _)) => line(format!(
                    "{site} is enrolled; give it {} and nobody else: it holds the site's key",
                    path.display()
                )),
                None => line(format!(
                    "{site} is enrolled; give it ca.crt and its own certificate and key"
                )),
            });
        }
        Site::Revoke { site, reason, api } => {
            let answer = Client::new(api)?
                .post(&format!("/api/sites/{site}/revoke"), json!({"reason": reason}))
                .await?;
            show(api.json, &answer, |answer| {
                line(format!(
                    "{site} is revoked; {} open entries were deleted",
                    text(answer, "entries_deleted")
                ));
            });
        }
        Site::Rules {
            site,
            bootstrap_server,
            principal,
            down,
            up,
            group,
        } => {
            let needs = KafkaNeeds {
                down: down.clone(),
                up: up.clone(),
                groups: group.clone(),
            };
            let principal = principal.clone().unwrap_or_else(|| kafka_principal(site));
            for rule in needs.rules(site, &principal) {
                line(format!("{rule} --bootstrap-server {bootstrap_server}"));
            }
        }
        Site::List(api) => {
            let answer = Client::new(api)?.get("/api/sites").await?;
            show(api.json, &answer, |answer| {
                let rows: Vec<Vec<String>> = answer["sites"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|site| {
                        let state = if site["revoked_at"].is_null() {
                            "enrolled"
                        } else {
                            "revoked"
                        };
                        vec![
                            text(site, "site"),
                            state.to_owned(),
                            text(&site["status"], "assets"),
                            text(&site["status"], "mirrored"),
                        ]
                    })
                    .collect();
                table(&["SITE", "STATE", "ASSETS", "MIRRORED"], &rows);
            });
        }
    }
    Ok(())
}
