//! The feed service.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::chassis::main::<feed::Feed>()
}
