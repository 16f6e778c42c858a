//! A validator for the part of JSON Schema that the description of the interface uses. A word that it does not know is an
//! error, so that no rule is passed over.

use serde_json::Value;

/// What is wrong with a value by a schema of this document; one line each, with the place.
pub(crate) fn problems(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(document, schema, value, "$", &mut found);
    found
}

fn check(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let Some(rules) = schema.as_object() else { return };
    for (word, rule) in rules {
        let holds = match word.as_str() {
            "$ref" => {
                let path = rule.as_str().expect("a text").trim_start_matches('#');
                let target = document.pointer(path).unwrap_or_else(|| panic!("{path} is missing"));
                check(document, target, value, at, found);
                true
            }
            "type" => match rule {
                Value::Array(types) => types.iter().any(|one| is(one, value)),
                one => is(one, value),
            },
            "enum" => rule.as_array().expect("a list").contains(value),
            "const" => rule == value,
            "format" => rule != "date-time" || is_time(value),
            "minimum" => value.as_f64() >= rule.as_f64(),
            "maximum" => value.as_f64() <= rule.as_f64(),
            "minLength" => {
                value.as_str().is_none_or(|text| text.len() as u64 >= rule.as_u64().unwrap_or(0))
            }
            "maxLength" => {
                value.as_str().is_none_or(|text| text.len() as u64 <= rule.as_u64().unwrap_or(0))
            }
            "maxItems" => {
                value.as_array().is_none_or(|all| all.len() as u64 <= rule.as_u64().unwrap_or(0))
            }
            "minProperties" => {
                value.as_object().is_none_or(|all| all.len() as u64 >= rule.as_u64().unwrap_or(0))
            }
            "required" => rule.as_array().expect("a list").iter().all(|name| {
                let has = value.get(name.as_str().expect("a name")).is_some();
                if !has {
                    found.push(format!("{at}: {name} is missing"));
                }
                has
            }),
            "properties" => {
                for (name, schema) in rule.as_object().expect("an object") {
                    if let Some(value) = value.get(name) {
                        check(document, schema, value, &format!("{at}.{name}"), found);
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = rules.get("properties").and_then(Value::as_object);
                for (name, value) in value.as_object().into_iter().flatten() {
                    let more = known.is_none_or(|known| !known.contains_key(name));
                    match rule {
                        Value::Bool(false) if more => {
                            found.push(format!("{at}: {name} is too much"))
                        }
                        schema if more => {
                            check(document, schema, value, &format!("{at}.{name}"), found)
                        }
                        _ => {}
                    }
                }
                true
            }
            "items" => {
                for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                    check(document, rule, value, &format!("{at}[{index}]"), found);
                }
                true
            }
            "anyOf" | "oneOf" => {
                let all = rule.as_array().expect("a list");
                let fitting =
                    all.iter().filter(|one| problems(document, one, value).is_empty()).count();
                fitting == 1 || fitting > 1 && word == "anyOf"
            }
            "description" | "default" | "title" => true,
            unknown => panic!("{at}: the validator does not know {unknown}"),
        };
        if !holds {
            found.push(format!("{at}: {value} is not {word} {rule}"));
        }
    }
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str().expect("a type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        unknown => panic!("{unknown} is no type"),
    }
}

fn is_time(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T'
}

#[test]
fn the_validator_finds_what_is_wrong() {
    let document = serde_json::json!({ "Count": { "type": "integer", "minimum": 0 } });
    let schema = serde_json::json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["a"],
        "properties": { "a": { "$ref": "#/Count" }, "b": { "type": ["string", "null"] } },
    });
    for (value, count) in [
        (serde_json::json!({ "a": 1 }), 0),
        (serde_json::json!({ "a": 1, "b": null }), 0),
        (serde_json::json!({ "a": -1 }), 1),
        (serde_json::json!({ "a": "1" }), 2),
        (serde_json::json!({ "a": 1, "c": 1 }), 1),
        (serde_json::json!({ "b": 1 }), 3),
        (serde_json::json!([]), 3),
    ] {
        let found = problems(&document, &schema, &value);
        assert_eq!(found.len(), count, "{value}: {found:?}");
    }
}
