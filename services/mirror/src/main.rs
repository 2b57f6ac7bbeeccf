//! The process.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::chassis::main::<common::control::Enrolled<mirror::Mirror>>()
}
