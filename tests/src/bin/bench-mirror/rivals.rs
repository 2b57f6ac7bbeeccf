//! rsync and rclone, as good as they are without encryption.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::program;

/// How often a copy that was cut is started again.
const TRIES: u32 = 60;

/// The first line of what it says of itself.
pub(crate) async fn version(name: &str) -> Result<String> {
    let mut command = Command::new(program(name)?);
    command.arg(if name == "rsync" { "--version" } else { "version" });
    let said = command.output().await?.stdout;
    let said = String::from_utf8_lossy(&said);
    Ok(said.lines().next().unwrap_or(name).to_owned())
}

/// A server that ends with the value.
pub(crate) struct Server {
    port: u16,
    _child: Child,
}

impl Server {
    async fn start(mut command: Command, port: u16) -> Result<Self> {
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(Self { port, _child: child });
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        bail!("a server does not listen at port {port}")
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

pub(crate) struct Rsync;

impl Rsync {
    pub(crate) async fn serve(place: &Path, from: &Path) -> Result<Server> {
        let (port, config) = (testkit::free_port(), place.join("rsyncd.conf"));
        let text = format!(
            "use chroot = no\n[data]\npath = {}\nread only = yes\n",
            from.display()
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(program("rsync")?);
        command.args(["--daemon", "--no-detach", "--address=127.0.0.1"]);
        command.arg(format!("--port={port}")).arg("--config").arg(&config);
        Server::start(command, port).await
    }

    /// Goes on with partial files, and believes what is there.
    pub(crate) async fn copy(through: SocketAddr, to: &Path, synced: bool) -> Result<()> {
        for _ in 0..TRIES {
            let mut command = Command::new(program("rsync")?);
            command.args(["-r", "--partial", "--append"]);
            command.args(synced.then_some("--fsync"));
            command.arg(format!("rsync://{through}/data/")).arg(to);
            if command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .status()
                .await?
                .success()
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        bail!("rsync did not get it over")
    }
}

pub(crate) struct Rclone;

impl Rclone {
    pub(crate) async fn serve(from: &Path) -> Result<Server> {
        let port = testkit::free_port();
        let mut command = Command::new(program("rclone")?);
        command.args(["serve", "http", "--config", "/dev/null", "--read-only"]);
        command.arg("--addr").arg(format!("127.0.0.1:{port}")).arg(from);
        Server::start(command, port).await
    }

    /// Many at once where there are many, and no question for each file's size.
    pub(crate) async fn copy(through: SocketAddr, to: &Path, files: usize) -> Result<()> {
        let transfers = if files > 100 { "32" } else { "4" };
        let mut command = Command::new(program("rclone")?);
        command.args([
            "copy",
            ":http:",
            "--config",
            "/dev/null",
            "--retries",
            "200",
            "--retries-sleep",
            "200ms",
        ]);
        command.args(["--transfers", transfers, "--checkers", transfers]);
        if files > 100 {
            command.arg("--http-no-head");
        }
        command.arg("--http-url").arg(format!("http://{through}")).arg(to);
        let status = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .status()
            .await?;
        if status.success() {
            Ok(())
        } else {
            bail!("rclone did not get it over")
        }
    }
}

/// Whether everything is there as it was.
pub(crate) fn check(to: &Path, files: &[Vec<u8>]) -> Result<()> {
    for (number, bytes) in files.iter().enumerate() {
        let path = to.join(format!("{number:05}.bin"));
        let found = std::fs::read(&path).with_context(|| format!("{} is missing", path.display()))?;
        if found != *bytes {
            bail!("{} is not what it was", path.display());
        }
    }
    Ok(())
}
