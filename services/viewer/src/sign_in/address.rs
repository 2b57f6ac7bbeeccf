//! Where a request came from. What a proxy says of that counts only when the proxy is known.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The proxies whose word is taken.
#[derive(Debug, Default)]
pub(crate) struct Proxies(Vec<IpNet>);

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) address: IpAddr,
    /// Whether the caller's own connection was encrypted.
    pub(crate) encrypted: bool,
}

impl Proxies {
    /// Reads addresses and networks, as `10.0.0.7` and `10.0.0.0/8`.
    pub(crate) fn parse(texts: &[String]) -> Result<Self, String> {
        let network = |text: &String| {
            text.parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                .map_err(|_| format!("{text:?} is no address and no network, as 10.0.0.7 or 10.0.0.0/8"))
        };
        texts.iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    /// Who the peer is, or for whom it speaks: the last hop, which the proxy itself has seen.
    pub(crate) fn origin(&self, peer: SocketAddr, headers: &HeaderMap) -> Origin {
        let peer = peer.ip().to_canonical();
        let direct = Origin {
            address: peer,
            encrypted: false,
        };
        if !self.0.iter().any(|network| network.contains(&peer)) {
            return direct;
        }
        let last = |name: &str| {
            let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
            value.rsplit(',').next().map(str::trim)
        };
        Origin {
            address: last("x-forwarded-for")
                .and_then(|text| text.parse().ok())
                .unwrap_or(peer),
            encrypted: last("x-forwarded-proto") == Some("https"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_known_proxy_is_believed_and_only_its_last_hop() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "6.6.6.6, 192.0.2.9".parse().unwrap());
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        let known = Proxies::parse(&["10.0.0.0/8".to_owned(), "::1".to_owned()]).unwrap();
        let from = |peer: &str| {
            let origin = known.origin(peer.parse().unwrap(), &headers);
            (origin.address.to_string(), origin.encrypted)
        };
        assert_eq!(from("10.1.2.3:99"), ("192.0.2.9".to_owned(), true));
        assert_eq!(from("[::1]:99"), ("192.0.2.9".to_owned(), true));
        assert_eq!(from("203.0.113.4:99"), ("203.0.113.4".to_owned(), false));
        assert!(Proxies::parse(&["proxy".to_owned()]).is_err());
    }
}
