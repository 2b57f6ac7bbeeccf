//! The `fieldline` program.

fn main() -> std::process::ExitCode {
    fieldline::execute()
}
