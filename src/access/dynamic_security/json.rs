//! JSON that keeps keys that are there twice, and its parts with their paths.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::access::file_error::{Problems, nearest};

/// More than any object of these files has: each key is compared with those before it.
const KEYS_MAX: usize = 100;

pub(super) enum Json {
    Null,
    Bool(bool),
    /// A whole number, or one that is none.
    Number(Option<i64>),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// An object and where it stands.
pub(super) struct Object<'a> {
    path: String,
    pairs: &'a [(String, Json)],
}

impl<'a> Object<'a> {
    /// The object at this path, whose keys are checked.
    pub(super) fn open(
        json: &'a Json,
        path: String,
        keys: &[&str],
        problems: &mut Problems,
    ) -> Option<Object<'a>> {
        let Json::Object(pairs) = json else {
            let place = if path.is_empty() { "the file" } else { &path };
            problems.add(0, format!("{place} must be an object in {{}}"));
            return None;
        };
        if pairs.len() > KEYS_MAX {
            let place = if path.is_empty() { "the file" } else { &path };
            problems.add(0, format!("{place} has more than {KEYS_MAX} keys; delete some"));
            return None;
        }
        let object = Object { path, pairs };
        for (at, (key, _)) in pairs.iter().enumerate() {
            let place = object.place(key);
            if pairs[..at].iter().any(|(before, _)| before.eq_ignore_ascii_case(key)) {
                problems.add(0, format!("{place} is there twice; delete one of the two"));
            } else if !keys.iter().any(|known| known.eq_ignore_ascii_case(key))
                && let Some(meant) = nearest(key, keys)
            {
                problems.add(0, format!("{place} is no known key; did you mean {meant:?}?"));
            }
        }
        Some(object)
    }

    /// The path of a key.
    pub(super) fn place(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key; `null` counts as none.
    fn get(&self, key: &str) -> Option<&'a Json> {
        let mut pairs = self.pairs.iter();
        let (_, value) = pairs.find(|(known, _)| known.eq_ignore_ascii_case(key))?;
        (!matches!(value, Json::Null)).then_some(value)
    }

    /// A text, if it is there.
    pub(super) fn text(&self, key: &str, problems: &mut Problems) -> Option<&'a str> {
        match self.get(key)? {
            Json::Text(text) => Some(text),
            _ => {
                problems.add(0, format!("{} must be a text in quotes", self.place(key)));
                None
            }
        }
    }

    /// A text that must be there and not empty.
    pub(super) fn required_text(&self, key: &str, problems: &mut Problems) -> Option<&'a str> {
        if self.get(key).is_none() {
            problems.add(0, format!("{} is missing; write a text", self.place(key)));
            return None;
        }
        let text = self.text(key, problems)?;
        if text.is_empty() {
            problems.add(0, format!("{} is empty; write a text", self.place(key)));
            return None;
        }
        Some(text)
    }

    /// A truth value, if it is there.
    pub(super) fn flag(&self, key: &str, problems: &mut Problems) -> Option<bool> {
        match self.get(key)? {
            Json::Bool(flag) => Some(*flag),
            _ => {
                problems.add(0, format!("{} must be true or false", self.place(key)));
                None
            }
        }
    }

    /// A truth value that must be there.
    pub(super) fn required_flag(&self, key: &str, problems: &mut Problems) -> Option<bool> {
        if self.get(key).is_none() {
            problems.add(0, format!("{} is missing; write true or false", self.place(key)));
        }
        self.flag(key, problems)
    }

    /// A whole number, if it is there.
    pub(super) fn number(&self, key: &str, problems: &mut Problems) -> Option<i64> {
        match self.get(key)? {
            Json::Number(Some(number)) => Some(*number),
            _ => {
                problems.add(0, format!("{} must be a whole number", self.place(key)));
                None
            }
        }
    }

    /// The values of a list with their paths; a list that is not there is empty.
    pub(super) fn list(
        &self,
        key: &str,
        problems: &mut Problems,
    ) -> impl Iterator<Item = (&'a Json, String)> + use<'a> {
        let place = self.place(key);
        let list: &[Json] = match self.get(key) {
            None => &[],
            Some(Json::List(list)) => list,
            Some(_) => {
                problems.add(0, format!("{place} must be a list in []"));
                &[]
            }
        };
        list.iter().enumerate().map(move |(at, json)| (json, format!("{place}[{at}]")))
    }

    /// An object inside, if it is there.
    pub(super) fn object(
        &self,
        key: &str,
        keys: &[&str],
        problems: &mut Problems,
    ) -> Option<Object<'a>> {
        Object::open(self.get(key)?, self.place(key), keys, problems)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(Some(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(i64::try_from(value).ok()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Number(None))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = entries.next_entry()? {
            pairs.push(pair);
        }
        Ok(Json::Object(pairs))
    }
}
