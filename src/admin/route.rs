//! A route: what a method and a path of the interface do, and what is documented of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use super::answer::{Answer, Problem};
use super::desk::Desk;
use super::input::{self, Page, Query};
use super::parameter::Parameter;

/// The answer under way.
pub(super) type Answering = Pin<Box<dyn Future<Output = Result<Answer, Problem>> + Send>>;

/// One row of the table of routes.
pub(super) struct Route {
    pub(super) method: &'static str,
    /// The path; `{name}` stands for a segment.
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    pub(super) parameters: &'static [Parameter],
    /// The schema of the body that the route reads.
    pub(super) body: Option<&'static str>,
    pub(super) responses: &'static [Response],
    /// Whether the route is answered without the token.
    pub(super) open: bool,
    pub(super) handler: fn(Asked) -> Answering,
}

/// An answer that a route gives.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) meaning: &'static str,
    pub(super) content: Content,
}

/// What an answer holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content {
    Nothing,
    /// JSON of this schema.
    Json(&'static str),
    /// A page of a list of items of this schema.
    PageOf(&'static str),
    /// Text of one of these media types.
    Text(&'static [&'static str]),
}

impl Response {
    pub(super) const fn json(status: u16, schema: &'static str, meaning: &'static str) -> Response {
        Response { status, meaning, content: Content::Json(schema) }
    }

    pub(super) const fn page_of(schema: &'static str, meaning: &'static str) -> Response {
        Response { status: 200, meaning, content: Content::PageOf(schema) }
    }

    pub(super) const fn text(
        status: u16,
        media: &'static [&'static str],
        meaning: &'static str,
    ) -> Response {
        Response { status, meaning, content: Content::Text(media) }
    }

    pub(super) const fn nothing(status: u16, meaning: &'static str) -> Response {
        Response { status, meaning, content: Content::Nothing }
    }

    pub(super) const fn error(status: u16, meaning: &'static str) -> Response {
        Response::json(status, "Error", meaning)
    }
}

impl Route {
    pub(super) const fn get(path: &'static str, handler: fn(Asked) -> Answering) -> Route {
        Route::new("GET", path, handler)
    }

    pub(super) const fn post(path: &'static str, handler: fn(Asked) -> Answering) -> Route {
        Route::new("POST", path, handler)
    }

    pub(super) const fn delete(path: &'static str, handler: fn(Asked) -> Answering) -> Route {
        Route::new("DELETE", path, handler)
    }

    const fn new(
        method: &'static str,
        path: &'static str,
        handler: fn(Asked) -> Answering,
    ) -> Route {
        Route {
            method,
            path,
            summary: "",
            parameters: &[],
            body: None,
            responses: &[],
            open: false,
            handler,
        }
    }

    pub(super) const fn says(
        mut self,
        summary: &'static str,
        responses: &'static [Response],
    ) -> Route {
        self.summary = summary;
        self.responses = responses;
        self
    }

    pub(super) const fn query(mut self, parameters: &'static [Parameter]) -> Route {
        self.parameters = parameters;
        self
    }

    pub(super) const fn reads(mut self, schema: &'static str) -> Route {
        self.body = Some(schema);
        self
    }

    pub(super) const fn open(mut self) -> Route {
        self.open = true;
        self
    }

    /// The decoded segments of `path` that stand for a name, if the path is one of this route.
    ///
    /// # Errors
    /// A segment of a path of this route cannot be decoded.
    pub(super) fn segments(&self, path: &str) -> Option<Result<Vec<String>, Problem>> {
        let (mut own, mut asked) = (self.path.split('/'), path.split('/'));
        let mut named = Vec::new();
        loop {
            match (own.next(), asked.next()) {
                (None, None) => break,
                (Some(name), Some(segment)) if name.starts_with('{') && !segment.is_empty() => {
                    named.push(segment);
                }
                (Some(own), Some(asked)) if own == asked => {}
                _ => return None,
            }
        }
        Some(named.into_iter().map(|segment| input::decoded(segment, false)).collect())
    }

    /// The names of the segments that stand for something.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }
}

/// A request that its route understands.
pub(super) struct Asked {
    pub(super) desk: Arc<Desk>,
    segments: Vec<String>,
    pub(super) query: Query,
    pub(super) body: Bytes,
    /// The formats that the client reads.
    pub(super) accept: String,
    /// The version of the answer that the client has.
    pub(super) has: String,
}

impl Asked {
    pub(super) fn new(
        desk: &Arc<Desk>,
        segments: Vec<String>,
        query: Query,
        (accept, has): (String, String),
    ) -> Asked {
        Asked { desk: desk.clone(), segments, query, body: Bytes::new(), accept, has }
    }

    /// The segment of the path at this place.
    pub(super) fn segment(&self, index: usize) -> &str {
        self.segments.get(index).map_or("", String::as_str)
    }

    pub(super) fn page(&self) -> Page {
        self.query.page()
    }
}
