//! Starting other programs, and saying which.

use std::path::PathBuf;

use anyhow::{Context, bail};
use tokio::process::Command;

/// The workspace's directory.
pub(crate) fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// A program that starts in the workspace's directory.
pub(crate) fn program(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments).current_dir(root()).kill_on_drop(true);
    command
}

/// The cargo that runs this, as if nobody had run it: what `cargo run` says of this package would have it build again
/// what looks at that (ring, and all that is above), and once more without it.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = program(&cargo.to_string_lossy(), arguments);
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a program to its end; Ctrl-C ends the wait, so that what was started before can be stopped.
pub(crate) async fn succeed(mut command: Command) -> anyhow::Result<()> {
    let shown = format!("{:?}", command.as_std());
    say(&shown);
    let mut child = command.spawn().with_context(|| format!("cannot start {shown}"))?;
    tokio::select! {
        status = child.wait() => {
            let status = status.with_context(|| format!("cannot wait for {shown}"))?;
            if !status.success() {
                bail!("{shown} ended with {status}");
            }
            Ok(())
        }
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}

/// Tells the person at the terminal.
#[expect(clippy::print_stderr, reason = "a person reads this")]
pub(crate) fn say(text: &str) {
    eprintln!("xtask: {text}");
}
