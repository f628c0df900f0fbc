//! A configuration file as a tree of values, each with the place where it stands, whatever the file is written in.
//!
//! Invariant: every span lies within the text of the file that it is of.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, floor, place};

/// Tables within tables that are looked at: what is configured has four.
const MAX_DEPTH: usize = 8;

/// What a file is written in, and so how strict it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `config.toml`, made by people: a key that is not known is a mistake.
    Toml,
    /// `config.json`, made by programs: other versions have other keys.
    Json,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    pub(super) text: String,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) value: Value,
}

/// What stands there.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Switch(bool),
    List(Vec<Node>),
    /// In the order of the file, each key once.
    Table(Vec<Entry>),
    /// `null`: as if it were not there.
    Nothing,
    /// A fraction, a date, or a number or depth beyond what is ever meant.
    Other,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Where the key stands; in JSON, where its value does.
    pub(super) key_span: Range<usize>,
    pub(super) node: Node,
}

impl Source {
    /// Reads the text as what it is written in.
    pub(super) fn parse(&self) -> Result<Node, Problem> {
        match self.format {
            Format::Toml => parse_toml(&self.text),
            Format::Json => parse_json(&self.text),
        }
        .map_err(|(message, span)| Problem {
            path: self.path.clone(),
            place: Some(place(&self.text, span)),
            message,
        })
    }
}

type Fault = (String, Range<usize>);

fn parse_toml(text: &str) -> Result<Node, Fault> {
    let table = DeTable::parse(text).map_err(|error| {
        let message = error.message().replace('\n', "; ");
        (message, error.span().unwrap_or(0..0))
    })?;
    Ok(Node {
        span: table.span(),
        value: of_toml_table(table.get_ref(), MAX_DEPTH),
    })
}

fn of_toml(value: &Spanned<DeValue<'_>>, depth: usize) -> Node {
    let deeper = depth.checked_sub(1);
    let converted = match (value.get_ref(), deeper) {
        (DeValue::String(text), _) => Value::Text(text.clone().into_owned()),
        (DeValue::Integer(number), _) => {
            let number = i64::from_str_radix(number.as_str(), number.radix());
            number.map_or(Value::Other, Value::Integer)
        }
        (DeValue::Boolean(switch), _) => Value::Switch(*switch),
        (DeValue::Array(list), Some(depth)) => {
            Value::List(list.iter().map(|value| of_toml(value, depth)).collect())
        }
        (DeValue::Table(table), Some(depth)) => of_toml_table(table, depth),
        _ => Value::Other,
    };
    Node {
        span: value.span(),
        value: converted,
    }
}

fn of_toml_table(table: &DeTable<'_>, depth: usize) -> Value {
    let entries = table.iter().map(|(key, value)| Entry {
        key: key.get_ref().clone().into_owned(),
        key_span: key.span(),
        node: of_toml(value, depth),
    });
    let mut entries: Vec<Entry> = entries.collect();
    // The order of rules is that of the file, and the parser has sorted them by name.
    entries.sort_by_key(|entry| entry.key_span.start);
    Value::Table(entries)
}

fn parse_json(text: &str) -> Result<Node, Fault> {
    let root: &RawValue = serde_json::from_str(text).map_err(|error| {
        let said = error.to_string();
        let position = format!(" at line {} column {}", error.line(), error.column());
        let at = offset(text, error.line(), error.column());
        (said.trim_end_matches(&position).to_owned(), at..at)
    })?;
    Ok(of_json(root, text, MAX_DEPTH))
}

fn of_json(raw: &RawValue, text: &str, depth: usize) -> Node {
    let raw = raw.get();
    // A raw value is a slice of the text that it was read from.
    let start = raw.as_ptr().addr() - text.as_ptr().addr();
    let value = match (raw.as_bytes().first(), depth.checked_sub(1)) {
        (Some(b'{'), Some(depth)) => json_table(raw, text, depth),
        (Some(b'['), Some(depth)) => {
            let list: Result<Vec<&RawValue>, _> = serde_json::from_str(raw);
            list.ok()
                .map(|list| Value::List(list.iter().map(|raw| of_json(raw, text, depth)).collect()))
        }
        (Some(b'"'), _) => serde_json::from_str(raw).ok().map(Value::Text),
        (Some(b't' | b'f'), _) => serde_json::from_str(raw).ok().map(Value::Switch),
        (Some(b'n'), _) => Some(Value::Nothing),
        _ => serde_json::from_str(raw).ok().map(Value::Integer),
    };
    Node {
        span: start..start + raw.len(),
        value: value.unwrap_or(Value::Other),
    }
}

fn json_table(raw: &str, text: &str, depth: usize) -> Option<Value> {
    let pairs = serde_json::Deserializer::from_str(raw)
        .deserialize_map(Pairs)
        .ok()?;
    let mut entries: Vec<Entry> = Vec::new();
    for (key, raw) in pairs {
        let node = of_json(raw, text, depth);
        // Of a key that is there twice the second counts, as for every reader of JSON.
        entries.retain(|entry| entry.key != key);
        entries.push(Entry {
            key,
            key_span: node.span.clone(),
            node,
        });
    }
    Some(Value::Table(entries))
}

/// The keys and values of an object, in its order.
struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some((key, raw)) = map.next_entry::<String, &RawValue>()? {
            pairs.push((key, raw));
        }
        Ok(pairs)
    }
}

/// The offset of a column (from 1, in bytes) of a line (from 1).
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    floor(text, before + column.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(format: Format, text: &str) -> Source {
        Source {
            path: PathBuf::from("/h/config"),
            format,
            text: text.to_owned(),
        }
    }

    fn keys(node: &Node) -> Vec<&str> {
        let Value::Table(entries) = &node.value else {
            panic!("no table: {node:?}");
        };
        entries.iter().map(|entry| entry.key.as_str()).collect()
    }

    /// Every value of both files, with the text that its span covers.
    fn flat<'a>(node: &'a Node, text: &'a str) -> Vec<(&'a Value, &'a str)> {
        let own = (&node.value, &text[node.span.clone()]);
        let inner: Vec<&Node> = match &node.value {
            Value::Table(entries) => entries.iter().map(|entry| &entry.node).collect(),
            Value::List(list) => list.iter().collect(),
            _ => return vec![own],
        };
        inner.iter().flat_map(|inner| flat(inner, text)).collect()
    }

    #[test]
    fn both_formats_give_the_same_values_in_the_order_of_the_file() {
        let toml = "z = 1\na = [true, 'x']\n[t]\nn = 0x10\nd = 1979-05-27\n";
        let json = r#"{"z": 1, "a": [true, "x"], "t": {"n": 16, "d": 1.5}}"#;
        let toml_tree = source(Format::Toml, toml).parse().unwrap();
        let json_tree = source(Format::Json, json).parse().unwrap();
        assert_eq!(keys(&toml_tree), ["z", "a", "t"]);
        assert_eq!(keys(&json_tree), ["z", "a", "t"]);
        let values = |tree: &Node, text: &str| {
            let flat = flat(tree, text);
            let values = flat.into_iter().map(|(value, _)| value.clone());
            values.collect::<Vec<_>>()
        };
        assert_eq!(values(&toml_tree, toml), values(&json_tree, json));
        let spans: Vec<_> = flat(&json_tree, json).into_iter().map(|it| it.1).collect();
        assert_eq!(spans, ["1", "true", "\"x\"", "16", "1.5"]);
    }

    #[test]
    fn a_syntax_error_has_line_column_and_a_mark() {
        let problem = source(Format::Json, "{\n  \"ä\": 1,,\n}")
            .parse()
            .unwrap_err();
        assert_eq!(problem.to_string(), "/h/config:2:10: key must be a string");
        assert_eq!(
            problem.excerpt().unwrap(),
            "2 |   \"ä\": 1,,\n  |          ^"
        );
        let problem = source(Format::Toml, "a = 1\nb = = 2\n")
            .parse()
            .unwrap_err();
        let place = problem.place.as_ref().unwrap();
        assert_eq!((place.line, place.column), (2, 5), "{problem}");
        assert!(!problem.message.contains('\n'), "{problem}");
    }

    #[test]
    fn what_nobody_means_is_no_value_and_no_crash() {
        for text in [
            "1e999",
            "123456789012345678901234567890",
            "null",
            "\"\\ud800\"",
        ] {
            let parsed = source(Format::Json, &format!("{{\"a\": {text}}}")).parse();
            let Ok(Node {
                value: Value::Table(entries),
                ..
            }) = parsed
            else {
                continue;
            };
            assert!(
                matches!(entries[0].node.value, Value::Other | Value::Nothing),
                "{text}"
            );
        }
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        drop(source(Format::Json, &deep).parse());
        drop(source(Format::Toml, &format!("a = {deep}")).parse());
        drop(source(Format::Json, "").parse().unwrap_err());
    }

    #[test]
    fn of_a_json_key_that_is_there_twice_the_second_counts() {
        let tree = source(Format::Json, r#"{"a": 1, "a": 2}"#).parse().unwrap();
        let Value::Table(entries) = tree.value else {
            panic!("no table");
        };
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].node.value, Value::Integer(2));
    }
}
