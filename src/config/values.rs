//! Values of single keys: each is read, or the error says what it is, what it must be, and the remedy.

use std::path::PathBuf;

use serde_json::Number;

use super::json::Json;

pub(super) fn whole_number(
    value: &Json,
    unit: &str,
    minimum: u64,
    maximum: u64,
) -> Result<u64, String> {
    let range = format!("write a whole number of {unit} from {minimum} to {maximum}");
    match value {
        Json::Number(number) if number.as_f64().is_some_and(|number| number.fract() != 0.0) => {
            Err(format!("{value} is no whole number; {range}"))
        }
        Json::Number(number) => whole(number)
            .filter(|number| (minimum..=maximum).contains(number))
            .ok_or_else(|| format!("{value} is out of range; {range}")),
        Json::String(text) if text.parse::<u64>().is_ok() => {
            Err(format!("must be a number, not a string ({value}); remove the quotes"))
        }
        _ => Err(format!("must be a number, not {} ({value}); {range}", value.kind())),
    }
}

/// A number that is whole, also where it is written with a point or an exponent (`100.0`, `1e3`).
fn whole(number: &Number) -> Option<u64> {
    let written = || number.as_f64().map(|number| format!("{number:.0}"));
    number.as_u64().or_else(|| written()?.parse().ok())
}

/// The path of a file that does not depend on the directory in which the program is started.
pub(super) fn absolute_path(value: &Json, example: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text(value, example)?);
    if path.is_absolute() && path.file_name().is_some() {
        return Ok(path);
    }
    Err(format!("{value} is no absolute path of a file; write for example {example}"))
}

pub(super) fn boolean(value: &Json) -> Result<bool, String> {
    match value {
        Json::Bool(on) => Ok(*on),
        Json::String(text) if text == "true" || text == "false" => {
            Err(format!("must be a truth value, not a string ({value}); remove the quotes"))
        }
        _ => Err(format!(
            "must be a truth value, not {} ({value}); write true or false",
            value.kind()
        )),
    }
}

/// A text that is not empty and has no control characters. `example` is what might stand there.
pub(super) fn text(value: &Json, example: &str) -> Result<String, String> {
    match value {
        Json::String(text) if text.trim().is_empty() => Err(format!(
            "is empty ({value}); write a value, for example {example}, or remove the key"
        )),
        Json::String(text) if text.contains(char::is_control) => {
            Err(format!("{value} holds a control character; remove it"))
        }
        Json::String(text) => Ok(text.clone()),
        _ => Err(format!(
            "must be a string, not {} ({value}); write for example {example}",
            value.kind()
        )),
    }
}

/// The path of a file.
pub(super) fn path(value: &Json, example: &str) -> Result<PathBuf, String> {
    text(value, &format!("{example:?}")).map(PathBuf::from)
}

/// A list of texts, at least one, none twice. `what` names them.
pub(super) fn texts(value: &Json, what: &str, example: &str) -> Result<Vec<String>, String> {
    let Json::Array(values) = value else {
        let remedy = format!("write {what} in brackets, for example {example}");
        return Err(format!("must be an array, not {} ({value}); {remedy}", value.kind()));
    };
    if values.is_empty() {
        return Err(format!(
            "is empty ([]); write {what}, for example {example}, or remove the key"
        ));
    }
    let mut read: Vec<String> = Vec::new();
    for value in values {
        let one = text(value, example).map_err(|problem| match value {
            Json::String(_) => problem,
            _ => format!("must hold strings, not {} ({value}); write {example}", value.kind()),
        })?;
        if read.contains(&one) {
            return Err(format!("holds {value} twice; remove one of the two"));
        }
        read.push(one);
    }
    Ok(read)
}

/// One of some names.
pub(super) fn choice<T: Copy>(value: &Json, choices: &[(&str, T)]) -> Result<T, String> {
    let names: Vec<String> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
    let names = match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    };
    let Json::String(text) = value else {
        return Err(format!("must be a string, not {} ({value}); write {names}", value.kind()));
    };
    let found = choices.iter().find(|(name, _)| name == text).map(|(_, chosen)| *chosen);
    found.ok_or_else(|| format!("{value} is not one of the choices; write {names}"))
}
