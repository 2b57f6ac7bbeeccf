//! The command line that every service's binary has.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde_json::Value;
use telemetry::Telemetry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::run::{End, run, shown};
use crate::{Config, Host, Invalid, Loaded, Service, Settings, Stop};

const FAILED: u8 = 1;
const FENCED: u8 = 3;
const BAD_ARGUMENTS: u8 = 64;
const BAD_SETTINGS: u8 = 78;

#[derive(Debug, Parser)]
struct Cli {
    /// Settings file (TOML).
    #[arg(long, env = "CONFIG_FILE", global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Work until told to stop (what happens without a command).
    Run,
    /// Say whether the settings can work.
    Check,
    /// Print the settings as they are merged, each with where it was set.
    Config,
    /// Ask the running service whether it can work.
    Healthcheck,
    /// Print the release.
    Version,
}

/// The whole of a service's `main`: 0 clean, 64 bad arguments, 78 bad settings, 3 fenced by another instance, 1 failed.
///
/// SIGTERM and SIGINT begin an orderly stop; a second one ends the process at once.
pub fn main<S: Service>() -> ExitCode
where
    S::Settings: Clone,
{
    let cli = match parse(S::NAME) {
        Ok(cli) => cli,
        Err(error) => {
            drop(error.print());
            return if error.use_stderr() {
                BAD_ARGUMENTS.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    if matches!(cli.command, Some(Command::Version)) {
        return say(&format!("{} {}", S::NAME, crate::VERSION));
    }
    let loaded = Config::read(cli.config.as_deref(), environment()).and_then(|config| config.load::<S>());
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(invalid) => return refuse(S::NAME, &invalid),
    };
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => start::<S>(loaded),
        Command::Check | Command::Version => say("settings are fine"),
        Command::Config => say(&listing(S::NAME, &loaded)),
        Command::Healthcheck => healthcheck(&loaded),
    }
}

fn parse(name: &'static str) -> Result<Cli, clap::Error> {
    use clap::{CommandFactory, FromArgMatches};
    Cli::from_arg_matches(
        &Cli::command()
            .name(name)
            .version(crate::VERSION)
            .try_get_matches()?,
    )
}

/// The environment, as settings are read from it; what is no text is left out.
pub fn environment() -> Vec<(String, String)> {
    fn text(value: OsString) -> Option<String> {
        value.into_string().ok()
    }
    std::env::vars_os()
        .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
        .collect()
}

fn say(text: &str) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => FAILED.into(),
    }
}

fn complain(text: &str, code: u8) -> ExitCode {
    drop(writeln!(io::stderr(), "{text}"));
    code.into()
}

fn refuse(name: &str, invalid: &Invalid) -> ExitCode {
    let problems: String = invalid.0.iter().map(|problem| format!("\n  {problem}")).collect();
    complain(&format!("{name}: settings cannot work{problems}"), BAD_SETTINGS)
}

/// One line for each value: `feed.interval = "5s"  # core.toml [common]`.
fn listing<T: Settings>(name: &str, loaded: &Loaded<T>) -> String {
    fn walk(path: &str, value: &Value, lines: &mut Vec<(String, String)>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    walk(
                        &if path.is_empty() {
                            key.clone()
                        } else {
                            format!("{path}.{key}")
                        },
                        value,
                        lines,
                    );
                }
            }
            value => lines.push((path.to_owned(), value.to_string())),
        }
    }
    let shown = shown(loaded);
    let mut lines = Vec::new();
    walk("", &shown["host"], &mut lines);
    walk("", &shown["settings"], &mut lines);
    lines.sort();
    lines.dedup();
    let section = name.replace('-', "_");
    let line = |(path, value): (String, String)| {
        let origin = loaded.origins.get(&path).map_or("default", String::as_str);
        format!("{section}.{path} = {value}  # {origin}")
    };
    lines.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The runtime of a process. Services wait more than they compute, and each thread costs memory, so there are few.
pub fn runtime() -> io::Result<Runtime> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
}

fn start<S: Service>(loaded: Loaded<S::Settings>) -> ExitCode
where
    S::Settings: Clone,
{
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start the runtime: {error}"), FAILED),
    };
    provide_tls();
    let telemetry = match telemetry::init(&loaded.host.telemetry(), S::NAME) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            return complain(
                &format!("{}: {}", S::NAME, telemetry::chain(&error)),
                BAD_SETTINGS,
            );
        }
    };
    let code = runtime.block_on(serve::<S>(loaded, telemetry.clone()));
    runtime.shutdown_timeout(Duration::from_secs(2));
    telemetry.shutdown();
    code
}

async fn serve<S: Service>(loaded: Loaded<S::Settings>, telemetry: Telemetry) -> ExitCode
where
    S::Settings: Clone,
{
    let stop = Stop::new();
    if let Err(error) = stop_on_signals(stop.clone()) {
        return complain(
            &format!("{}: cannot listen for signals: {error}", S::NAME),
            FAILED,
        );
    }
    loop {
        let host = Host::new(
            S::NAME,
            loaded.host.clone(),
            telemetry.clone(),
            stop.child_token(),
        );
        match Box::pin(run::<S>(host, loaded.clone())).await {
            End::Clean => return ExitCode::SUCCESS,
            End::Again => {}
            End::Failed(_) => return FAILED.into(),
            End::Fenced(_) => return FENCED.into(),
        }
    }
}

/// Uses ring for TLS wherever a library takes the process's provider.
pub fn provide_tls() {
    // An error means that there is one already, from an earlier call.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// Cancels `stop` at the first SIGTERM or SIGINT; the second one ends the process.
pub(crate) fn stop_on_signals(stop: Stop) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                stop.cancel();
            }
        }
        #[expect(clippy::exit, reason = "the operator asked twice")]
        std::process::exit(FAILED.into());
    });
    Ok(())
}

fn healthcheck<T>(loaded: &Loaded<T>) -> ExitCode {
    let Some(mut address) = loaded.host.admin else {
        return complain("there is no admin port to ask; set admin", BAD_SETTINGS);
    };
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.take(64 << 10).read_to_string(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start the runtime: {error}"), FAILED),
    };
    match runtime.block_on(async { tokio::time::timeout(Duration::from_secs(8), ask).await }) {
        Ok(Ok(answer)) => {
            let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            if answer.starts_with("HTTP/1.1 200") {
                say(body)
            } else {
                complain(body, FAILED)
            }
        }
        Ok(Err(error)) => complain(
            &format!("cannot reach the admin port at {address}: {error}"),
            FAILED,
        ),
        Err(_) => complain(&format!("no answer from the admin port at {address}"), FAILED),
    }
}
