//! The description of the interface in OpenAPI 3.1, made from the table of routes.

use serde_json::{Map, Value, json};

use super::answer::{Answer, Problem};
use super::input::PAGE_LIMIT;
use super::parameter::{Kind, Parameter};
use super::route::{Asked, Content, Response, Route};

/// The shapes of what is sent and read, as JSON Schema.
const SCHEMAS: &str = include_str!("schemas.json");

#[allow(clippy::unused_async, reason = "all routes are answered in one way")]
pub(super) async fn get(asked: Asked) -> Result<Answer, Problem> {
    Ok(Answer::text("application/json", asked.desk.openapi.clone()))
}

/// The description of these routes.
pub(super) fn document(routes: &[Route]) -> Value {
    let mut paths = Map::new();
    for route in routes {
        let item = paths.entry(route.path).or_insert_with(|| json!({}));
        item[route.method.to_ascii_lowercase()] = operation(route);
    }
    let mut schemas: Value = serde_json::from_str(SCHEMAS).unwrap_or_default();
    for item in
        routes.iter().flat_map(|route| route.responses).filter_map(|response| {
            match response.content {
                Content::PageOf(item) => Some(item),
                _ => None,
            }
        })
    {
        schemas[format!("PageOf{item}")] = page_of(item);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hrotti",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The admin interface of an MQTT server. Times are RFC 3339 in UTC.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "security": [{ "token": [] }, {}],
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The first line of admin.tokenFile; not asked for where no such file is configured.",
                },
            },
        },
    })
}

fn operation(route: &Route) -> Value {
    let path = route.names().map(|name| {
        json!({
            "name": name,
            "in": "path",
            "required": true,
            "description": "percent-encoded",
            "schema": { "type": "string", "minLength": 1 },
        })
    });
    let parameters: Vec<Value> = path.chain(route.parameters.iter().map(parameter)).collect();
    let mut responses = Map::new();
    for response in route.responses {
        responses.insert(response.status.to_string(), described(response));
    }
    for (status, meaning) in everywhere(route) {
        let described = described(&Response::error(status, meaning));
        responses.entry(status.to_string()).or_insert(described);
    }
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(schema) = route.body {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": reference(schema) } },
        });
    }
    if route.open {
        operation["security"] = json!([{}]);
    }
    operation
}

/// What every route may answer.
fn everywhere(route: &Route) -> Vec<(u16, &'static str)> {
    let mut all = vec![
        (400, "a parameter or the body cannot be read"),
        (403, "the request comes from a page of another origin"),
        (503, "limits.adminTimeoutSecs passed before the answer"),
    ];
    if !route.open {
        all.push((401, "the token is missing or wrong"));
    }
    if route.method == "POST" {
        all.extend([
            (408, "the body did not arrive within limits.adminTimeoutSecs"),
            (413, "the body is larger than limits.adminRequestBytesMax"),
            (415, "the body is not declared as JSON"),
        ]);
    }
    all
}

fn operation_id(route: &Route) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { ' ' };
    let path: String = route.path.trim_start_matches("/api/v1").chars().map(letter).collect();
    let words = path.split_whitespace().map(|word| {
        let (first, rest) = word.split_at(1);
        format!("{}{rest}", first.to_ascii_uppercase())
    });
    let words: String = words.collect();
    let words = if words.is_empty() { "Page".to_owned() } else { words };
    format!("{}{words}", route.method.to_ascii_lowercase())
}

fn parameter(parameter: &Parameter) -> Value {
    let mut schema = match parameter.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Filter => json!({ "type": "string", "minLength": 1 }),
        Kind::Number { minimum, maximum } => {
            json!({ "type": "integer", "minimum": minimum, "maximum": maximum })
        }
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Choice(choices) => json!({ "type": "string", "enum": choices }),
    };
    match parameter.name {
        "page" => schema["default"] = 1.into(),
        "limit" => schema["default"] = PAGE_LIMIT.into(),
        _ => {}
    }
    json!({
        "name": parameter.name,
        "in": "query",
        "required": parameter.required,
        "description": parameter.meaning,
        "schema": schema,
    })
}

fn described(response: &Response) -> Value {
    let json: &[&str] = &["application/json"];
    let (media, schema) = match response.content {
        Content::Nothing => return json!({ "description": response.meaning }),
        Content::Json(schema) => (json, reference(schema)),
        Content::PageOf(item) => (json, reference(&format!("PageOf{item}"))),
        Content::Text(media) => (media, json!({ "type": "string" })),
    };
    let content = media.iter().map(|media| ((*media).to_owned(), json!({ "schema": schema })));
    json!({ "description": response.meaning, "content": content.collect::<Map<_, _>>() })
}

fn page_of(item: &str) -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["data", "page", "limit", "count"],
        "properties": {
            "data": { "type": "array", "items": reference(item) },
            "page": { "type": "integer", "minimum": 1 },
            "limit": { "type": "integer", "minimum": 1, "maximum": 1_000 },
            "count": {
                "type": "integer",
                "minimum": 0,
                "description": "all items that match, on all pages",
            },
        },
    })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}
