//! What a request brings: the segments of its path, its query and its body, each checked by the table of routes.

use serde::de::DeserializeOwned;

use super::answer::Problem;
use super::parameter::{Kind, Parameter};
use crate::spelling::distance;

/// Pages begin with this number.
const FIRST_PAGE: u64 = 1;

/// The values of a query, one for each parameter of its route that was given.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// Reads a query by the parameters of its route.
    ///
    /// # Errors
    /// A parameter is unknown, given twice, missing, or has a value that it cannot have.
    pub(super) fn read(text: &str, parameters: &'static [Parameter]) -> Result<Query, Problem> {
        let mut values: Vec<(&'static str, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name, true)?;
            let known = parameters.iter().find(|parameter| parameter.name == name);
            let Some(parameter) = known else { return Err(unknown(&name, parameters)) };
            if values.iter().any(|(earlier, _)| *earlier == parameter.name) {
                return Err(Problem::bad_request(format!("{name} is given twice; remove one")));
            }
            let value = match parameter.kind {
                Kind::Filter => filter(&decoded(value, false)?),
                _ => decoded(value, true)?,
            };
            check(parameter, &value)?;
            values.push((parameter.name, value));
        }
        for parameter in parameters.iter().filter(|parameter| parameter.required) {
            if !values.iter().any(|(name, _)| *name == parameter.name) {
                let Parameter { name, meaning, .. } = parameter;
                let text = format!("{name} is missing; add ?{name}=…: {meaning}");
                return Err(Problem::bad_request(text));
            }
        }
        Ok(Query(values))
    }

    /// The value of a parameter that was given.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.text(name).map(|value| value == "true")
    }

    /// The page that is asked for.
    pub(super) fn page(&self) -> Page {
        let number = |name, default| {
            let value = self.text(name).and_then(|value| value.parse().ok());
            value.unwrap_or(default)
        };
        Page { page: number("page", FIRST_PAGE), limit: number("limit", PAGE_LIMIT) }
    }
}

/// Items of a page unless another number is asked for.
pub(super) const PAGE_LIMIT: u64 = 50;

/// A part of a list: the `page`th portion of `limit` items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) page: u64,
    pub(super) limit: u64,
}

impl Page {
    /// How many items come before the page.
    pub(super) fn offset(self) -> usize {
        let before = self.page.saturating_sub(FIRST_PAGE).saturating_mul(self.limit);
        usize::try_from(before).unwrap_or(usize::MAX)
    }

    pub(super) fn limit(self) -> usize {
        usize::try_from(self.limit).unwrap_or(usize::MAX)
    }
}

/// A body of JSON as the type that a route reads.
///
/// # Errors
/// It is no JSON, or not of that shape.
pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let text =
            format!("the body is not what this route reads: {error}; see /api/v1/openapi.json");
        Problem::bad_request(text)
    })
}

/// Percent-decodes a part of a URL. In forms, `+` is a space.
///
/// # Errors
/// A `%` without two hexadecimal digits, or bytes that are no UTF-8.
pub(super) fn decoded(text: &str, form: bool) -> Result<String, Problem> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut read = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        read.push(match byte {
            b'%' => {
                let pair = (digit(bytes.get(at)), digit(bytes.get(at + 1)));
                let (Some(high), Some(low)) = pair else {
                    let text = "a % in the URL has no two hexadecimal digits behind it; write %25 for a percent sign";
                    return Err(Problem::bad_request(text));
                };
                at += 2;
                u8::try_from(high * 16 + low).unwrap_or(u8::MAX)
            }
            b'+' if form => b' ',
            byte => byte,
        });
    }
    String::from_utf8(read).map_err(|_| {
        Problem::bad_request("the URL holds bytes that are no UTF-8; encode text as UTF-8")
    })
}

/// A Topic Filter in a query: forms write a space as `+`, and a level that is nothing but `+` is a wildcard.
fn filter(text: &str) -> String {
    let level = |level: &str| if level == "+" { level.to_owned() } else { level.replace('+', " ") };
    text.split('/').map(level).collect::<Vec<_>>().join("/")
}

fn unknown(name: &str, parameters: &'static [Parameter]) -> Problem {
    let names = || parameters.iter().map(|parameter| parameter.name);
    let near = names().find(|known| distance(known, name) <= 2);
    let remedy = match near {
        Some(near) => format!("did you mean {near}?"),
        None if parameters.is_empty() => "this route has none; remove it".to_owned(),
        None => format!("write one of {}", names().collect::<Vec<_>>().join(", ")),
    };
    Problem::bad_request(format!("{name:?} is no parameter of this route; {remedy}"))
}

fn check(parameter: &Parameter, value: &str) -> Result<(), Problem> {
    let name = parameter.name;
    let refused =
        |remedy: String| Err(Problem::bad_request(format!("{name} is {value:?}; write {remedy}")));
    match parameter.kind {
        Kind::Number { minimum, maximum } => {
            // As JSON writes numbers: no sign.
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            let number = value.parse::<u64>().ok().filter(|_| digits);
            if number.is_some_and(|number| (minimum..=maximum).contains(&number)) {
                return Ok(());
            }
            refused(format!("a whole number from {minimum} to {maximum}"))
        }
        Kind::Flag if value == "true" || value == "false" => Ok(()),
        Kind::Flag => refused("true or false".to_owned()),
        Kind::Choice(choices) if choices.contains(&value) => Ok(()),
        Kind::Choice(choices) => refused(format!("one of {}", choices.join(", "))),
        Kind::Text | Kind::Filter => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARAMETERS: &[Parameter] = &[
        Parameter::new("page", Kind::Number { minimum: 1, maximum: 1_000 }, "the page"),
        Parameter::new("limit", Kind::Number { minimum: 1, maximum: 1_000 }, "its items"),
        Parameter::new("slow", Kind::Flag, "slow ones"),
        Parameter::new("sort", Kind::Choice(&["a", "b"]), "the order"),
        Parameter::new("search", Kind::Text, "a text"),
        Parameter::new("filter", Kind::Filter, "a Topic Filter").required(),
    ];

    fn read(text: &str) -> Result<Query, String> {
        Query::read(text, PARAMETERS).map_err(|problem| problem.to_string())
    }

    #[test]
    fn values_are_decoded_and_typed() {
        let query =
            read("page=3&limit=20&slow=true&search=a+b%2Bc%C3%A9&filter=%23").expect("good");
        assert_eq!(query.page(), Page { page: 3, limit: 20 });
        assert_eq!(query.page().offset(), 40);
        assert_eq!((query.flag("slow"), query.text("search")), (Some(true), Some("a b+cé")));
        let query = read("filter=a&&").expect("defaults");
        assert_eq!(query.page(), Page { page: 1, limit: PAGE_LIMIT });
        assert_eq!((query.page().offset(), query.flag("slow")), (0, None));
    }

    #[test]
    fn the_wildcard_of_a_filter_needs_no_percent_sign() {
        for (written, meant) in
            [("+/a/+", "+/a/+"), ("%2B/%23", "+/#"), ("my+room/lamp", "my room/lamp"), ("+", "+")]
        {
            let query = read(&format!("filter={written}")).expect(written);
            assert_eq!(query.text("filter"), Some(meant), "{written}");
        }
    }

    #[test]
    fn what_a_route_cannot_read_is_an_error_with_the_remedy() {
        for (text, part) in [
            ("", "filter is missing; add ?filter="),
            ("filter=a&filter=b", "filter is given twice"),
            ("filter=a&pag=1", "did you mean page?"),
            ("filter=a&colour=1", "write one of page, limit"),
            ("filter=a&page=0", "a whole number from 1 to 1000"),
            ("filter=a&page=%2B1", "a whole number"),
            ("filter=a&page=99999999999999999999999", "a whole number"),
            ("filter=a&slow=1", "true or false"),
            ("filter=a&sort=c", "one of a, b"),
            ("filter=%", "write %25"),
            ("filter=%zz", "write %25"),
            ("filter=%+1", "write %25"),
            ("filter=%ff", "no UTF-8"),
        ] {
            let problem = read(text).expect_err(text);
            assert!(problem.starts_with("400: ") && problem.contains(part), "{text}: {problem}");
        }
    }

    #[test]
    fn pages_far_away_do_not_overflow_pitfall_12() {
        let page = Page { page: u64::MAX, limit: u64::MAX };
        assert_eq!(page.offset(), usize::MAX);
    }

    proptest! {
        #[test]
        fn any_query_is_judged(text in "([a-z=&+#/]|%[0-9a-f]{0,2}|\\PC){0,40}") {
            let _ = read(&text);
        }

        #[test]
        fn what_is_encoded_is_read_back(text in "\\PC{0,20}") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(decoded(&encoded, true).map_err(|problem| problem.to_string()), Ok(text));
        }
    }
}
