#![doc = include_str!("../README.md")]

mod bundling;
mod certs;
mod cli;
mod client;
mod demo;
mod init;
mod inspect;
mod link_offsets;
mod link_past;
mod link_verify;
mod linking;
mod mirroring;
mod output;
mod people;
mod sites;
mod token;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

/// What a shell is told of bad arguments, as in sysexits.h.
const BAD_ARGUMENTS: u8 = 64;

/// Does what the command line says.
pub fn execute() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { BAD_ARGUMENTS } else { 0 };
            // With nowhere to print to, the exit code still says it.
            drop(error.print());
            return code.into();
        }
    };
    let runtime = match common::chassis::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.into()),
    };
    match runtime.block_on(Box::pin(dispatch(cli.command))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error),
    }
}

fn complain(error: &anyhow::Error) -> ExitCode {
    // With nowhere to print to, the exit code still says it.
    drop(writeln!(std::io::stderr(), "fieldline: {error:#}"));
    if let Some(unlike) = error.downcast_ref::<link_verify::Unlike>() {
        return unlike.code().into();
    }
    ExitCode::FAILURE
}

async fn dispatch(command: Command) -> anyhow::Result<()> {
    common::chassis::provide_tls();
    match command {
        Command::Demo(demo) => demo::run(&demo).await,
        Command::Run(sites) => sites::run(&sites).await,
        Command::Init(init) => init::run(&init).await,
        Command::Certs(certs) => certs::make(&certs),
        Command::Site(site) => certs::site(&site).await,
        Command::Topics(topics) => inspect::topics(&topics).await,
        Command::Tail(tail) => inspect::tail(&tail).await,
        Command::Status(api) => inspect::status(&api).await,
        Command::Assets(assets) => inspect::assets(&assets).await,
        Command::Request(ids) => inspect::ask(&ids, "request").await,
        Command::Cancel(ids) => inspect::ask(&ids, "cancel").await,
        Command::Withdraw(withdraw) => inspect::withdraw(&withdraw).await,
        Command::Mirror(mirror) => mirroring::mirror(&mirror).await,
        Command::Link(link) => linking::run(&link).await,
        Command::Bundle(command) => bundling::bundle(&command).await,
        Command::Service(service) => inspect::service(&service).await,
        Command::DeadLetters(letters) => inspect::dead_letters(&letters).await,
        Command::SignIn(wish) => people::sign_in(&wish).await,
        Command::User(user) => people::user(&user).await,
        Command::Audit(search) => people::audit(&search).await,
    }
}
