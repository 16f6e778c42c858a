//! Pages of the lists of the broker.

use serde_json::{Value, json};

use super::answer::{Answer, Problem};
use super::input;
use crate::broker::{Page, PageRequest};

/// The page as the broker knows it.
pub(super) fn request(page: input::Page) -> Result<PageRequest, Problem> {
    let number = usize::try_from(page.page).unwrap_or(usize::MAX);
    PageRequest::new(number, page.limit()).map_err(|error| Problem::bad_request(error.to_string()))
}

/// A page with its items.
pub(super) fn listed<T>(page: &Page<T>, item: impl Fn(&T) -> Value) -> Answer {
    let items: Vec<Value> = page.items.iter().map(item).collect();
    Answer::json(
        &json!({ "data": items, "page": page.page, "limit": page.limit, "count": page.count }),
    )
}
