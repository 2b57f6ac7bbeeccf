//! Where a core is, as an enrolment says it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

/// Where a core's broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerAddress {
    /// Kafka, at these hosts and ports.
    Kafka {
        /// Those that are asked first; at least one.
        servers: Vec<(String, u16)>,
        /// Mutual TLS with the enrolment's certificates. Without it, whoever is on the way reads along.
        tls: bool,
    },
    /// The embedded broker of a core on this machine.
    File(PathBuf),
}

impl BrokerAddress {
    /// The address as `[common.broker] url` has it; whether with TLS is not in it.
    pub fn url(&self) -> String {
        match self {
            Self::Kafka { servers, .. } => format!("kafka://{}", list(servers)),
            Self::File(_) => self.to_string(),
        }
    }
}

fn list(servers: &[(String, u16)]) -> String {
    let server = |(host, port): &(String, u16)| match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    servers.iter().map(server).collect::<Vec<_>>().join(",")
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kafka { servers, tls: true } => write!(f, "kafka://{}", list(servers)),
            Self::Kafka { servers, tls: false } => write!(f, "kafka+plain://{}", list(servers)),
            Self::File(path) => match Url::from_file_path(path) {
                Ok(url) => write!(f, "sqlite{}", url.as_str().trim_start_matches("file")),
                Err(()) => Err(fmt::Error),
            },
        }
    }
}

const RIGHT: &str =
    "write it as kafka://host:9093, or kafka+plain://host:9092 where the way there needs no TLS";

impl FromStr for BrokerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let no = || format!("{:?} is no address of a broker; {RIGHT}", shown(text));
        let (scheme, rest) = text.split_once("://").ok_or_else(no)?;
        let tls = match scheme {
            "kafka" => true,
            "kafka+plain" => false,
            "sqlite" => {
                let path = Url::parse(&format!("file://{rest}"))
                    .ok()
                    .filter(|url| !url.has_host());
                let path = path.and_then(|url| url.to_file_path().ok());
                return path
                    .filter(|path| path.file_name().is_some())
                    .map(Self::File)
                    .ok_or_else(|| format!("{:?} needs an absolute path", shown(text)));
            }
            _ => return Err(no()),
        };
        let servers: Option<Vec<_>> = rest.trim_end_matches('/').split(',').map(server).collect();
        let servers = servers.ok_or_else(no)?;
        Ok(Self::Kafka { servers, tls })
    }
}

/// `host:port`, `[address]:port`.
fn server(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.trim().rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let host = match host.strip_prefix('[') {
        Some(address) => address
            .strip_suffix(']')
            .filter(|address| address.contains(':'))?,
        None => host,
    };
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    let plain = !host.is_empty() && host.len() <= 253 && host.chars().all(letters);
    (plain && (text.trim().starts_with('[') || !host.contains(':'))).then(|| (host.to_owned(), port))
}

fn shown(text: &str) -> String {
    text.chars().take(120).collect()
}

/// Reads the address of a depot.
pub(crate) fn depot(text: &str) -> Result<Url, String> {
    let no = || {
        format!(
            "{:?} is no address of a depot; write it as https://host:7443",
            shown(text)
        )
    };
    let url = Url::parse(text).map_err(|_| no())?;
    let bare = matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if url.scheme() == "https" && url.has_host() && bare {
        Ok(url)
    } else {
        Err(no())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_what_they_print() {
        for text in [
            "kafka://core.example:9093",
            "kafka+plain://10.0.0.7:9092,core:9093",
            "kafka://[::1]:9093",
            "sqlite:///var/lib/x%20y/broker.db",
        ] {
            let read: BrokerAddress = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
        }
        let file: BrokerAddress = "sqlite:///var/lib/x%20y/broker.db".parse().unwrap();
        assert_eq!(file, BrokerAddress::File("/var/lib/x y/broker.db".into()));
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        for wrong in [
            "",
            "core:9092",
            "kafka://",
            "kafka://core",
            "kafka://core:0",
            "kafka://a b:1",
            "kafka://::1:9",
            "redis://a:1",
        ] {
            let problem = wrong.parse::<BrokerAddress>().unwrap_err();
            assert!(problem.contains("kafka://host:9093"), "{wrong}: {problem}");
        }
        for wrong in ["sqlite://", "sqlite:///", "sqlite://host/x"] {
            assert!(wrong.parse::<BrokerAddress>().is_err(), "{wrong}");
        }
        assert!(depot("https://127.0.0.1:7443").is_ok() && depot("https://depot.example/").is_ok());
        for wrong in [
            "",
            "http://a",
            "https://a/v1",
            "https://u:p@a",
            "https://a/?x",
            "depot:7443",
        ] {
            assert!(depot(wrong).is_err(), "{wrong}");
        }
    }
}
