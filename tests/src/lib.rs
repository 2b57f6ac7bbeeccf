//! Whole installations as real processes, and the scenarios and faults that are tried on them.

pub mod carried;
pub mod catalogue;
pub mod faults;
pub mod frames;
pub mod installation;
pub mod live_first;
pub mod load;
pub mod pair;
pub mod process;
pub mod scenario;
pub mod site;
pub mod storm;
pub mod under_way;

/// A fresh directory that stays, with every log in it, unless the scenario passes.
///
/// # Errors
/// When it cannot be made.
pub fn kept_on_failure() -> anyhow::Result<tempfile::TempDir> {
    let mut directory = tempfile::Builder::new().prefix("fieldline-").tempdir()?;
    directory.disable_cleanup(true);
    Ok(directory)
}
