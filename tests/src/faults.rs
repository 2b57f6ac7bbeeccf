//! Kills at random moments, from a printed seed.

use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::installation::{Installation, tell_engine};

/// The seed of this run: `FIELDLINE_SEED`, or a fresh one.
pub fn seed() -> u64 {
    std::env::var_os("FIELDLINE_SEED")
        .and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or_else(|| rand::rng().random())
}

/// What can be killed.
#[derive(Debug, Clone)]
enum Victim {
    Process(String),
    Engine(&'static str),
}

/// Kills every process and every broker of an installation `rounds` times, in random order, after random pauses of up
/// to `longest`, and starts each again at once. Prints each kill.
///
/// # Errors
/// When one cannot be started again.
pub async fn kill_everything(
    installation: &mut Installation,
    seed: u64,
    rounds: usize,
    longest: Duration,
) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut victims: Vec<Victim> = installation
        .processes
        .iter()
        .map(|process| Victim::Process(process.name.clone()))
        .collect();
    victims.extend(installation.engines.iter().copied().map(Victim::Engine));
    for round in 0..rounds {
        victims.shuffle(&mut random);
        for victim in &victims {
            tokio::time::sleep(longest.mul_f64(random.random())).await;
            installation.nothing_has_ended()?;
            say(round, victim);
            match victim {
                Victim::Process(name) => {
                    let process = installation.process(name)?;
                    process.kill();
                    process.again()?;
                }
                Victim::Engine(name) => {
                    tell_engine("kill", name)?;
                    tell_engine("start", name)?;
                }
            }
        }
    }
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "the order of the kills is what repeats a failure"
)]
fn say(round: usize, victim: &Victim) {
    println!("round {round}: kill -9 {victim:?}");
}
