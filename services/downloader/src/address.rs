//! Which addresses a link may lead to.
//!
//! A catalogue is written by others, so a link is a stranger's wish. Every hop is checked as a URL ([`Guard::check`]),
//! and every address that a name stands for is checked again where the connection is made ([`PublicOnly`]), so that
//! neither a redirect, nor DNS, nor an odd spelling reaches what the operator did not allow.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Why a link, or a hop of it, was not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Refusal {
    #[error("{0} is no link to a host")]
    NoHost(String),
    #[error("scheme {scheme} of {host} is not followed; http and https are")]
    Scheme { scheme: String, host: String },
    #[error("the link to {0} carries a user name or password; only plain links are followed")]
    UserInfo(String),
    #[error("address {address} is {kind} and not allowed; add {address} to downloader.allow to permit it")]
    Literal { address: String, kind: &'static str },
    #[error(
        "host {host} stands for {address}, which is {kind} and not allowed; add {host} to downloader.allow to permit it"
    )]
    Resolved {
        host: String,
        address: IpAddr,
        kind: &'static str,
    },
    #[error("{host} is allowed in downloader.allow on other ports only, not on {port}")]
    Port { host: String, port: u16 },
}

/// How far a URL's host is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Any host: its addresses must be public or in an allowed network.
    Public,
    /// The operator named this host (and port): wherever it resolves to is fine.
    Listed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    host: String,
    port: Option<u16>,
}

/// The operator's list of what else may be reached besides public addresses.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    listed: Vec<Listed>,
    networks: Vec<IpNet>,
}

impl Guard {
    /// Reads entries `host`, `host:port` and networks such as `10.1.0.0/16`; the error lists each wrong one.
    pub fn new(allow: &[String]) -> Result<Self, Vec<String>> {
        let mut guard = Self::default();
        let mut problems = Vec::new();
        for entry in allow {
            if guard.add(entry.trim()).is_none() {
                problems.push(format!(
                    "allow: {entry:?} is none of host, host:port, and a network such as 10.1.0.0/16"
                ));
            }
        }
        if problems.is_empty() {
            Ok(guard)
        } else {
            Err(problems)
        }
    }

    fn add(&mut self, entry: &str) -> Option<()> {
        if entry.contains('/') {
            self.networks.push(entry.parse::<IpNet>().ok()?.trunc());
            return Some(());
        }
        if let Ok(address) = entry.trim_matches(['[', ']']).parse::<IpAddr>() {
            // The address itself, whatever name leads there.
            self.networks.push(IpNet::from(address));
            return Some(());
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        let host = Host::parse(host).ok()?.to_string();
        self.listed.push(Listed { host, port });
        Some(())
    }

    /// Says whether a hop may be asked for at all.
    pub fn check(&self, url: &Url) -> Result<Trust, Refusal> {
        let Some(host) = url.host() else {
            return Err(Refusal::NoHost(url.as_str().chars().take(200).collect()));
        };
        let name = host.to_string();
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refusal::Scheme {
                scheme: url.scheme().to_owned(),
                host: name,
            });
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::UserInfo(name));
        }
        let port = url.port_or_known_default().unwrap_or_default();
        let mut other_port = false;
        for listed in self.listed.iter().filter(|listed| listed.host == name) {
            if listed.port.is_none_or(|wanted| wanted == port) {
                return Ok(Trust::Listed);
            }
            other_port = true;
        }
        let address = match host {
            Host::Domain(_) => return Ok(Trust::Public),
            Host::Ipv4(address) => IpAddr::V4(address),
            Host::Ipv6(address) => IpAddr::V6(address),
        };
        match self.forbidden(address) {
            None => Ok(Trust::Public),
            Some(_) if other_port => Err(Refusal::Port { host: name, port }),
            Some(kind) => Err(Refusal::Literal { address: name, kind }),
        }
    }

    /// What is wrong with an address; nothing for one that is public or in an allowed network.
    pub fn forbidden(&self, address: IpAddr) -> Option<&'static str> {
        if self.networks.iter().any(|network| network.contains(&address)) {
            return None;
        }
        match address {
            IpAddr::V4(address) => special_v4(address),
            IpAddr::V6(address) => special_v6(address),
        }
    }
}

/// The kind of an IPv4 address that is not on the public Internet (IANA's special-purpose registry).
fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, d] = address.octets();
    let kind = match (a, b, c, d) {
        (169, 254, 169, 254) | (168, 63, 129, 16) => "a cloud's metadata service",
        (0, ..) => "an unspecified address",
        (10, ..) | (172, 16..=31, ..) | (192, 168, ..) => "a private address",
        (100, 64..=127, ..) => "a carrier's shared address",
        (127, ..) => "a loopback address",
        (169, 254, ..) => "a link-local address",
        (192, 0, 2, _) | (198, 51, 100, _) | (203, 0, 113, _) => "a documentation address",
        (192, 0, 0, _) | (192, 88, 99, _) => "a reserved address",
        (198, 18 | 19, ..) => "a benchmarking address",
        (224..=239, ..) => "a multicast address",
        (240..=255, ..) => "a reserved address",
        _ => return None,
    };
    Some(kind)
}

/// The kind of an IPv6 address that is not on the public Internet, or that hides an IPv4 address that is not.
fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let s = address.segments();
    let embedded = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    let kind = match s {
        [0, 0, 0, 0, 0, 0, 0, 0] => "an unspecified address",
        [0, 0, 0, 0, 0, 0, 0, 1] => "a loopback address",
        [0, 0, 0, 0, 0, 0xffff | 0, ..] => "an IPv4 address spelt as IPv6",
        // NAT64 and 6to4 lead to the IPv4 address inside.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => return special_v4(embedded(high, low)),
        [0x2002, high, low, ..] => return special_v4(embedded(high, low)),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => "a documentation address",
        [0x2001, 0..=0x1ff, ..] => "a reserved address",
        [0x2000..=0x3fff, ..] => return None,
        [0xfc00..=0xfdff, ..] => "a private address",
        [0xfe80..=0xfebf, ..] => "a link-local address",
        [0xff00..=0xffff, ..] => "a multicast address",
        _ => "a reserved address",
    };
    Some(kind)
}

/// Resolves names as the system does, and gives only addresses that the guard lets pass: the check and the connection
/// see the same answer, so DNS cannot change its mind in between.
#[derive(Clone)]
pub struct PublicOnly(pub Arc<Guard>);

impl fmt::Debug for PublicOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicOnly")
    }
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Arc::clone(&self.0);
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            // One forbidden address among public ones is a trick, not a choice: the name is refused.
            for address in found.iter().map(SocketAddr::ip) {
                if let Some(kind) = guard.forbidden(address) {
                    return Err(Refusal::Resolved { host, address, kind }.into());
                }
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allow: &[&str]) -> Guard {
        Guard::new(&allow.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    fn check(guard: &Guard, link: &str) -> Result<Trust, Refusal> {
        guard.check(&Url::parse(link).unwrap())
    }

    #[test]
    fn every_spelling_of_a_forbidden_address_is_refused() {
        for link in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://0177.0.0.1/",
            "http://0.0.0.0/",
            "http://10.0.0.1/",
            "http://172.31.255.255/",
            "http://192.168.1.1/",
            "http://100.64.0.1/",
            "http://169.254.169.254/latest/meta-data/",
            "http://168.63.129.16/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "http://192.0.2.1/",
            "http://198.18.0.1/",
            "http://[::]/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::127.0.0.1]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[64:ff9b:1::1]/",
            "http://[2002:7f00:1::]/",
            "http://[2001:0:7f00:1::]/",
            "http://[fd00:ec2::254]/",
            "http://[fe80::1]/",
            "http://[ff02::1]/",
            "http://[2001:db8::1]/",
        ] {
            assert!(check(&guard(&[]), link).is_err(), "{link}");
        }
    }

    #[test]
    fn public_addresses_and_names_pass() {
        for link in [
            "https://images-assets.nasa.gov/image/x.jpg",
            "http://8.8.8.8/",
            "http://[2606:4700::1]/",
            "http://[64:ff9b::808:808]/",
            "http://172.32.0.1/",
        ] {
            assert_eq!(check(&guard(&[]), link), Ok(Trust::Public), "{link}");
        }
    }

    #[test]
    fn only_plain_http_links_are_followed() {
        for link in [
            "ftp://example.org/",
            "file:///etc/passwd",
            "http://user:word@example.org/",
            "data:text/plain,x",
        ] {
            assert!(check(&guard(&[]), link).is_err(), "{link}");
        }
    }

    #[test]
    fn allow_names_hosts_ports_and_networks() {
        let named = guard(&["localhost:8080", "depot.internal", "127.0.0.1:9000", "[::1]:9000"]);
        assert_eq!(check(&named, "http://localhost:8080/"), Ok(Trust::Listed));
        assert_eq!(
            check(&named, "http://localhost:8081/"),
            Ok(Trust::Public),
            "the resolver refuses it"
        );
        assert_eq!(check(&named, "http://DEPOT.internal/x"), Ok(Trust::Listed));
        assert_eq!(check(&named, "http://127.0.0.1:9000/"), Ok(Trust::Listed));
        assert_eq!(check(&named, "http://[::1]:9000/"), Ok(Trust::Listed));
        assert_eq!(
            check(&named, "http://127.0.0.1:9001/"),
            Err(Refusal::Port {
                host: "127.0.0.1".into(),
                port: 9001
            })
        );
        let network = guard(&["10.1.0.0/16", "127.0.0.1"]);
        assert!(check(&network, "http://10.1.2.3/").is_ok());
        assert!(check(&network, "http://10.2.0.1/").is_err());
        assert!(check(&network, "http://127.0.0.1:1/").is_ok());
        assert!(
            Guard::new(&["10.0.0.0/99".into(), "a b".into(), "host:port".into()])
                .unwrap_err()
                .len()
                == 3
        );
    }

    #[tokio::test]
    async fn a_name_that_stands_for_loopback_is_refused() {
        let resolver = PublicOnly(Arc::new(guard(&[])));
        let Err(error) = resolver.resolve("localhost".parse().unwrap()).await else {
            panic!("localhost was resolved");
        };
        let refusal = error.downcast_ref::<Refusal>().unwrap().to_string();
        assert!(refusal.contains("host localhost stands for"), "{refusal}");
        assert!(refusal.contains("downloader.allow"), "{refusal}");
        let allowed = PublicOnly(Arc::new(guard(&["127.0.0.0/8", "::1"])));
        assert!(allowed.resolve("localhost".parse().unwrap()).await.is_ok());
    }
}
