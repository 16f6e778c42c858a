//! The page: one file without parts from elsewhere. Only the scripts and styles in it run, which their hashes say.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header;
use ring::digest::{SHA256, digest};

use super::answer::{Answer, Problem};
use super::route::Asked;

const PAGE: &str = include_str!("page.html");

static POLICY: LazyLock<String> = LazyLock::new(|| policy(PAGE));
static VERSION: LazyLock<String> = LazyLock::new(|| format!("\"{}\"", hash(PAGE)));

/// Answers with the page, or that the browser has it.
#[allow(clippy::unused_async, reason = "all routes are answered in one way")]
pub(super) async fn get(asked: Asked) -> Result<Answer, Problem> {
    let same = asked.has.split(',').any(|has| has.trim().trim_start_matches("W/") == *VERSION);
    let answer = match same {
        true => Answer::nothing(304),
        false => Answer::text("text/html; charset=utf-8", PAGE),
    };
    Ok(answer
        .with_header(header::ETAG, &VERSION)
        .with_header(header::CACHE_CONTROL, "no-cache")
        .with_header(header::CONTENT_SECURITY_POLICY, &POLICY))
}

/// What the page may do: run its own scripts and styles, and ask this server.
fn policy(page: &str) -> String {
    let hashes = |tag| {
        let parts = inline(page, tag);
        parts.iter().map(|part| format!(" 'sha256-{}'", hash(part))).collect::<String>()
    };
    format!(
        "default-src 'self'; script-src{}; style-src{}; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hashes("script"),
        hashes("style")
    )
}

/// What stands in the elements of this name.
fn inline<'a>(page: &'a str, tag: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{tag}"), format!("</{tag}>"));
    let parts = page.split(open.as_str()).skip(1).filter_map(|rest| {
        let (_, content) = rest.split_once('>')?;
        content.split_once(close.as_str()).map(|(content, _)| content)
    });
    parts.collect()
}

fn hash(text: &str) -> String {
    STANDARD.encode(digest(&SHA256, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_browsers() {
        // The example of the standard, Content Security Policy Level 3, section 6.7.3.3.
        assert_eq!(hash("alert('Hello, world.');"), "qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=");
    }

    #[test]
    fn the_policy_names_every_script_and_style() {
        let page =
            "<style>a{}</style><script>one()</script><script type=\"module\">\ntwo()</script>";
        assert_eq!(inline(page, "script"), ["one()", "\ntwo()"]);
        let policy = policy(page);
        for part in ["a{}", "one()", "\ntwo()"] {
            assert!(policy.contains(&format!("'sha256-{}'", hash(part))), "{part}: {policy}");
        }
    }

    /// What the policy would not let run, or what would ask another server.
    #[test]
    fn the_page_needs_nothing_that_the_policy_forbids() {
        assert!(PAGE.contains("<title>"));
        for wrong in
            [" style=\"", " onclick=", " onload=", "src=\"http", "href=\"http", "@import", "eval("]
        {
            assert!(!PAGE.contains(wrong), "{wrong}");
        }
    }
}
