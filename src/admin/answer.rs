//! What a request is answered with: a text, JSON, or a stream of events; or a problem with its remedy.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// What a stream of events yields.
pub(super) type Chunks = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

const JSON: &str = "application/json";

/// An answer to a request that was understood.
pub(super) struct Answer {
    status: u16,
    content_type: &'static str,
    content: Content,
    headers: Vec<(HeaderName, HeaderValue)>,
}

enum Content {
    Nothing,
    Whole(Bytes),
    Stream(Chunks),
}

impl Answer {
    pub(super) fn json(value: &Value) -> Answer {
        Answer::new(200, JSON, Content::Whole(value.to_string().into()))
    }

    pub(super) fn text(content_type: &'static str, text: impl Into<Bytes>) -> Answer {
        Answer::new(200, content_type, Content::Whole(text.into()))
    }

    pub(super) fn nothing(status: u16) -> Answer {
        Answer::new(status, "", Content::Nothing)
    }

    /// Events that the server sends.
    pub(super) fn events(chunks: Chunks) -> Answer {
        Answer::new(200, "text/event-stream", Content::Stream(chunks))
    }

    fn new(status: u16, content_type: &'static str, content: Content) -> Answer {
        Answer { status, content_type, content, headers: Vec::new() }
    }

    pub(super) fn with_status(mut self, status: u16) -> Answer {
        self.status = status;
        self
    }

    /// Adds a header; one whose value no header can have is left out.
    pub(super) fn with_header(mut self, name: HeaderName, value: &str) -> Answer {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    pub(super) fn into_response(self) -> Response<AnswerBody> {
        let mut response = Response::new(AnswerBody(self.content));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        if !self.content_type.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        for (name, value) in STANDING {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        response
    }
}

/// The headers of every answer: nothing may be kept, guessed, framed, or loaded from elsewhere.
const STANDING: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Why a request has no other answer: the status, and a text with key, value and remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: u16,
    text: String,
    /// More than one line of text, as `errors`.
    lines: Option<Vec<String>>,
    /// A header that belongs to the status.
    header: Option<(HeaderName, String)>,
}

impl Problem {
    pub(super) fn new(status: u16, text: impl Into<String>) -> Problem {
        Problem { status, text: text.into(), lines: None, header: None }
    }

    pub(super) fn bad_request(text: impl Into<String>) -> Problem {
        Problem::new(400, text)
    }

    pub(super) fn not_found(text: impl Into<String>) -> Problem {
        Problem::new(404, text)
    }

    /// Each error of a text that was read whole.
    pub(super) fn errors(status: u16, text: &str, lines: Vec<String>) -> Problem {
        Problem { lines: Some(lines), ..Problem::new(status, text) }
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: &str) -> Problem {
        self.header = Some((name, value.to_owned()));
        self
    }

    pub(super) fn into_answer(self) -> Answer {
        let mut value = json!({ "error": self.text });
        if let Some(lines) = self.lines {
            value["errors"] = lines.into();
        }
        let answer = Answer::json(&value).with_status(self.status);
        match self.header {
            Some((name, value)) => answer.with_header(name, &value),
            None => answer,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.text)
    }
}

/// The body of a response.
pub(super) struct AnswerBody(Content);

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut self.0 {
            Content::Stream(chunks) => std::task::ready!(chunks.as_mut().poll_next(cx)),
            Content::Nothing => None,
            whole @ Content::Whole(_) => match std::mem::replace(whole, Content::Nothing) {
                Content::Whole(bytes) => Some(bytes),
                _ => None,
            },
        };
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Nothing => true,
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Nothing => SizeHint::with_exact(0),
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}
