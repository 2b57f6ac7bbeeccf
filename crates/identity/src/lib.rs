//! Who a site is: a certificate authority in a directory, and the certificates it issues to servers and sites.
//!
//! A site's name is the common name of its client certificate, so that no record and no request has to say it. The
//! directory holds `ca.crt` and `ca.key`, and for each issued certificate `sites/<site>` or `servers/<name>` with the
//! endings `.crt` (certificate), `.key` (PKCS#8) and `.pem` (both in one, as Kafka's PEM stores want it). Keys are
//! ECDSA P-256, readable by their owner alone. Files appear whole or not at all; nothing here overwrites a key, and a
//! renewal keeps it, so certificate and key match at every moment.
//!
//! An [`Enrolment`] is what an edge is given: one document with the core's addresses, the authority, and the site's own
//! certificate and key.
//!
//! A Kafka that has access rules is told with [`KafkaNeeds`] what a site must be let do there.
//!
//! What a site carries where there is no connection it signs with the same key ([`Signer`]); who reads it trusts the
//! authority alone ([`Trust`]).

mod address;
mod authority;
mod certificate;
mod enrolment;
mod error;
mod files;
mod kafka_rules;
mod signature;

pub use address::BrokerAddress;
pub use authority::{Authority, Issued, Validity};
pub use certificate::{Details, details, fingerprint, fingerprint_der, read_site};
pub use enrolment::{Enrolment, FORMAT, Unpacked};
pub use error::{Error, Result};
pub use kafka_rules::{KafkaNeeds, KafkaRule, Resource, kafka_principal};
pub use signature::{Signature, Signer, Trust, Vouched};
