//! Who may ask: the token, and for a listener without one the marks by which requests of foreign pages are known.

use std::net::IpAddr;
use std::path::Path;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::access::{AccessFile, FileContent, Secret};

/// The shortest token, in bytes.
const TOKEN_BYTES_MIN: usize = 16;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a listener asks of requests.
#[derive(Debug)]
pub(super) enum Guard {
    /// They show this token.
    Token(Secret),
    /// They come from this machine, and from no page of another origin.
    Loopback,
    /// The file system says who may connect.
    Socket,
}

/// Whether a request is let in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It shows no token, or another one.
    Unauthorized,
    /// It comes, or may come, from a page of another origin. The text is the problem and its remedy.
    Foreign(String),
}

impl Guard {
    /// Looks at the head of a request. A route that is `open` needs no token.
    pub(super) fn admits(&self, headers: &HeaderMap, open: bool) -> Result<(), Refused> {
        match self {
            Guard::Socket => Ok(()),
            Guard::Token(_) if open => Ok(()),
            Guard::Token(token) => {
                let shown = bearer(headers).ok_or(Refused::Unauthorized)?;
                if token.equals(shown) { Ok(()) } else { Err(Refused::Unauthorized) }
            }
            Guard::Loopback => own_origin(headers).map_err(Refused::Foreign),
        }
    }
}

/// The first line of the file is the token.
///
/// # Errors
/// The file cannot be read or used: one line with file, problem and remedy, and nothing of the token.
pub(super) fn read_token(path: &Path) -> Result<Secret, String> {
    let file = AccessFile::read(path, FileContent::Secrets).map_err(|error| error.to_string())?;
    if let Some(warning) = file.warning() {
        return Err(warning.to_string());
    }
    let token = file.text().lines().next().unwrap_or_default().trim();
    usable(token).map_err(|problem| format!("{}: {problem}", file.source()))?;
    Ok(Secret::new(token.as_bytes()))
}

/// # Errors
/// The token is too short, or no header can carry it: the problem and the remedy.
pub(super) fn usable(token: &str) -> Result<(), String> {
    let remedy = "make one: openssl rand -hex 32";
    if token.len() < TOKEN_BYTES_MIN {
        return Err(format!(
            "the token has {} bytes, and {TOKEN_BYTES_MIN} is the least; {remedy}",
            token.len()
        ));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("the token has bytes that are no visible ASCII; {remedy}"));
    }
    Ok(())
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (all.next()?.as_bytes(), all.next()) else { return None };
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// A browser lets pages of every origin send requests to this machine, but it says so in their heads. A name that
/// belongs to another page may have the address of this machine (DNS rebinding): then the name is in `Host`.
fn own_origin(headers: &HeaderMap) -> Result<(), String> {
    let remedy = "use a loopback name or address, or set admin.tokenFile";
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, None) = (hosts.next(), hosts.next()) else {
        return Err("the request has several Host headers; send one".to_owned());
    };
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_loopback(host) {
        return Err(format!("Host is {host:?}, which is not this machine; {remedy}"));
    }
    let foreign = |what: &str, value: &str| {
        format!("{what} is {value:?}: the request comes from a page of another origin; {remedy}")
    };
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        if authority.is_none_or(|authority| !authority.eq_ignore_ascii_case(host)) {
            return Err(foreign("Origin", origin));
        }
    }
    match headers.get(FETCH_SITE).map(HeaderValue::as_bytes) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(site) => Err(foreign("Sec-Fetch-Site", &String::from_utf8_lossy(site))),
    }
}

/// Whether the authority of a URL is a loopback name or address, with any port.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.rfind(':') {
        // Colons in brackets belong to the address.
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let name = host.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value.parse().expect("a header"));
        }
        headers
    }

    #[test]
    fn a_token_is_asked_for_and_compared_whole_pitfall_19() {
        let guard = Guard::Token(Secret::new(b"0123456789abcdef"));
        let ask = |values: &[&str]| {
            let pairs: Vec<_> = values.iter().map(|v| (header::AUTHORIZATION, *v)).collect();
            guard.admits(&headers(&pairs), false)
        };
        assert_eq!(ask(&["Bearer 0123456789abcdef"]), Ok(()));
        assert_eq!(ask(&["bearer  0123456789abcdef "]), Ok(()));
        for wrong in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &["Bearer 0123456789abcde"],
            &["Bearer 0123456789abcdef0"],
            &["Bearer 0123456789ABCDEF"],
            &["Basic 0123456789abcdef"],
            &["0123456789abcdef"],
            &["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"],
        ] {
            assert_eq!(ask(wrong), Err(Refused::Unauthorized), "{wrong:?}");
        }
        assert_eq!(guard.admits(&headers(&[]), true), Ok(()), "an open route");
        assert!(!format!("{guard:?}").contains("0123"), "{guard:?}");
    }

    #[test]
    fn without_a_token_the_host_is_this_machine() {
        for (host, own) in [
            ("127.0.0.1:9884", true),
            ("127.0.0.1", true),
            ("127.9.9.9:1", true),
            ("localhost:9884", true),
            ("LocalHost.", true),
            ("admin.localhost:1", true),
            ("[::1]:9884", true),
            ("[::1]", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("evil.example:9884", false),
            ("localhost.evil.example", false),
            ("evillocalhost", false),
            ("127.0.0.1.evil.example", false),
            ("192.0.2.1", false),
            ("0.0.0.0", false),
            ("", false),
        ] {
            let admitted = Guard::Loopback.admits(&headers(&[(header::HOST, host)]), true);
            assert_eq!(admitted.is_ok(), own, "{host}: {admitted:?}");
        }
        assert!(Guard::Loopback.admits(&headers(&[]), false).is_err(), "no Host");
        let two = headers(&[(header::HOST, "localhost"), (header::HOST, "localhost")]);
        assert!(Guard::Loopback.admits(&two, false).is_err(), "two Hosts");
    }

    #[test]
    fn without_a_token_pages_of_other_origins_are_refused() {
        let ask = |more: &[(HeaderName, &str)]| {
            let mut pairs = vec![(header::HOST, "localhost:9884")];
            pairs.extend_from_slice(more);
            Guard::Loopback.admits(&headers(&pairs), false)
        };
        assert_eq!(ask(&[]), Ok(()), "no browser");
        assert_eq!(ask(&[(header::ORIGIN, "http://localhost:9884")]), Ok(()));
        assert_eq!(ask(&[(FETCH_SITE, "same-origin")]), Ok(()));
        assert_eq!(ask(&[(FETCH_SITE, "none")]), Ok(()), "typed by a person");
        for (name, value) in [
            (header::ORIGIN, "http://evil.example"),
            (header::ORIGIN, "http://localhost:80"),
            (header::ORIGIN, "null"),
            (header::ORIGIN, ""),
            (FETCH_SITE, "cross-site"),
            (FETCH_SITE, "same-site"),
        ] {
            assert!(
                matches!(ask(&[(name.clone(), value)]), Err(Refused::Foreign(_))),
                "{name} {value}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_token_file_that_others_can_read_or_that_is_short_is_refused_pitfall_19() {
        use std::fs;
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("hrotti-token-{}", std::process::id()));
        let read = |text: &str, mode: u32| {
            fs::write(&path, text).expect("a temporary file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
            read_token(&path)
        };
        let token = "0123456789abcdef";
        assert!(
            read(&format!("{token}\r\nmore\n"), 0o600).expect("a token").equals(token.as_bytes())
        );
        for (text, mode, part) in [
            (token, 0o644, "chmod 600"),
            (token, 0o602, "chmod o-w"),
            ("short", 0o600, "16 is the least"),
            ("\n0123456789abcdef", 0o600, "16 is the least"),
            ("0123456789abcdef x", 0o600, "no visible ASCII"),
            ("", 0o600, "it is empty"),
        ] {
            let error = read(text, mode).expect_err(part);
            assert!(error.contains(part), "{part}: {error}");
            assert!(error.contains(&path.display().to_string()), "{error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        fs::remove_file(&path).expect("the file");
    }
}
