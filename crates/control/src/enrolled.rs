//! A service that needs the core, at an edge that may not be connected to one yet.
//!
//! Where the service's settings do not name the core, the site's enrolment does: one file, which somebody puts there
//! while the service runs. Until then it is up, healthy, and reports that it waits. A file that appears or changes is
//! taken up within two seconds: the work drains and the service is built anew, as after a restart, in this process.
//! A changed file that cannot be used is told and ends nothing that works.

use std::fmt::{self, Debug, Formatter};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use broker::Broker;
use chassis::{Again, Host, Service, Settings as _, Stop};
use identity::{Enrolment, Unpacked};
use telemetry::chain;
use tempfile::TempDir;

use crate::Control;

/// How often the file is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// What a service that waits for the site's enrolment says; the reason follows.
const NOT_CONNECTED: &str = "not connected";
const MISSING: &str = "give this site its enrolment";

/// A service that gets the core's address and the site's certificate from the site's enrolment.
pub trait NeedsEnrolment: Service {
    /// The file of the enrolment; none where the settings name the core themselves.
    fn enrolment(settings: &Self::Settings) -> Option<&Path>;

    /// This edge's own broker, which is told that the service waits.
    fn broker(settings: &Self::Settings) -> &broker::Settings;

    /// Puts the core's addresses and the site's certificates into the settings.
    fn connect(settings: &mut Self::Settings, enrolment: &Enrolment, certificates: &Unpacked);
}

/// The service, or what stands in for it while the site is not connected.
pub struct Enrolled<S> {
    life: Life<S>,
    file: Option<EnrolmentFile>,
    /// The certificates' files, where they do not lie beside the enrolment.
    _unpacked: Option<TempDir>,
}

enum Life<S> {
    Working(Box<S>),
    Waiting(Control),
}

impl<S> Debug for Enrolled<S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrolled")
            .field("connected", &matches!(self.life, Life::Working(_)))
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl<S: NeedsEnrolment> Service for Enrolled<S>
where
    S::Settings: Clone + Sync,
{
    const NAME: &'static str = S::NAME;
    type Settings = S::Settings;

    async fn build(mut settings: S::Settings, host: &Host) -> anyhow::Result<Self> {
        let Some(path) = S::enrolment(&settings).map(Path::to_owned) else {
            return Ok(Self {
                life: Life::Working(Box::new(Box::pin(S::build(settings, host)).await?)),
                file: None,
                _unpacked: None,
            });
        };
        let mut file = EnrolmentFile::new(path, host.site());
        let connected = match file.read() {
            Ok(enrolment) => connect::<S>(&mut settings, &enrolment, &file.path),
            Err(problem) => Err(problem),
        };
        let (life, unpacked) = match connected {
            Ok(unpacked) => {
                let service = Box::pin(S::build(settings, host)).await?;
                (Life::Working(Box::new(service)), unpacked)
            }
            Err(problem) => {
                if problem == MISSING {
                    forget(&beside::<S>(&file.path));
                }
                let broker = Broker::open(S::broker(&settings), S::NAME, host.registry())
                    .await
                    .context("this edge's broker")?;
                let ping = broker.clone();
                host.check("broker", move || {
                    let broker = ping.clone();
                    async move { broker.ping().await.map_err(|error| chain(&error)) }
                });
                let control = Control::attach(host, &broker).await?;
                waiting(&control, &problem);
                (Life::Waiting(control), None)
            }
        };
        Ok(Self {
            life,
            file: Some(file),
            _unpacked: unpacked,
        })
    }

    async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let Some(mut file) = self.file else {
            return match self.life {
                Life::Working(service) => service.run(stop).await,
                Life::Waiting(_) => Ok(()),
            };
        };
        match self.life {
            Life::Waiting(control) => {
                let usable = async {
                    while let Err(problem) = file.change().await {
                        waiting(&control, &problem);
                    }
                };
                match stop.run_until_cancelled(usable).await {
                    Some(()) => Err(Again.into()),
                    None => Ok(()),
                }
            }
            Life::Working(service) => {
                let child = stop.child_token();
                let work = service.run(child.clone());
                tokio::pin!(work);
                tokio::select! {
                    ended = &mut work => return ended,
                    () = replaced(&mut file) => {}
                }
                child.cancel();
                work.await?;
                Err(Again.into())
            }
        }
    }
}

fn waiting(control: &Control, problem: &str) {
    tracing::info!(problem, "not connected to a core");
    control.waiting(format!("{NOT_CONNECTED}: {problem}"));
}

/// Waits until the file has another enrolment, or is gone.
async fn replaced(file: &mut EnrolmentFile) {
    while let Err(problem) = file.change().await {
        if problem == MISSING {
            return;
        }
        tracing::warn!(
            problem,
            "changed enrolment cannot be used; the last good one stays in use"
        );
    }
}

/// Where a service keeps the certificates of the enrolment at `path`.
fn beside<S: Service>(path: &Path) -> PathBuf {
    let mut beside = path.to_owned().into_os_string();
    beside.push(format!(".{}", S::NAME));
    beside.into()
}

/// Deletes certificates whose enrolment was taken away.
fn forget(certificates: &Path) {
    match fs::remove_dir_all(certificates) {
        Ok(()) => tracing::info!("certificates of an earlier enrolment deleted"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, "certificates of an earlier enrolment cannot be deleted"),
    }
}

/// Puts the enrolment into the settings; its certificates go to a directory beside it, or to a temporary one where
/// that cannot be written.
fn connect<S: NeedsEnrolment>(
    settings: &mut S::Settings,
    enrolment: &Enrolment,
    path: &Path,
) -> Result<Option<TempDir>, String> {
    let (unpacked, kept) = match enrolment.unpack(&beside::<S>(path)) {
        Ok(unpacked) => (unpacked, None),
        Err(error) => {
            tracing::debug!(error = chain(&error), "certificates go to a temporary directory");
            let (unpacked, kept) = unpack_aside(enrolment)?;
            (unpacked, Some(kept))
        }
    };
    S::connect(settings, enrolment, &unpacked);
    settings.validate().map_err(|problems| problems.join("; "))?;
    Ok(kept)
}

fn unpack_aside(enrolment: &Enrolment) -> Result<(Unpacked, TempDir), String> {
    let kept = tempfile::Builder::new()
        .prefix("fieldline-")
        .tempdir()
        .map_err(|error| format!("there is no place for its certificates: {error}"))?;
    let unpacked = enrolment.unpack(kept.path()).map_err(|error| chain(&error))?;
    Ok((unpacked, kept))
}

/// A service's settings with what the site's enrolment says in them.
#[derive(Debug)]
pub struct Connected<T> {
    /// The settings; the certificates that they name are there as long as this is.
    pub settings: T,
    _unpacked: Option<TempDir>,
}

/// The settings as the service would work with them, for a command that works in its place. Where they name the core
/// themselves they are as they were. The certificates do not lie beside the enrolment: who runs the command may be
/// somebody whose files the service could not read.
///
/// # Errors
/// In words, when the enrolment that should say it is missing or cannot be used.
pub fn connected<S: NeedsEnrolment>(
    mut settings: S::Settings,
    site: &str,
) -> Result<Connected<S::Settings>, String> {
    let Some(path) = S::enrolment(&settings).map(Path::to_owned) else {
        return Ok(Connected {
            settings,
            _unpacked: None,
        });
    };
    let enrolment = EnrolmentFile::new(path.clone(), site).read().map_err(|problem| {
        if problem == MISSING {
            format!("there is no enrolment at {}", path.display())
        } else {
            problem
        }
    })?;
    let (unpacked, kept) = unpack_aside(&enrolment)?;
    S::connect(&mut settings, &enrolment, &unpacked);
    settings.validate().map_err(|problems| problems.join("; "))?;
    Ok(Connected {
        settings,
        _unpacked: Some(kept),
    })
}

/// The file, and what of it was read last.
#[derive(Debug)]
struct EnrolmentFile {
    path: PathBuf,
    site: String,
    seen: Option<Stamp>,
    taken: Option<Enrolment>,
}

/// What tells one version of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

fn stamp(path: &Path) -> Option<Stamp> {
    let about = fs::metadata(path).ok()?;
    Some(Stamp {
        inode: about.ino(),
        size: about.size(),
        changed: (about.ctime(), about.ctime_nsec()),
    })
}

impl EnrolmentFile {
    fn new(path: PathBuf, site: &str) -> Self {
        Self {
            path,
            site: site.to_owned(),
            seen: None,
            taken: None,
        }
    }

    /// Reads the enrolment of this site; the error says in words why there is none.
    fn read(&mut self) -> Result<Enrolment, String> {
        self.seen = stamp(&self.path);
        let enrolment = match Enrolment::read(&self.path) {
            Ok(Some(enrolment)) => enrolment,
            Ok(None) => return Err(MISSING.to_owned()),
            Err(error) => {
                return Err(format!(
                    "{} cannot be used: {}",
                    self.path.display(),
                    chain(&error)
                ));
            }
        };
        if enrolment.site().as_str() != self.site {
            return Err(format!(
                "{} is the enrolment of {}, and this site is {}",
                self.path.display(),
                enrolment.site(),
                self.site
            ));
        }
        self.taken = Some(enrolment.clone());
        Ok(enrolment)
    }

    /// Waits until the file has become another one. Its content may be the same as that which was taken: then that
    /// is no change.
    async fn change(&mut self) -> Result<(), String> {
        loop {
            tokio::time::sleep(EVERY).await;
            if stamp(&self.path) == self.seen {
                continue;
            }
            let before = self.taken.clone();
            let now = self.read()?;
            if before.as_ref() != Some(&now) {
                return Ok(());
            }
        }
    }
}
