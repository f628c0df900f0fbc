//! The few facts of a `package.json` that say what a script runs. Data only: nothing in it is executed.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What styxy reads of a `package.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// `name`.
    pub name: Option<String>,
    /// `scripts`, in the order of the file.
    pub scripts: Vec<(String, String)>,
    /// Names in `dependencies` and `devDependencies`.
    pub dependencies: BTreeSet<String>,
    /// Whether it is the root of npm, yarn or bun workspaces (`workspaces` is there and not empty).
    pub has_workspaces: bool,
    /// `packageManager`, such as `pnpm@9.1.0`.
    pub package_manager: Option<String>,
}

/// Why a text is not a `package.json`: it is not a JSON object.
#[derive(Debug, thiserror::Error)]
#[error("it is not a JSON object (line {}, column {})", .0.line(), .0.column())]
pub struct PackageError(#[source] serde_json::Error);

impl Package {
    /// Reads the text of a `package.json`. Keys of an unexpected shape count as absent.
    ///
    /// # Errors
    /// The text is not JSON or not an object.
    pub fn parse(text: &str) -> Result<Self, PackageError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let raw: Raw = serde_json::from_str(text).map_err(PackageError)?;
        let mut dependencies: BTreeSet<String> = raw.dependencies.0.into_iter().collect();
        dependencies.extend(raw.dev_dependencies.0);
        Ok(Self {
            name: raw.name.0,
            scripts: raw.scripts.0,
            dependencies,
            has_workspaces: raw.workspaces.0,
            package_manager: raw.package_manager.0,
        })
    }

    /// The text of the script with this name.
    pub fn script(&self, name: &str) -> Option<&str> {
        self.scripts
            .iter()
            .find(|(script, _)| script == name)
            .map(|(_, text)| text.as_str())
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw {
    name: Text,
    scripts: Texts,
    dependencies: Keys,
    #[serde(rename = "devDependencies")]
    dev_dependencies: Keys,
    workspaces: NotEmpty,
    #[serde(rename = "packageManager")]
    package_manager: Text,
}

/// A string, or anything else as `None`.
#[derive(Default)]
struct Text(Option<String>);
/// The entries of an object whose values are strings; anything else is empty.
#[derive(Default)]
struct Texts(Vec<(String, String)>);
/// The keys of an object; anything else is empty.
#[derive(Default)]
struct Keys(Vec<String>);
/// Whether it is an object or array with something in it.
#[derive(Default)]
struct NotEmpty(bool);

/// Implements `Deserialize` for every JSON value: a shape that is not expected gives the default.
macro_rules! tolerant {
    ($target:ident { $($body:tt)* }) => {
        impl<'de> Deserialize<'de> for $target {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Tolerant;
                impl<'de> Visitor<'de> for Tolerant {
                    type Value = $target;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("any JSON value")
                    }
                    fn visit_bool<E>(self, _: bool) -> Result<$target, E> {
                        Ok($target::default())
                    }
                    fn visit_i64<E>(self, _: i64) -> Result<$target, E> {
                        Ok($target::default())
                    }
                    fn visit_u64<E>(self, _: u64) -> Result<$target, E> {
                        Ok($target::default())
                    }
                    fn visit_f64<E>(self, _: f64) -> Result<$target, E> {
                        Ok($target::default())
                    }
                    fn visit_unit<E>(self) -> Result<$target, E> {
                        Ok($target::default())
                    }
                    $($body)*
                }
                deserializer.deserialize_any(Tolerant)
            }
        }
    };
}

fn skip_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<usize, A::Error> {
    let mut count = 0;
    while seq.next_element::<IgnoredAny>()?.is_some() {
        count += 1;
    }
    Ok(count)
}

fn skip_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<usize, A::Error> {
    let mut count = 0;
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
        count += 1;
    }
    Ok(count)
}

tolerant! { Text {
    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text(Some(text.to_owned())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Text, A::Error> {
        skip_seq(seq).map(|_| Text(None))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Text, A::Error> {
        skip_map(map).map(|_| Text(None))
    }
} }

tolerant! { Texts {
    fn visit_str<E>(self, _: &str) -> Result<Texts, E> {
        Ok(Texts::default())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Texts, A::Error> {
        skip_seq(seq).map(|_| Texts::default())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, Text(value))) = map.next_entry::<String, Text>()? {
            entries.extend(value.map(|value| (key, value)));
        }
        Ok(Texts(entries))
    }
} }

tolerant! { Keys {
    fn visit_str<E>(self, _: &str) -> Result<Keys, E> {
        Ok(Keys::default())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Keys, A::Error> {
        skip_seq(seq).map(|_| Keys::default())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
        let mut keys = Vec::new();
        while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
            keys.push(key);
        }
        Ok(Keys(keys))
    }
} }

tolerant! { NotEmpty {
    fn visit_str<E>(self, _: &str) -> Result<NotEmpty, E> {
        Ok(NotEmpty(false))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<NotEmpty, A::Error> {
        skip_seq(seq).map(|count| NotEmpty(count > 0))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NotEmpty, A::Error> {
        skip_map(map).map(|count| NotEmpty(count > 0))
    }
} }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_facts_in_order() {
        let package = Package::parse(
            r#"{"name":"a","version":"1","scripts":{"z":"vite","b":"next dev"},
                "dependencies":{"express":"^4"},"devDependencies":{"vite":"8"},
                "workspaces":["packages/*"],"packageManager":"pnpm@9"}"#,
        )
        .unwrap();
        assert_eq!(package.name.as_deref(), Some("a"));
        let names: Vec<_> = package.scripts.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["z", "b"]);
        assert_eq!(package.script("b"), Some("next dev"));
        assert!(package.dependencies.contains("express") && package.dependencies.contains("vite"));
        assert!(package.has_workspaces);
        assert_eq!(package.package_manager.as_deref(), Some("pnpm@9"));
    }

    #[test]
    fn keys_of_another_shape_count_as_absent() {
        for text in [
            r#"{"name":1,"scripts":[{"a":1}],"dependencies":"x","workspaces":{},"packageManager":{"a":[]}}"#,
            r#"{"name":[],"scripts":null,"dependencies":false,"workspaces":[],"packageManager":1.5}"#,
            "\u{feff}{}",
        ] {
            assert_eq!(Package::parse(text).unwrap(), Package::default(), "{text}");
        }
        let package = Package::parse(r#"{"scripts":{"a":1,"b":"x","c":null}}"#).unwrap();
        assert_eq!(package.scripts, [("b".to_owned(), "x".to_owned())]);
    }

    #[test]
    fn what_is_not_a_json_object_is_an_error() {
        for text in ["", "{", "[]x", "{\"a\":1,}", "3"] {
            assert!(Package::parse(text).is_err(), "{text}");
        }
    }
}
