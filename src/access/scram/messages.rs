//! The messages of SCRAM (RFC 5802 section 7), as a server reads and writes them. Pure; the nonce comes in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac};
use subtle::ConstantTimeEq as _;

use super::users::Credential;

/// The longest message of a client. User names and nonces are far shorter.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// Why an exchange ends. It goes to logs, so it holds nothing of the messages.
pub(super) type Why = &'static str;

/// A client-first-message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFirst<'a> {
    /// `n,,` or `y,,`, perhaps with an authorization identity: it comes again in the last message.
    gs2_header: &'a str,
    /// The message without it.
    bare: &'a str,
    /// The user name, decoded.
    pub(super) user: String,
    nonce: &'a str,
}

/// Reads a client-first-message.
pub(super) fn client_first(message: &[u8]) -> Result<ClientFirst<'_>, Why> {
    let message = text(message)?;
    let malformed = "the client-first-message is malformed";
    let mut fields = message.splitn(3, ',');
    let (Some(flag), Some(authorize), Some(bare)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err(malformed);
    };
    match flag {
        // `y`: the client could bind to a channel, and saw that no mechanism of this server does.
        "n" | "y" => {}
        flag if flag.starts_with("p=") => return Err("channel binding is not supported"),
        _ => return Err(malformed),
    }
    let gs2_header = &message[..message.len() - bare.len()];
    let mut attributes = bare.split(',');
    let name = attributes.next().and_then(|one| one.strip_prefix("n=")).ok_or(
        // An extension that has to be understood (`m=`) stands here too.
        malformed,
    )?;
    let nonce = attributes.next().and_then(|one| one.strip_prefix("r=")).ok_or(malformed)?;
    let printable = |byte: u8| (b'!'..=b'~').contains(&byte);
    if nonce.is_empty() || !nonce.bytes().all(printable) || !attributes.all(is_attribute) {
        return Err(malformed);
    }
    let user = user_name(name).ok_or(malformed)?;
    match authorize.strip_prefix("a=") {
        None if authorize.is_empty() => {}
        Some(other) if user_name(other).is_some_and(|other| other == user) => {}
        Some(_) => return Err("one user may not act for another"),
        None => return Err(malformed),
    }
    Ok(ClientFirst { gs2_header, bare, user, nonce })
}

fn text(message: &[u8]) -> Result<&str, Why> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err("a message of the exchange is too long");
    }
    let text = std::str::from_utf8(message).map_err(|_| "a message of the exchange is no UTF-8")?;
    if text.contains('\0') { Err("a message of the exchange is malformed") } else { Ok(text) }
}

fn is_attribute(text: &str) -> bool {
    matches!(text.as_bytes(), [letter, b'=', _, ..] if letter.is_ascii_alphabetic())
}

/// Decodes `=2C` and `=3D`, and prepares the name as SASLprep demands (RFC 4013).
fn user_name(encoded: &str) -> Option<String> {
    let mut parts = encoded.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (letter, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return None,
        };
        name.push(letter);
        name.push_str(rest);
    }
    let name = stringprep::saslprep(&name).ok()?.into_owned();
    (!name.is_empty()).then_some(name)
}

/// The server's side between its first message and the client's last.
pub(super) struct Challenge {
    /// client-first-message-bare "," server-first-message
    messages: String,
    server_first_at: usize,
    /// The channel binding that the client has to repeat.
    binding: String,
    nonce: String,
}

impl Challenge {
    /// Answers a client-first-message.
    pub(super) fn new(
        first: &ClientFirst<'_>,
        credential: &Credential,
        server_nonce: &str,
    ) -> Challenge {
        let nonce = format!("{}{server_nonce}", first.nonce);
        let salt = STANDARD.encode(&credential.salt);
        let server_first_at = first.bare.len() + 1;
        let messages = format!("{},r={nonce},s={salt},i={}", first.bare, credential.iterations);
        Challenge { messages, server_first_at, binding: STANDARD.encode(first.gs2_header), nonce }
    }

    /// The server-first-message.
    pub(super) fn server_first(&self) -> &str {
        &self.messages[self.server_first_at..]
    }

    /// Checks a client-final-message and returns the server-final-message.
    pub(super) fn finish(self, message: &[u8], credential: &Credential) -> Result<String, Why> {
        let message = text(message)?;
        let malformed = "the client-final-message is malformed";
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(malformed)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|one| one.strip_prefix("c=")).ok_or(malformed)?;
        let nonce = attributes.next().and_then(|one| one.strip_prefix("r=")).ok_or(malformed)?;
        let proof = STANDARD.decode(proof).map_err(|_| malformed)?;
        if !attributes.all(is_attribute) {
            return Err(malformed);
        }
        if binding != self.binding {
            return Err("the channel binding is not that of the first message");
        }
        if nonce != self.nonce {
            return Err("the nonce is not that of this exchange");
        }
        let signed = format!("{},{without_proof}", self.messages);
        let algorithm = credential.mechanism.hmac();
        let sign = |key: &[u8]| hmac::sign(&hmac::Key::new(algorithm, key), signed.as_bytes());
        let client_signature = sign(&credential.stored_key);
        if proof.len() != client_signature.as_ref().len() {
            return Err(malformed);
        }
        let client_key: Vec<u8> =
            proof.iter().zip(client_signature.as_ref()).map(|(one, two)| one ^ two).collect();
        let stored_key = digest::digest(algorithm.digest_algorithm(), &client_key);
        if bool::from(stored_key.as_ref().ct_eq(&credential.stored_key)) {
            Ok(format!("v={}", STANDARD.encode(sign(&credential.server_key))))
        } else {
            Err("the user is unknown or the proof is wrong")
        }
    }
}
