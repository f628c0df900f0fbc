//! The kinds of service that get ports, and the port ranges that belong to them.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a kind of service, such as `storybook` or `api`: 1 to 50 letters, digits and hyphens.
///
/// The seventeen kinds that come with styxy are in [`BUILTIN_SERVICE_TYPES`]; other names are valid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceType(String);

impl ServiceType {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The row of [`BUILTIN_SERVICE_TYPES`] with this name.
    pub fn builtin(&self) -> Option<&'static ServiceTypeSpec> {
        BUILTIN_SERVICE_TYPES
            .iter()
            .find(|spec| spec.name == self.0)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for ServiceType {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ServiceType".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "The name of a kind of service: 1 to 50 letters, digits and hyphens.",
            "pattern": "^[A-Za-z0-9-]{1,50}$",
        })
    }
}

impl fmt::Display for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not the name of a service type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTypeError(String);

impl fmt::Display for ServiceTypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "service type `{}` is not 1 to 50 letters, digits and hyphens",
            self.0.escape_debug()
        )
    }
}

impl std::error::Error for ServiceTypeError {}

impl FromStr for ServiceType {
    type Err = ServiceTypeError;

    fn from_str(text: &str) -> Result<Self, ServiceTypeError> {
        let valid = (1..=50).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(ServiceTypeError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for ServiceType {
    type Error = ServiceTypeError;

    fn try_from(text: String) -> Result<Self, ServiceTypeError> {
        text.parse()
    }
}

impl From<ServiceType> for String {
    fn from(service_type: ServiceType) -> Self {
        service_type.0
    }
}

/// How many services of one type may run on the machine at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Instances {
    /// One; a second request is answered with the first one's port.
    Single,
    /// Any number.
    Multi,
}

/// One kind of service and the ports that belong to it.
#[derive(Clone, Copy, Debug)]
pub struct ServiceTypeSpec {
    /// Its name.
    pub name: &'static str,
    /// What it is, for people.
    pub description: &'static str,
    /// First port of its range.
    pub first: u16,
    /// Last port of its range, inclusive.
    pub last: u16,
    /// First of the four consecutive ports that are tried before the rest of the range.
    pub preferred: u16,
    /// Whether a second service of the type gets a port of its own.
    pub instances: Instances,
    /// Tools that are of this type, for people.
    pub examples: &'static [&'static str],
}

impl ServiceTypeSpec {
    /// The ports of the type.
    pub fn range(&self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    /// The four ports of the range that are tried first.
    pub fn preferred_ports(&self) -> RangeInclusive<u16> {
        self.preferred..=self.preferred + 3
    }
}

const fn spec(
    name: &'static str,
    description: &'static str,
    (first, last, preferred): (u16, u16, u16),
    examples: &'static [&'static str],
) -> ServiceTypeSpec {
    ServiceTypeSpec {
        name,
        description,
        first,
        last,
        preferred,
        instances: Instances::Multi,
        examples,
    }
}

/// The service types that styxy knows by itself. Their ranges are disjoint.
pub const BUILTIN_SERVICE_TYPES: &[ServiceTypeSpec] = &[
    spec(
        "dev",
        "front-end development servers",
        (3000, 3099, 3000),
        &["React", "Next.js", "Vite"],
    ),
    spec(
        "api",
        "API and back-end servers",
        (8000, 8099, 8000),
        &["Express", "FastAPI", "Django"],
    ),
    spec(
        "database",
        "databases",
        (5430, 5499, 5430),
        &["PostgreSQL", "MySQL"],
    ),
    spec(
        "auth",
        "authentication services",
        (9099, 9199, 9099),
        &["Firebase Auth emulator"],
    ),
    spec(
        "functions",
        "serverless functions",
        (5000, 5099, 5001),
        &["Firebase Functions"],
    ),
    spec(
        "ui",
        "administration interfaces",
        (4000, 4099, 4000),
        &["Firebase Emulator UI"],
    ),
    spec(
        "hub",
        "emulator hubs",
        (4400, 4499, 4400),
        &["Firebase Emulator Hub"],
    ),
    spec(
        "storybook",
        "component development",
        (6006, 6029, 6006),
        &["Storybook"],
    ),
    spec(
        "test",
        "test runners and browser debugging",
        (9200, 9299, 9200),
        &["Playwright", "Cypress"],
    ),
    spec(
        "proxy",
        "development proxies",
        (8100, 8199, 8100),
        &["Browsersync", "webpack dev server"],
    ),
    spec(
        "docs",
        "documentation servers",
        (4100, 4199, 4100),
        &["Sphinx", "MkDocs", "Docusaurus"],
    ),
    spec(
        "monitoring",
        "metrics and logs",
        (3100, 3199, 3100),
        &["Prometheus", "Grafana"],
    ),
    spec(
        "build",
        "build services",
        (8200, 8299, 8200),
        &["bundler dashboards"],
    ),
    spec(
        "infrastructure",
        "caches and system services",
        (6370, 6399, 6370),
        &["Redis"],
    ),
    ServiceTypeSpec {
        instances: Instances::Single,
        ..spec(
            "ai",
            "AI and ML services",
            (11400, 11499, 11430),
            &["Ollama"],
        )
    },
    spec(
        "messaging",
        "message brokers",
        (9050, 9098, 9050),
        &["Kafka", "RabbitMQ"],
    ),
    spec(
        "coordination",
        "coordinators",
        (9870, 9899, 9870),
        &["styxy itself"],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_seventeen_types_with_disjoint_ranges() {
        assert_eq!(BUILTIN_SERVICE_TYPES.len(), 17);
        for (i, a) in BUILTIN_SERVICE_TYPES.iter().enumerate() {
            assert!(a.name.parse::<ServiceType>().is_ok(), "{}", a.name);
            assert!(
                a.first <= a.preferred && a.preferred + 3 <= a.last,
                "{}",
                a.name
            );
            for b in &BUILTIN_SERVICE_TYPES[i + 1..] {
                assert!(
                    a.last < b.first || b.last < a.first,
                    "{} and {} overlap",
                    a.name,
                    b.name
                );
            }
        }
    }

    #[test]
    fn names_are_letters_digits_and_hyphens() {
        assert!("monitoring-2".parse::<ServiceType>().is_ok());
        for name in ["", "bad type!", "a/b", "é", &"x".repeat(51)] {
            assert!(name.parse::<ServiceType>().is_err(), "{name:?}");
        }
    }
}
