//! The questions, as requests, and what responses mean.

use serde_json::{Map, Value};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::exchange::{Response, Why};
use super::{HttpAnswers, HttpForm};
use crate::access::Action;

/// One question to the server: its fields, in the order in which they are sent.
pub(super) struct Question<'a> {
    fields: Vec<(&'static str, Field<'a>)>,
}

enum Field<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
    Number(u8),
}

/// What a response means. Everything that is no clear answer is no answer.
#[derive(Debug, PartialEq)]
pub(super) enum Answered {
    /// With the access list of the answer, if it has one.
    Yes(Option<Value>),
    No,
}

impl<'a> Question<'a> {
    pub(super) fn user(user: &'a str, password: &'a [u8], client_id: &'a str) -> Question<'a> {
        Question {
            fields: vec![
                ("username", Field::Text(user)),
                ("password", Field::Bytes(password)),
                ("clientid", Field::Text(client_id)),
            ],
        }
    }

    pub(super) fn superuser(user: &'a str) -> Question<'a> {
        Question { fields: vec![("username", Field::Text(user))] }
    }

    pub(super) fn access(
        user: &'a str,
        client_id: &'a str,
        topic: &'a str,
        acc: u8,
    ) -> Question<'a> {
        Question {
            fields: vec![
                ("username", Field::Text(user)),
                ("clientid", Field::Text(client_id)),
                ("topic", Field::Text(topic)),
                ("acc", Field::Number(acc)),
            ],
        }
    }

    /// The content of the request and its type. `None`: JSON cannot say it, because a password is no UTF-8.
    pub(super) fn content(&self, form: HttpForm) -> Option<(&'static str, Zeroizing<String>)> {
        match form {
            HttpForm::Form => Some(("application/x-www-form-urlencoded", self.form())),
            HttpForm::Json => Some(("application/json", self.json()?)),
        }
    }

    fn form(&self) -> Zeroizing<String> {
        let mut content = Zeroizing::new(String::new());
        for (name, field) in &self.fields {
            if !content.is_empty() {
                content.push('&');
            }
            content.push_str(name);
            content.push('=');
            let digit;
            let bytes = match field {
                Field::Text(text) => text.as_bytes(),
                Field::Bytes(bytes) => bytes,
                Field::Number(number) => {
                    digit = [b'0' + number % 10];
                    &digit
                }
            };
            content.extend(form_urlencoded::byte_serialize(bytes));
        }
        content
    }

    fn json(&self) -> Option<Zeroizing<String>> {
        let mut object = Map::new();
        for (name, field) in &self.fields {
            let value = match field {
                Field::Text(text) => Value::from(*text),
                Field::Bytes(bytes) => Value::from(std::str::from_utf8(bytes).ok()?),
                Field::Number(number) => Value::from(*number),
            };
            object.insert((*name).to_owned(), value);
        }
        Some(Zeroizing::new(Value::Object(object).to_string()))
    }
}

/// The number by which a question about an action is asked. Everybody may unsubscribe.
pub(super) fn acc(action: Action) -> Option<u8> {
    match action {
        Action::Receive => Some(1),
        Action::Publish => Some(2),
        Action::Subscribe => Some(4),
        Action::Unsubscribe => None,
    }
}

/// Reads a response. A server that answers 4xx says no, except where it says that it has not decided: 408 and 429.
pub(super) fn read(response: &Response, answers: HttpAnswers) -> Result<Answered, Why> {
    match (response.status, answers) {
        (200, HttpAnswers::Status) => Ok(Answered::Yes(None)),
        (200, HttpAnswers::Json) => {
            let value: Option<Value> = serde_json::from_slice(&response.body).ok();
            let Some(Value::Object(mut object)) = value else {
                return Err("its answer is no JSON object");
            };
            match object.get("Ok") {
                Some(Value::Bool(true)) => Ok(Answered::Yes(object.remove("acl"))),
                Some(Value::Bool(false)) => Ok(Answered::No),
                _ => Err("its answer has no \"Ok\" that is true or false"),
            }
        }
        (408 | 429, _) => Err("it has not decided"),
        (400..=499, _) => Ok(Answered::No),
        (300..=399, _) => Err("it redirects, which is not followed"),
        (500..=599, _) => Err("it has an error of its own (5xx)"),
        _ => Err("its status is neither 200 nor 4xx nor 5xx"),
    }
}

/// Reads the URL of a server. What it returns is without what may be secret: user, password and query.
pub(super) fn url(text: &str) -> Result<(Url, String), String> {
    let url = Url::parse(text).map_err(|error| format!("{error}; write http://HOST:PORT/PATH"))?;
    match url.scheme() {
        "http" => {}
        "https" => {
            return Err(
                "https is not supported; use http:// to a proxy on this machine that speaks https"
                    .to_owned(),
            );
        }
        scheme => return Err(format!("the scheme {scheme:?} is not supported; use http://")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a user name or password in the URL is not supported; remove it".to_owned());
    }
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    Ok((url, shown.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// As mosquitto-go-auth and Home Assistant's server read them.
    #[test]
    fn questions_are_asked_in_both_forms() {
        let user = Question::user("ann", b"a&b =\xff", "c 1");
        assert_eq!(
            user.content(HttpForm::Form).map(|(_, text)| text.to_string()).as_deref(),
            Some("username=ann&password=a%26b+%3D%FF&clientid=c+1")
        );
        assert!(user.content(HttpForm::Json).is_none());
        let access = Question::access("ann", "c1", "a/é/#", 4);
        let (kind, form) = access.content(HttpForm::Form).expect("a form");
        assert_eq!(
            (kind, &**form),
            (
                "application/x-www-form-urlencoded",
                "username=ann&clientid=c1&topic=a%2F%C3%A9%2F%23&acc=4"
            )
        );
        let (kind, text) = access.content(HttpForm::Json).expect("UTF-8");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(kind, "application/json");
        assert_eq!(value, json!({"username": "ann", "clientid": "c1", "topic": "a/é/#", "acc": 4}));
        let superuser = Question::superuser("ann").content(HttpForm::Form).expect("a form").1;
        assert_eq!(&**superuser, "username=ann");
    }

    #[test]
    fn only_a_clear_yes_is_a_yes() {
        let of = |status, body: &str, answers| {
            read(&Response { status, body: body.as_bytes().to_vec() }, answers)
        };
        assert_eq!(of(200, "anything", HttpAnswers::Status), Ok(Answered::Yes(None)));
        assert_eq!(
            of(200, r#"{"Ok": true, "Error": ""}"#, HttpAnswers::Json),
            Ok(Answered::Yes(None))
        );
        let list = Some(json!({"pub": ["a"]}));
        assert_eq!(
            of(200, r#"{"Ok": true, "acl": {"pub": ["a"]}}"#, HttpAnswers::Json),
            Ok(Answered::Yes(list))
        );
        assert_eq!(of(200, r#"{"Ok": false, "Error": "no"}"#, HttpAnswers::Json), Ok(Answered::No));
        for body in [
            "",
            "ok",
            "true",
            "{}",
            r#"{"ok": true}"#,
            r#"{"Ok": "true"}"#,
            r#"{"Ok": 1}"#,
            r#"[{"Ok": true}]"#,
            r#"{"Ok": true"#,
        ] {
            assert!(of(200, body, HttpAnswers::Json).is_err(), "{body}");
        }
        for answers in [HttpAnswers::Status, HttpAnswers::Json] {
            for status in [400, 401, 403, 404] {
                assert_eq!(of(status, r#"{"Ok": true}"#, answers), Ok(Answered::No), "{status}");
            }
            for status in [0, 100, 199, 201, 204, 301, 302, 307, 408, 429, 500, 503, 600, 999] {
                assert!(of(status, r#"{"Ok": true}"#, answers).is_err(), "{status}");
            }
        }
    }

    #[test]
    fn urls_that_are_not_supported_are_refused_with_a_remedy() {
        for (text, problem) in [
            ("", "relative URL without a base"),
            ("127.0.0.1:80/auth", "relative URL without a base"),
            ("https://host/auth", "https is not supported; use http://"),
            ("ftp://host/auth", "the scheme \"ftp\" is not supported"),
            ("http://", "empty host"),
            ("http://ann:secret@host/", "a user name or password in the URL is not supported"),
        ] {
            let error = url(text).unwrap_err();
            assert!(error.starts_with(problem) && !error.contains("secret"), "{error}");
        }
        let (_, shown) = url("http://127.0.0.1:8080/auth?key=secret#x").expect("a URL");
        assert_eq!(shown, "http://127.0.0.1:8080/auth");
    }

    proptest! {
        #[test]
        fn what_is_asked_can_be_read_back(user in "\\PC{0,8}", password in prop::collection::vec(any::<u8>(), 0..8)) {
            let question = Question::user(&user, &password, "c");
            let (_, form) = question.content(HttpForm::Form).expect("a form");
            prop_assert!(form.is_ascii() && !form.contains(['\r', '\n', ' ']));
            let mut fields = form_urlencoded::parse(form.as_bytes());
            prop_assert_eq!(fields.next(), Some(("username".into(), user.into())));
            prop_assert_eq!(fields.next(), Some(("password".into(), String::from_utf8_lossy(&password))));
            prop_assert_eq!(fields.next(), Some(("clientid".into(), "c".into())));
        }

        #[test]
        fn reading_an_answer_is_total(status in any::<u16>(), body in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = read(&Response { status, body }, HttpAnswers::Json);
        }
    }
}
