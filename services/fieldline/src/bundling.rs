//! Bundles on a stick: made, taken in and looked at from a site's settings file, without the site's API.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bundle::{Exported, Here, Imported, Look, Progress, Since, Stick, Wish};
use common::broker::{self, Broker};
use common::chassis::{self, Config, Host, Service, Stop};
use common::control::connected;
use common::identity::{Signer, Trust};
use common::schemas::{CORE_TABLES, EDGE_TABLES, SiteId};
use common::table::{self, Session};
use common::volume::{self, Volume};
use indicatif::{ProgressBar, ProgressStyle};
use link::{Route, builtin, expand};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli::Bundle;
use crate::output::{bytes, line, show, table, time};

/// The section `[bundle]` of a site's settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    broker: broker::Settings,
    table: table::Settings,
    volume: volume::Settings,
    /// The site that is the core to this one; at the core its own name.
    core: String,
    /// The authority's certificate; that of `[mirror.tls]`, the enrolment or `[depot.tls]` unless set.
    ca: PathBuf,
    /// This site's client certificate; that of `[mirror.tls]` or the enrolment unless set.
    certificate: PathBuf,
    /// The key of that certificate.
    key: PathBuf,
    /// Routes beside those that every edge has; at an edge besides those of `[link]`.
    extra_routes: Vec<Route>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            broker: broker::Settings::default(),
            table: table::Settings::default(),
            volume: volume::Settings::default(),
            core: "core".to_owned(),
            ca: PathBuf::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            extra_routes: Vec::new(),
        }
    }
}

impl chassis::Settings for Settings {
    fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        for (key, found) in [
            ("broker", self.broker.validate()),
            ("table", self.table.validate()),
            ("volume", self.volume.validate()),
        ] {
            problems.extend(chassis::prefixed(key, found));
        }
        if let Err(error) = self.core.parse::<SiteId>() {
            problems.push(format!("core: {error}"));
        }
        // Whether routes fit together does not depend on the site's name, so any will do.
        if let Ok(site) = "edge".parse() {
            let found = expand(&site, &[builtin(), self.extra_routes.clone()].concat());
            let found = found.err().unwrap_or_default().into_iter();
            problems.extend(found.map(|problem| format!("extra_routes: {problem}")));
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}

/// Lets these commands read the settings file by the same rule as every service.
struct Section;

impl Service for Section {
    const NAME: &'static str = "bundle";
    type Settings = Settings;

    async fn build(_settings: Settings, _host: &Host) -> Result<Self> {
        Ok(Self)
    }

    async fn run(self, stop: Stop) -> Result<()> {
        stop.cancelled().await;
        Ok(())
    }
}

/// The site of a settings file, its engines opened.
async fn here(file: &Path) -> Result<Here> {
    let config = Config::read(Some(file), chassis::environment())
        .with_context(|| format!("cannot read the settings of {}", file.display()))?;
    let loaded = config.load::<Section>()?;
    let mut settings = loaded.settings;
    let site: SiteId = loaded.host.site.parse()?;
    let core: SiteId = settings.core.parse()?;
    // A site that has no link, or no mirror, has no such section, and what it would say is as it is without.
    let link = config
        .load::<link::Link>()
        .ok()
        .map(|link| link.settings)
        .unwrap_or_default();
    let mirror = config.load::<mirror::Mirror>().ok().map(|mirror| mirror.settings);
    // Where certificates are set here, or the site has no link, its enrolment need not be there.
    let enrolled = mirror
        .clone()
        .and_then(|mirror| connected::<mirror::Mirror>(mirror, site.as_str()).ok());
    let depot = config.load::<depot::Depot>().ok().map(|depot| depot.settings);
    let unset = |path: &Path| path.as_os_str().is_empty();
    let tls = enrolled.as_ref().map(|mirror| &mirror.settings.tls);
    if let Some(tls) = tls.or_else(|| mirror.as_ref().map(|mirror| &mirror.tls)) {
        for (own, other) in [
            (&mut settings.ca, &tls.ca),
            (&mut settings.certificate, &tls.certificate),
            (&mut settings.key, &tls.key),
        ] {
            if unset(own) {
                own.clone_from(other);
            }
        }
    }
    if let Some(ca) = depot
        .and_then(|depot| depot.tls.ca)
        .filter(|_| unset(&settings.ca))
    {
        settings.ca = ca;
    }
    for (key, path) in [
        ("ca", &settings.ca),
        ("certificate", &settings.certificate),
        ("key", &settings.key),
    ] {
        if unset(path) {
            bail!(
                "bundle.{key}: name a PEM file\nhint: the site's enrolment holds them; `fieldline certs --site {site}` makes certificate and key"
            );
        }
    }
    let signer =
        Signer::load(&settings.certificate, &settings.key).context("cannot sign in this site's name")?;
    if *signer.site() != site {
        bail!(
            "bundle.certificate: it is the certificate of {}, and this site is {site}",
            signer.site()
        );
    }
    let trust = Trust::load(&settings.ca).context("cannot read the authority's certificate")?;
    let extra = link.extra_routes.iter().filter(|route| {
        let own = settings.extra_routes.iter();
        own.clone().all(|own| own.name != route.name)
    });
    let routes = [builtin(), extra.cloned().collect(), settings.extra_routes.clone()].concat();
    let registry = prometheus::Registry::new();
    let broker = Broker::open(&settings.broker, Section::NAME, &registry).await?;
    broker.ping().await?;
    let table = Session::open(&settings.table, Section::NAME, &registry).await?;
    table
        .prepare(if site == core { CORE_TABLES } else { EDGE_TABLES })
        .await?;
    Ok(Here {
        in_classes: !link.by_records(),
        retention: *link.retention,
        quota: mirror.and_then(|mirror| mirror.quota).map(|quota| quota.bytes()),
        volume: Volume::open(&settings.volume).await?,
        site,
        core,
        broker,
        table,
        signer,
        trust,
        routes,
    })
}

/// The same, with a word on what to do when another process has the engines.
async fn opened(file: &Path) -> Result<Here> {
    here(file).await.map_err(|error| {
        let held = error.chain().any(|cause| {
            matches!(cause.downcast_ref(), Some(broker::Error::Locked { .. }))
                || matches!(cause.downcast_ref(), Some(table::Error::Locked { .. }))
        });
        if held {
            error.context("the site is running, and its embedded engines serve one process\nhint: stop it while a bundle is made or taken in; a site on Kafka and Cassandra may go on")
        } else {
            error
        }
    })
}

/// Shows on stderr how far it is.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} % {msg}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn shown(bar: &ProgressBar) -> impl Fn(Progress) + Send + Sync + '_ {
    |progress: Progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(progress.what);
    }
}

/// `fieldline bundle …`.
pub(crate) async fn bundle(command: &Bundle) -> Result<()> {
    match command {
        Bundle::Export {
            config,
            to,
            site,
            max_size,
            since,
            json,
        } => {
            let here = opened(config).await?;
            let peer = match site {
                Some(site) => site.clone(),
                None if here.site != here.core => here.core.clone(),
                None => bail!("for which edge is it?\nhint: name it with --site"),
            };
            let since = match since.as_deref() {
                None => Since::Receipt,
                Some("beginning") => Since::Beginning,
                Some(path) => Since::File(path.into()),
            };
            let mut stick = Stick::at(to).with_limit(max_size.map(|size| size.bytes()))?;
            let bar = bar();
            let done = Box::pin(bundle::export(&here, &peer, &mut stick, &since, &shown(&bar))).await;
            bar.finish_and_clear();
            exported(&done?, to, &peer, *json)
        }
        Bundle::Import {
            config,
            from,
            accept_loss,
            json,
        } => {
            let here = opened(config).await?;
            let wish = Wish {
                accept_loss: *accept_loss,
            };
            let bar = bar();
            let done = Box::pin(bundle::import(&here, &mut Stick::at(from), wish, &shown(&bar))).await;
            bar.finish_and_clear();
            imported(&done?, *json)
        }
        Bundle::Show {
            directory,
            ca,
            files,
            json,
        } => {
            let trust = ca
                .as_deref()
                .map(Trust::load)
                .transpose()
                .context("cannot read --ca")?;
            let looks = bundle::show(&Stick::at(directory), trust.as_ref(), *files)?;
            looked(&looks, *json)
        }
    }
}

fn exported(done: &Exported, stick: &Path, peer: &SiteId, json: bool) -> Result<()> {
    show(json, &json!(done), |_| {
        line(format!(
            "for {peer}: {} records ({} of them were there), {} assets",
            done.records, done.kept, done.assets
        ));
        if done.records_left + done.assets_left > 0 {
            line(format!(
                "{} is full: about {} records and {} assets ({}) did not fit\nhint: bring this one, and export again when it is back; or take a larger one",
                stick.display(),
                done.records_left,
                done.assets_left,
                bytes(done.bytes_left)
            ));
        }
        done.notes.iter().chain(&done.problems).for_each(line);
    });
    if done.problems.is_empty() {
        Ok(())
    } else {
        bail!(
            "{} things are not in the bundle as they should be",
            done.problems.len()
        )
    }
}

fn imported(all: &[Imported], json: bool) -> Result<()> {
    show(json, &json!(all), |_| {
        for done in all {
            line(format!(
                "from {}, made {}: {} records ({} more were here), {} assets ({} more were here or are not wanted)",
                done.from,
                time(Some(done.created_at)),
                done.records,
                done.known,
                done.assets,
                done.assets_known
            ));
            if done.lost > 0 {
                line(format!("{} records are lost, as was accepted", done.lost));
            }
            if done.refused > 0 {
                line(format!(
                    "{} records were refused: `fieldline dead-letters list` has them",
                    done.refused
                ));
            }
            if !done.whole {
                line(format!(
                    "it did not hold all that {} had: the next one goes on behind it",
                    done.from
                ));
            }
            if !done.receipt_left {
                line(
                    "the stick cannot be written to, so it brings no receipt back: the next bundle begins earlier than it need",
                );
            }
            done.notes.iter().chain(&done.problems).for_each(line);
        }
    });
    let problems: usize = all.iter().map(|done| done.problems.len()).sum();
    if problems == 0 {
        Ok(())
    } else {
        bail!("{problems} parts of it could not be taken in")
    }
}

fn looked(looks: &[Look], json: bool) -> Result<()> {
    show(json, &json!(looks), |_| {
        let mut rows = Vec::new();
        let mut spans = Vec::new();
        for look in looks {
            let state = match (&look.problem, look.verified) {
                (Some(problem), _) => problem.clone(),
                (None, true) => "signature is right".to_owned(),
                (None, false) => "signature not checked: say --ca".to_owned(),
            };
            let mut row = vec![look.from.to_string(), look.to.to_string()];
            let Some(manifest) = &look.manifest else {
                row.extend(["–", "–", "–", "–"].map(str::to_owned));
                row.push(state);
                rows.push(row);
                continue;
            };
            let (mut records, mut size) = (0, 0);
            for topic in &manifest.topics {
                for (partition, part) in (0..).zip(&topic.parts) {
                    let here: u64 = part.segments.iter().map(|segment| segment.records).sum();
                    records += here;
                    size += part.segments.iter().map(|segment| segment.bytes).sum::<u64>();
                    if !part.segments.is_empty() {
                        spans.push(vec![
                            format!("{} to {}", look.from, look.to),
                            format!("{}/{partition}", topic.source),
                            part.begin.to_string(),
                            (part.end() - 1).to_string(),
                            here.to_string(),
                        ]);
                    }
                }
            }
            size += manifest.entries.iter().map(|entry| entry.size).sum::<u64>();
            row.extend([
                time(Some(manifest.created_at)),
                records.to_string(),
                manifest.entries.len().to_string(),
                bytes(size),
                if manifest.whole {
                    state
                } else {
                    format!("{state}; not whole")
                },
            ]);
            rows.push(row);
        }
        table(
            &["FROM", "TO", "MADE", "RECORDS", "ASSETS", "BYTES", "STATE"],
            &rows,
        );
        if !spans.is_empty() {
            line("");
            table(
                &["BUNDLE", "PARTITION", "FIRST OFFSET", "LAST OFFSET", "RECORDS"],
                &spans,
            );
        }
        looks.iter().flat_map(|look| &look.damaged).for_each(line);
    });
    let bad = looks
        .iter()
        .filter(|look| look.problem.is_some() || !look.damaged.is_empty())
        .count();
    match (looks.len(), bad) {
        (0, _) => bail!("there is no bundle in that directory"),
        (_, 0) => Ok(()),
        _ => bail!("{bad} of {} bundles are not as they were made", looks.len()),
    }
}
