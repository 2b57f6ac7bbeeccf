//! Logging in with a user and a password: PLAIN and SCRAM (RFC 5802).

use std::num::NonZeroU32;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;
use ring::{digest, hmac, pbkdf2};

use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::settings::Sasl;

/// Fewer rounds than this would make a password easy to find; the RFC's least.
const LEAST_ROUNDS: u32 = 4096;
/// More would keep this client busy for longer than anybody waits.
const MOST_ROUNDS: u32 = 10_000_000;

/// Logs in on a new connection.
pub(crate) async fn login(connection: &Connection, sasl: &Sasl) -> Result<()> {
    let handshake =
        SaslHandshakeRequest::default().with_mechanism(StrBytes::from_string(sasl.mechanism.clone()));
    let answer = connection.call(&handshake, 1, Duration::ZERO).await?;
    if answer.error_code != 0 {
        let offered: Vec<&str> = answer.mechanisms.iter().map(|name| &**name).collect();
        let reason = format!("it offers {}, not {}", offered.join(", "), sasl.mechanism);
        return Err(refused(connection, reason));
    }
    let scram = match sasl.mechanism.as_str() {
        "PLAIN" => {
            let text = format!("\0{}\0{}", sasl.username, sasl.password);
            return say(connection, text).await.map(drop);
        }
        "SCRAM-SHA-256" => Scram::new(
            sasl,
            hmac::HMAC_SHA256,
            pbkdf2::PBKDF2_HMAC_SHA256,
            &digest::SHA256,
        ),
        "SCRAM-SHA-512" => Scram::new(
            sasl,
            hmac::HMAC_SHA512,
            pbkdf2::PBKDF2_HMAC_SHA512,
            &digest::SHA512,
        ),
        other => return Err(Error::Settings(format!("sasl mechanism {other} is not known"))),
    };
    let first = say(connection, scram.first()).await?;
    let (last, proof) = scram
        .last(&String::from_utf8_lossy(&first))
        .ok_or(Error::Malformed { what: "login" })?;
    let answer = say(connection, last).await?;
    if answer != proof {
        return Err(refused(connection, "it does not know the password itself".into()));
    }
    Ok(())
}

fn refused(connection: &Connection, reason: String) -> Error {
    let address = connection.address().to_owned();
    Error::Login { address, reason }
}

async fn say(connection: &Connection, text: String) -> Result<Bytes> {
    let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(text));
    let answer = connection.call(&request, 2, Duration::ZERO).await?;
    if answer.error_code != 0 {
        let reason = answer
            .error_message
            .map(|text| text.to_string())
            .unwrap_or_default();
        return Err(refused(connection, reason));
    }
    Ok(answer.auth_bytes)
}

struct Scram<'a> {
    sasl: &'a Sasl,
    nonce: String,
    mac: hmac::Algorithm,
    rounds: pbkdf2::Algorithm,
    hash: &'static digest::Algorithm,
}

impl<'a> Scram<'a> {
    fn new(
        sasl: &'a Sasl,
        mac: hmac::Algorithm,
        rounds: pbkdf2::Algorithm,
        hash: &'static digest::Algorithm,
    ) -> Self {
        let nonce = STANDARD.encode(rand::random::<[u8; 24]>());
        Self {
            sasl,
            nonce,
            mac,
            rounds,
            hash,
        }
    }

    fn first_bare(&self) -> String {
        let user = self.sasl.username.replace('=', "=3D").replace(',', "=2C");
        format!("n={user},r={}", self.nonce)
    }

    fn first(&self) -> String {
        format!("n,,{}", self.first_bare())
    }

    /// What is said to the server's first words, and what it must answer to that.
    fn last(&self, heard: &str) -> Option<(String, Vec<u8>)> {
        let field = |name: &str| heard.split(',').find_map(|part| part.strip_prefix(name));
        let nonce = field("r=").filter(|nonce| nonce.starts_with(&self.nonce))?;
        let salt = STANDARD.decode(field("s=")?).ok()?;
        let rounds: u32 = field("i=")?.parse().ok()?;
        if !(LEAST_ROUNDS..=MOST_ROUNDS).contains(&rounds) {
            return None;
        }
        let mut salted = vec![0; self.hash.output_len()];
        let password = self.sasl.password.as_bytes();
        pbkdf2::derive(
            self.rounds,
            NonZeroU32::new(rounds)?,
            &salt,
            password,
            &mut salted,
        );
        let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(self.mac, key), text);
        let client = sign(&salted, b"Client Key");
        let stored = digest::digest(self.hash, client.as_ref());
        let without = format!("c=biws,r={nonce}");
        let all = format!("{},{heard},{without}", self.first_bare());
        let signature = sign(stored.as_ref(), all.as_bytes());
        let proof: Vec<u8> = client
            .as_ref()
            .iter()
            .zip(signature.as_ref())
            .map(|(key, mask)| key ^ mask)
            .collect();
        let server = sign(&salted, b"Server Key");
        let expected = sign(server.as_ref(), all.as_bytes());
        Some((
            format!("{without},p={}", STANDARD.encode(proof)),
            format!("v={}", STANDARD.encode(expected)).into_bytes(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Sasl {
        Sasl {
            mechanism: "SCRAM-SHA-256".into(),
            username: "user".into(),
            password: "pencil".into(),
        }
    }

    /// The exchange of RFC 7677, section 3.
    #[test]
    fn exchange_is_that_of_the_rfc() {
        let sasl = user();
        let mut scram = Scram::new(
            &sasl,
            hmac::HMAC_SHA256,
            pbkdf2::PBKDF2_HMAC_SHA256,
            &digest::SHA256,
        );
        scram.nonce = "rOprNGfwEbeRWgbNEkqO".into();
        let heard = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (last, answer) = scram.last(heard).unwrap();
        assert!(last.ends_with("p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
        assert_eq!(answer, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_server_that_repeats_another_nonce_is_not_answered() {
        let sasl = user();
        let scram = Scram::new(
            &sasl,
            hmac::HMAC_SHA256,
            pbkdf2::PBKDF2_HMAC_SHA256,
            &digest::SHA256,
        );
        assert!(scram.last("r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096").is_none());
        assert!(!format!("{sasl:?}").contains("pencil"));
    }
}
