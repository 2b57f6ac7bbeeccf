//! Names and ports: whether a host has an address, and whether anybody listens there.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::{Failed, Ladder, StepName};

/// The longest that a name, a connection or a handshake is waited for.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// Addresses that are tried of one name.
const ADDRESSES: usize = 4;
/// Servers that are tried of one list.
const SERVERS: usize = 8;

/// A host that somebody listens at.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) stream: TcpStream,
}

/// The addresses of one host.
async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    match timeout(LIMIT, lookup_host((host, port))).await {
        Ok(Ok(found)) => {
            let found: Vec<_> = found.take(ADDRESSES).collect();
            if found.is_empty() {
                return Err(format!("{host} has no address"));
            }
            Ok(found)
        }
        Ok(Err(error)) => Err(format!("{host} has no address: {error}")),
        Err(_) => Err(format!(
            "no name server told the address of {host} within {} s",
            LIMIT.as_secs()
        )),
    }
}

async fn connect(host: &str, addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut why = String::new();
    let all = async {
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Some(stream),
                Err(error) => why = format!("nobody answers at {}: {error}", shown(host, *address)),
            }
        }
        None
    };
    match timeout(LIMIT, all).await {
        Ok(Some(stream)) => Ok(stream),
        Ok(None) => Err(why),
        Err(_) => Err(format!("no answer from {host} within {} s", LIMIT.as_secs())),
    }
}

fn shown(host: &str, address: SocketAddr) -> String {
    if host.parse::<IpAddr>().is_ok() {
        address.to_string()
    } else {
        format!("{host} ({address})")
    }
}

/// The first two steps, to any of the servers: one that answers is enough, and the others are said.
pub(super) async fn reach(ladder: &mut Ladder<'_>, servers: &[(String, u16)]) -> Result<Reached, Failed> {
    let mut named = Vec::new();
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for (host, port) in servers.iter().take(SERVERS) {
        ladder.trying(StepName::Name, format!("looking up {host}"));
        match addresses(host, *port).await {
            Ok(addresses) => {
                let list: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
                if host.parse::<IpAddr>().is_ok() {
                    found.push(format!("{host} is an address, there is no name to look up"));
                } else {
                    found.push(format!("{host} is {}", list.join(", ")));
                }
                named.push((host, *port, addresses));
            }
            Err(problem) => problems.push(problem),
        }
    }
    if named.is_empty() {
        return Err(Failed::new(
            StepName::Name,
            problems.join("; "),
            "check the host's name and this site's name server, or enter the core's address as a number",
        ));
    }
    ladder.passed(StepName::Name, [found, problems].concat().join("; "));
    let mut problems = Vec::new();
    for (host, port, addresses) in named {
        ladder.trying(StepName::Port, format!("connecting to {host}, port {port}"));
        match connect(host, &addresses).await {
            Ok(stream) => {
                problems.insert(0, format!("somebody listens at {host}, port {port}"));
                ladder.passed(StepName::Port, problems.join("; "));
                return Ok(Reached {
                    host: host.clone(),
                    port,
                    stream,
                });
            }
            Err(problem) => problems.push(problem),
        }
    }
    Err(Failed::new(
        StepName::Port,
        problems.join("; "),
        "check the port, that the core runs, and that no firewall on the way stops connections from here",
    ))
}
