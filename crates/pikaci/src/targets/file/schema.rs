//! The JSON schema of a file, made of the table of its keys.
//!
//! Draft 7, which editors of TOML know. It says what can be said without the rest of the file:
//! names and shapes. That a job which is needed exists, and that a pattern can match, is the
//! reader's.

use serde_json::{Map, Value, json};

use super::keys::{FILE, Shape, TableSpec};
use crate::operator::keys as user;

/// Of `jericho.toml`.
pub(crate) fn of_targets() -> Value {
    document("jericho.toml", "Targets of a source tree for Jericho CI", &FILE)
}

/// Of the user's file.
pub(crate) fn of_user_file() -> Value {
    document("config.toml", "Hosts and allowed secrets of a user of Jericho CI", &user::FILE)
}

fn document(title: &str, description: &str, spec: &TableSpec) -> Value {
    let mut root = Map::new();
    root.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
    root.insert("title".to_owned(), title.into());
    root.insert("description".to_owned(), description.into());
    root.extend(table(spec));
    Value::Object(root)
}

fn table(spec: &TableSpec) -> Map<String, Value> {
    let properties: Map<String, Value> = spec
        .keys
        .iter()
        .map(|key| {
            let mut value = shape(&key.shape, spec.filled);
            let absent = match key.absent {
                "must be there" => String::new(),
                absent => format!(" [default: {}]", plain(absent)),
            };
            value.insert("description".to_owned(), format!("{}{absent}", plain(key.about)).into());
            (key.name.to_owned(), Value::Object(value))
        })
        .collect();
    let mut object = object(json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    }));
    if !spec.required.is_empty() {
        object.insert("required".to_owned(), json!(spec.required));
    }
    object
}

/// Where a matrix can fill a text in, it need not be one of the words yet.
fn shape(of: &Shape, filled: bool) -> Map<String, Value> {
    match of {
        Shape::Text => object(json!({ "type": "string" })),
        Shape::Word(words) if filled => object(json!({
            "type": "string",
            "anyOf": [{ "enum": words }, { "pattern": "\\$\\{[^}]+\\}" }],
        })),
        Shape::Word(words) => object(json!({ "type": "string", "enum": words })),
        Shape::Boolean => object(json!({ "type": "boolean" })),
        Shape::Integer(least, i64::MAX) => object(json!({ "type": "integer", "minimum": least })),
        Shape::Integer(least, most) => {
            object(json!({ "type": "integer", "minimum": least, "maximum": most }))
        }
        Shape::List(item) => object(json!({ "type": "array", "items": shape(item, filled) })),
        Shape::Table(spec) => table(spec),
        Shape::Named(value) => {
            let name = match filled {
                true => "^[A-Za-z0-9$][A-Za-z0-9._${}-]*$",
                false => "^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$",
            };
            object(json!({
                "type": "object",
                "propertyNames": { "pattern": name },
                "additionalProperties": shape(value, filled),
            }))
        }
        Shape::Words(value) => object(json!({
            "type": "object",
            "propertyNames": { "minLength": 1 },
            "additionalProperties": shape(value, filled),
        })),
        Shape::Any(shapes) => {
            let any: Vec<Value> = shapes.iter().map(|of| Value::Object(shape(of, filled))).collect();
            object(json!({ "anyOf": any }))
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => Map::from_iter([("const".to_owned(), other)]),
    }
}

/// Markdown of the documentation without its links.
fn plain(about: &str) -> String {
    let mut text = String::new();
    let mut rest = about;
    while let Some((before, link)) = rest.split_once('[') {
        match link.split_once("](").and_then(|(words, tail)| Some((words, tail.split_once(')')?.1))) {
            Some((words, tail)) => {
                text.push_str(before);
                text.push_str(words);
                rest = tail;
            }
            None => {
                text.push_str(before);
                text.push('[');
                rest = link;
            }
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests;
