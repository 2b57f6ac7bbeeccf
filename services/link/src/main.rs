//! The program of the service.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::chassis::main::<common::control::Enrolled<link::Link>>()
}
