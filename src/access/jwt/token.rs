//! One token: its parts, its signature and its claims. Pure; the time comes in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::JwtSettings;
use super::algorithm::JwtAlgorithm;
use super::keys::{Fingerprint, JwtKeys};

/// The claims of a token whose signature is right.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) algorithm: JwtAlgorithm,
    pub(super) key: Fingerprint,
    pub(super) claims: Map<String, Value>,
}

/// Why a token is refused. It goes to logs, so it holds nothing of the token.
pub(super) type Why = &'static str;

/// The parts of a token (RFC 7515 section 3.1), still encoded.
pub(super) struct Parts<'a> {
    /// Header and claims with the dot between them, which is what is signed.
    message: &'a str,
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
}

/// What a Password is.
pub(super) enum Shape<'a> {
    /// Some other password.
    Other,
    /// Three parts, of which the first is a JSON object.
    Token(Parts<'a>, Map<String, Value>),
    /// It would be a token if it were not longer than a token may be.
    TooLong,
}

/// Tells tokens from other passwords, in a time that is proportional to the length.
pub(super) fn shape(password: &[u8], bytes_max: usize) -> Shape<'_> {
    let Some(parts) = parts(password) else { return Shape::Other };
    if password.len() > bytes_max {
        return Shape::TooLong;
    }
    match object(parts.header) {
        Some(header) => Shape::Token(parts, header),
        None => Shape::Other,
    }
}

/// Three parts of base64url, the first of which begins with `{`. The last may be empty: it is in a token without a
/// signature, which must be refused.
fn parts(password: &[u8]) -> Option<Parts<'_>> {
    let begins = matches!(password, [b'e', b'w'..=b'z' | b'0'..=b'9' | b'-' | b'_', ..]);
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !begins || !password.iter().all(is_part) {
        return None;
    }
    let token = std::str::from_utf8(password).ok()?;
    let (message, signature) = token.rsplit_once('.')?;
    let (header, claims) = message.split_once('.')?;
    (!claims.contains('.')).then_some(Parts { message, header, claims, signature })
}

fn object(part: &str) -> Option<Map<String, Value>> {
    match serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// The algorithm of a token, by its own word, before anything is verified.
pub(super) fn algorithm_of(password: &[u8], bytes_max: usize) -> Option<JwtAlgorithm> {
    let Shape::Token(_, header) = shape(password, bytes_max) else { return None };
    JwtAlgorithm::named(header.get("alg")?.as_str()?)
}

/// Verifies the signature by the key that the token names and an algorithm that the settings name.
pub(super) fn verify(
    parts: &Parts<'_>,
    header: &Map<String, Value>,
    keys: &JwtKeys,
    settings: &JwtSettings,
) -> Result<Verified, Why> {
    // What a token declares critical has to be understood (RFC 7515 section 4.1.11), and nothing is.
    if header.contains_key("crit") {
        return Err("its header has critical parameters");
    }
    let algorithm = header.get("alg").and_then(Value::as_str).and_then(JwtAlgorithm::named);
    let allowed = algorithm.filter(|algorithm| settings.algorithms.contains(algorithm));
    let algorithm = allowed.ok_or("its algorithm is not among those that are configured")?;
    let id = match header.get("kid") {
        None => None,
        Some(Value::String(id)) => Some(id.as_str()),
        Some(_) => return Err("its key identifier is no text"),
    };
    let key =
        keys.find(algorithm, id).ok_or("no key, or more than one, fits its algorithm and kid")?;
    let signature =
        URL_SAFE_NO_PAD.decode(parts.signature).map_err(|_| "its signature is no base64url")?;
    if !key.verifies(algorithm, parts.message.as_bytes(), &signature) {
        return Err("its signature is wrong");
    }
    let claims = object(parts.claims).ok_or("its claims are no JSON object")?;
    Ok(Verified { algorithm, key: key.print, claims })
}

/// Checks the registered claims (RFC 7519 section 4.1) and returns when the connection has to end.
pub(super) fn check_claims(
    claims: &Map<String, Value>,
    settings: &JwtSettings,
    now: SystemTime,
) -> Result<Option<SystemTime>, Why> {
    check_sender(claims, settings)?;
    if let Some(begin) = time(claims, "nbf", "its claim nbf is no time")?
        && now.checked_add(settings.leeway).is_some_and(|now| now < begin)
    {
        return Err("it is not valid yet");
    }
    let Some(end) = time(claims, "exp", "its claim exp is no time")? else {
        return if settings.end_required { Err("it has no claim exp") } else { Ok(None) };
    };
    let end = end.checked_add(settings.leeway).unwrap_or(end);
    if now >= end { Err("it has expired") } else { Ok(Some(end)) }
}

/// Checks `iss` and `aud`.
pub(super) fn check_sender(claims: &Map<String, Value>, settings: &JwtSettings) -> Result<(), Why> {
    if let Some(issuer) = &settings.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err("it is from another issuer");
    }
    let Some(audience) = &settings.audience else { return Ok(()) };
    let is_audience = |value: &Value| value.as_str() == Some(audience);
    let found = match claims.get("aud") {
        Some(Value::Array(values)) => values.iter().any(is_audience),
        Some(value) => is_audience(value),
        None => false,
    };
    if found { Ok(()) } else { Err("it is for another audience") }
}

/// A NumericDate (RFC 7519 section 2): seconds since 1970, with or without a fraction.
fn time(claims: &Map<String, Value>, name: &str, why: Why) -> Result<Option<SystemTime>, Why> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let since = match value.as_u64() {
        Some(secs) => Some(Duration::from_secs(secs)),
        None => value.as_f64().and_then(|secs| Duration::try_from_secs_f64(secs).ok()),
    };
    since.and_then(|since| UNIX_EPOCH.checked_add(since)).map(Some).ok_or(why)
}

/// The user name in a claim.
pub(super) fn user_name<'a>(claims: &'a Map<String, Value>, claim: &str) -> Result<&'a str, Why> {
    match claims.get(claim).and_then(Value::as_str) {
        None | Some("") => Err("it has no user name"),
        // What a User Name in CONNECT may not hold either (MQTT-1.5.4-2).
        Some(name) if name.len() > 65_535 || name.contains('\0') => Err("its user name is invalid"),
        Some(name) => Ok(name),
    }
}
