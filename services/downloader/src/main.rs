//! The downloader service.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::chassis::main::<downloader::Downloader>()
}
