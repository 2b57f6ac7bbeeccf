//! One process of an installation under test: started, killed, started again, measured.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

/// Clock ticks in a second, as /proc counts them; fixed in Linux's user interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// The program `name` of this workspace, built beside the running one.
///
/// # Errors
/// When it is not there, with the command that builds it.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the running program")?;
    // Tests live one directory deeper than programs.
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "{name} is not built beside {}; run cargo build --workspace --bins",
            own.display()
        )
    })
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// User and system time.
    pub cpu_seconds: f64,
    /// Resident memory now.
    pub resident_bytes: u64,
    /// The most resident memory so far.
    pub peak_bytes: u64,
    /// Bytes that it has caused to be read from and written to storage, sockets and pipes.
    pub io_bytes: u64,
}

/// How many connections processes of this machine have to a port, by IPv4.
///
/// # Errors
/// When /proc does not tell.
pub fn connections_to(port: u16) -> Result<usize> {
    let table = std::fs::read_to_string("/proc/net/tcp").context("cannot read /proc/net/tcp")?;
    // Its number, the local address, the other one, and the state: 01 is established.
    let there = format!(":{port:04X}");
    let rows = table
        .lines()
        .map(|row| row.split_whitespace().collect::<Vec<_>>());
    Ok(rows
        .filter(|row| row.get(2).is_some_and(|other| other.ends_with(&there)) && row.get(3) == Some(&"01"))
        .count())
}

/// Reads what process `pid` has used, from /proc.
///
/// # Errors
/// When it is gone.
pub fn usage(pid: u32) -> Result<Usage> {
    let read = |file: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/{file}"))
            .with_context(|| format!("process {pid} is gone"))
    };
    let stat = read("stat")?;
    // The second field is the name in parentheses, which may hold blanks.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    let status = read("status")?;
    let named = |text: &str, name: &str| -> u64 {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse().ok())
            .unwrap_or(0)
    };
    let io = read("io").unwrap_or_default();
    Ok(Usage {
        cpu_seconds: (ticks(11) + ticks(12)) / TICKS_PER_SECOND,
        resident_bytes: named(&status, "VmRSS:") * 1024,
        peak_bytes: named(&status, "VmHWM:") * 1024,
        io_bytes: named(&io, "rchar:") + named(&io, "wchar:"),
    })
}

/// A process with its log file. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    /// How the installation calls it, as `edge-1.listener`.
    pub name: String,
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    used_before: f64,
    peak_before: u64,
}

impl Process {
    /// Starts a program, with the environment that images have; its output goes to `<logs>/<name>.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, program: PathBuf, arguments: Vec<String>, logs: &Path) -> Result<Self> {
        let mut process = Self {
            name: name.to_owned(),
            program,
            arguments,
            log: logs.join(format!("{name}.log")),
            child: None,
            used_before: 0.0,
            peak_before: 0,
        };
        process.again()?;
        Ok(process)
    }

    /// Starts it again after it ended.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn again(&mut self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .context("cannot open a log file")?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .env("MALLOC_ARENA_MAX", "2")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Kills it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        self.note_usage();
        if let Some(mut child) = self.child.take() {
            // A process that has ended already is as dead as it should be.
            let _ended = child.kill();
            let _status = child.wait();
        }
    }

    /// Asks it to stop, and waits.
    ///
    /// # Errors
    /// When it has not ended within the limit, or ended with an error.
    pub async fn stop(&mut self, limit: std::time::Duration) -> Result<()> {
        self.note_usage();
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        Command::new("kill")
            .arg(child.id().to_string())
            .status()
            .context("cannot send a signal")?;
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            if let Some(status) = child.try_wait()? {
                return if status.success() {
                    Ok(())
                } else {
                    bail!("{} ended with {status}", self.name)
                };
            }
            if tokio::time::Instant::now() > deadline {
                let _killed = child.kill();
                let _status = child.wait();
                bail!(
                    "{} did not stop within {limit:?}; its log is {}",
                    self.name,
                    self.log.display()
                );
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Says whether it ended by itself, and how.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(format!(
            "{} ended with {status}; its log is {}",
            self.name,
            self.log.display()
        ))
    }

    fn note_usage(&mut self) {
        if let Some(now) = self.pid().and_then(|pid| usage(pid).ok()) {
            self.used_before += now.cpu_seconds;
            self.peak_before = self.peak_before.max(now.peak_bytes);
        }
    }

    /// What it has used, over all its lives.
    pub fn usage(&self) -> Usage {
        let now = self.pid().and_then(|pid| usage(pid).ok()).unwrap_or_default();
        Usage {
            cpu_seconds: now.cpu_seconds + self.used_before,
            peak_bytes: now.peak_bytes.max(self.peak_before),
            ..now
        }
    }

    /// The last lines of its log.
    pub fn last_lines(&self, count: usize) -> String {
        self.last(count, |_| true)
    }

    /// The last of them that warn.
    pub fn last_warnings(&self, count: usize) -> String {
        self.last(count, |line| line.contains("WARN") || line.contains("ERROR"))
    }

    fn last(&self, count: usize, which: impl Fn(&str) -> bool) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| which(line)).collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
