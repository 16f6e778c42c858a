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
            "minimum" => value.as_f64().is_none_or(|number| Some(number) >= rule.as_f64()),
            "maximum" => value.as_f64().is_none_or(|number| Some(number) <= rule.as_f64()),
            "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= number(rule)),
            "maxItems" => value.as_array().is_none_or(|all| all.len() as u64 <= number(rule)),
            "minItems" => value.as_array().is_none_or(|all| all.len() as u64 >= number(rule)),
            "minProperties" => value.as_object().is_none_or(|all| all.len() as u64 >= number(rule)),
            "required" => {
                let names = rule.as_array().expect("a list").iter().filter_map(Value::as_str);
                let missing = names.filter(|name| value.get(name).is_none());
                found.extend(missing.map(|name| format!("{at}: {name} is missing")));
                true
            }
            "properties" | "additionalProperties" => {
                members(document, schema, (word, rule), value, at, found);
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
            "description" | "default" => true,
            unknown => panic!("{at}: the validator does not know {unknown}"),
        };
        if !holds {
            found.push(format!("{at}: {value} is not {word} {rule}"));
        }
    }
}

/// The members of an object: those that are known, or the others.
fn members(
    document: &Value,
    schema: &Value,
    (word, rule): (&str, &Value),
    value: &Value,
    at: &str,
    found: &mut Vec<String>,
) {
    let known = schema["properties"].as_object();
    for (name, value) in value.as_object().into_iter().flatten() {
        let own = known.and_then(|known| known.get(name));
        let at = format!("{at}.{name}");
        match (word, own) {
            ("properties", Some(schema)) => check(document, schema, value, &at, found),
            ("additionalProperties", None) if rule == false => {
                found.push(format!("{at} is too much"))
            }
            ("additionalProperties", None) => check(document, rule, value, &at, found),
            _ => {}
        }
    }
}

fn number(rule: &Value) -> u64 {
    rule.as_u64().expect("a number")
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
        (serde_json::json!({ "a": "1" }), 1),
        (serde_json::json!({ "a": 1, "c": 1 }), 1),
        (serde_json::json!({ "b": 1 }), 2),
        (serde_json::json!([]), 2),
    ] {
        let found = problems(&document, &schema, &value);
        assert_eq!(found.len(), count, "{value}: {found:?}");
    }
}
