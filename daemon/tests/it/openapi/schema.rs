//! Whether a value fits a schema: the part of JSON Schema that the document uses. Anything else in a schema fails.

use serde_json::Value;

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
        // The only one is that of service types, and a value is read as one elsewhere.
        "pattern" => that(value.as_str().is_none_or(|it| (1..=50).contains(&it.len()))),
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
            .try_for_each(|(_, member)| check(member, rule, document)),
        word if REMARKS.contains(&word) => Ok(()),
        word => Err(format!("`{word}` is not known to this test")),
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
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
