//! Whether a value fits a schema: the part of JSON Schema that the document uses. Anything else in a schema fails.

use serde_json::{Value, json};
use styxy_protocol::ServiceType;

/// Words that say nothing about a value that matters here.
const REMARKS: [&str; 5] = ["description", "default", "title", "format", "examples"];

/// Holds `value` against `schema`, a part of `document`.
pub(super) fn check(value: &Value, schema: &Value, document: &Value) -> Result<(), String> {
    let Some(words) = schema.as_object() else {
        return if schema == false {
            Err(format!("{value} is allowed nowhere"))
        } else {
            Ok(())
        };
    };
    for (word, rule) in words {
        keyword(word, rule, value, schema, document)
            .map_err(|error| format!("{error}, says `{word}`"))?;
    }
    Ok(())
}

fn keyword(
    word: &str,
    rule: &Value,
    value: &Value,
    schema: &Value,
    document: &Value,
) -> Result<(), String> {
    let each = |rules: &Value| -> Vec<Result<(), String>> {
        let rules = rules.as_array().expect("a list").iter();
        rules.map(|rule| check(value, rule, document)).collect()
    };
    let that = |holds: bool| {
        if holds {
            Ok(())
        } else {
            Err(format!("{value} is not {rule}"))
        }
    };
    match word {
        "$ref" => {
            let pointer = rule
                .as_str()
                .and_then(|it| it.strip_prefix('#'))
                .expect("local");
            let target = document.pointer(pointer).expect("the document has it");
            check(value, target, document)
        }
        "type" => match rule {
            Value::Array(types) => that(types.iter().any(|it| is_of_type(value, it))),
            one => that(is_of_type(value, one)),
        },
        "enum" => that(rule.as_array().is_some_and(|it| it.contains(value))),
        "const" => that(value == rule),
        // These speak of numbers and of lists alone.
        "minimum" => that(!value.is_number() || value.as_f64() >= rule.as_f64()),
        "maximum" => that(!value.is_number() || value.as_f64() <= rule.as_f64()),
        "minItems" => that(!value.is_array() || value.as_array().map(Vec::len) >= size(rule)),
        "maxItems" => that(!value.is_array() || value.as_array().map(Vec::len) <= size(rule)),
        "pattern" => that(value.as_str().is_none_or(|it| matches(rule, it))),
        "allOf" => each(rule).into_iter().collect(),
        "anyOf" | "oneOf" => {
            let results = each(rule);
            if results.iter().any(Result::is_ok) {
                Ok(())
            } else {
                Err(format!("{results:?}"))
            }
        }
        "items" => value
            .as_array()
            .into_iter()
            .flatten()
            .try_for_each(|it| check(it, rule, document)),
        "required" => rule.as_array().expect("names").iter().try_for_each(|name| {
            let name = name.as_str().expect("a name");
            let is_there = value.as_object().is_none_or(|it| it.contains_key(name));
            if is_there {
                Ok(())
            } else {
                Err(format!("{value} has no `{name}`"))
            }
        }),
        "properties" => members(value).try_for_each(|(name, member)| match rule.get(name) {
            Some(rule) => check(member, rule, document),
            None => Ok(()),
        }),
        "additionalProperties" => members(value)
            .filter(|(name, _)| schema["properties"].get(name).is_none())
            .filter(|(name, _)| {
                rules_for(name, &schema["patternProperties"])
                    .next()
                    .is_none()
            })
            .try_for_each(|(_, member)| check(member, rule, document)),
        "patternProperties" => members(value).try_for_each(|(name, member)| {
            rules_for(name, rule).try_for_each(|rule| check(member, rule, document))
        }),
        word if REMARKS.contains(&word) => Ok(()),
        word => Err(format!("`{word}` is not known to this test")),
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// What is said about members of this name, by the pattern that the name has.
fn rules_for<'a>(name: &str, by_pattern: &'a Value) -> impl Iterator<Item = &'a Value> {
    let rules = members(by_pattern);
    rules.filter_map(move |(pattern, rule)| matches(&json!(pattern), name).then_some(rule))
}

/// Whether a text has this pattern. The only one in the document is that of service types.
fn matches(pattern: &Value, text: &str) -> bool {
    assert_eq!(*pattern, "^[A-Za-z0-9-]{1,50}$");
    text.parse::<ServiceType>().is_ok()
}

fn size(rule: &Value) -> Option<usize> {
    usize::try_from(rule.as_u64()?).ok()
}

fn is_of_type(value: &Value, name: &Value) -> bool {
    match name.as_str().expect("a type") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no such type: {other}"),
    }
}
