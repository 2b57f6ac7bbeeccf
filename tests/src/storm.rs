//! Faults of lines and of processes, one after the other, from a seed.

use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use testkit::proxy::{Conditions, Cut, End, Flow, Proxy, Way};

use crate::installation::{Installation, tell_engine};

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection that carries a random byte of this direction is ended there.
    Cut(Way, u64, Cut),
    /// Nothing moves, new connections are reset.
    Blackout(Duration),
    /// Nothing moves, new connections are accepted.
    Stall(Duration),
    /// One end of every connection is gone, and the other is not told.
    HalfOpen(End),
    /// 600 ms there and back.
    Long(Duration),
    /// 64 kbit/s, and 600 ms.
    Thin(Duration),
    /// Bits are flipped.
    Dirty(Duration),
    /// A process is killed and started again.
    Process(String),
    /// A broker is killed and started again.
    Engine(&'static str),
}

/// Where faults come from.
#[derive(Debug)]
pub struct Storm {
    random: StdRng,
    bag: Vec<Fault>,
    processes: Vec<String>,
    engines: Vec<&'static str>,
}

impl Storm {
    /// Faults of all kinds, those of these processes and engines among them. Bits are flipped too: lines must be
    /// encrypted, for what is not cannot tell.
    pub fn new(seed: u64, processes: &[&str], engines: &[&'static str]) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            bag: Vec::new(),
            processes: processes.iter().map(|name| (*name).to_owned()).collect(),
            engines: engines.to_vec(),
        }
    }

    /// The next fault: each kind comes once before one comes again.
    pub fn next_fault(&mut self) -> Fault {
        if self.bag.is_empty() {
            self.fill();
        }
        // Just filled.
        self.bag.pop().unwrap_or(Fault::HalfOpen(End::Client))
    }

    /// How long the sites are left alone before the next one.
    pub fn pause(&mut self) -> Duration {
        self.time(0..2500)
    }

    fn time(&mut self, milliseconds: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(milliseconds))
    }

    fn fill(&mut self) {
        let mut bag = Vec::new();
        for way in [Way::Up, Way::Down] {
            for cut in [Cut::Reset, Cut::Fin] {
                // A handshake, a request, or the middle of a batch.
                let most = if self.random.random_bool(0.3) { 500 } else { 20_000 };
                bag.push(Fault::Cut(way, self.random.random_range(0..most), cut));
            }
        }
        bag.push(Fault::Blackout(self.time(1000..8000)));
        bag.push(Fault::Stall(self.time(1000..12_000)));
        bag.push(Fault::HalfOpen(End::Client));
        bag.push(Fault::HalfOpen(End::Server));
        bag.push(Fault::Long(self.time(2000..6000)));
        bag.push(Fault::Thin(self.time(3000..10_000)));
        bag.push(Fault::Dirty(self.time(1000..4000)));
        bag.extend(self.processes.iter().cloned().map(Fault::Process));
        bag.extend(self.engines.iter().copied().map(Fault::Engine));
        bag.shuffle(&mut self.random);
        self.bag = bag;
    }
}

/// Lets a fault happen, on all lines at once, and waits until it is over and the lines are as they were.
///
/// # Errors
/// When a process or an engine cannot be started again.
pub async fn strike(fault: &Fault, lines: &[Proxy], installation: &mut Installation) -> Result<()> {
    let for_a_while = async |long: Duration, change: &dyn Fn(&mut Conditions)| {
        let before: Vec<Conditions> = lines.iter().map(Proxy::conditions).collect();
        for line in lines {
            line.change(change);
        }
        tokio::time::sleep(long).await;
        for (line, before) in lines.iter().zip(before) {
            line.set(before);
        }
    };
    match fault {
        Fault::Cut(way, bytes, cut) => {
            for line in lines {
                line.cut_after(*way, *bytes, *cut);
            }
        }
        Fault::Blackout(long) => for_a_while(*long, &|now| now.flow = Flow::Dark).await,
        Fault::Stall(long) => for_a_while(*long, &|now| now.flow = Flow::Stalled).await,
        Fault::HalfOpen(kept) => {
            for line in lines {
                line.half_open(*kept);
            }
        }
        Fault::Long(long) => {
            let delay = Duration::from_millis(300);
            for_a_while(*long, &|now| {
                now.up.delay = delay;
                now.down.delay = delay;
            })
            .await;
        }
        Fault::Thin(long) => {
            let thin = Conditions::slow(64_000, Duration::from_millis(600));
            for_a_while(*long, &|now| *now = thin).await;
        }
        Fault::Dirty(long) => {
            for_a_while(*long, &|now| {
                now.up.flip = Some(5_000);
                now.down.flip = Some(5_000);
            })
            .await;
        }
        Fault::Process(name) => {
            let process = installation.process(name)?;
            process.kill();
            process.again()?;
        }
        Fault::Engine(name) => {
            let name = *name;
            tokio::task::spawn_blocking(move || -> Result<()> {
                tell_engine("kill", name)?;
                tell_engine("start", name)
            })
            .await??;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_is_the_same_storm_with_every_kind_in_it() {
        let faults = |seed| {
            let mut storm = Storm::new(seed, &["link", "mirror"], &["core"]);
            (0..60).map(|_| storm.next_fault()).collect::<Vec<_>>()
        };
        assert_eq!(faults(7), faults(7));
        assert_ne!(faults(7), faults(8));
        let all = faults(7);
        for wanted in [
            Fault::Process("link".into()),
            Fault::Engine("core"),
            Fault::HalfOpen(End::Server),
        ] {
            assert!(all.iter().filter(|fault| **fault == wanted).count() >= 4);
        }
        assert!(all.iter().any(|fault| matches!(fault, Fault::Dirty(_))));
    }
}
