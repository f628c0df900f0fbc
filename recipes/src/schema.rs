//! What a recipe file may say. Every key is checked: an unknown one is an error with its place.
//!
//! # How to write a recipe
//!
//! One TOML file holds one tool or family: `[[recipe]]` tables and `[[example]]`s that prove them.
//!
//! ```toml
//! [[recipe]]
//! name = "my-server"                   # unique; also the service's default name
//! ecosystem = "node"
//! service_type = "api"                 # decides which ports are tried; one of the seventeen
//! value_flags = ["--config", "-c"]     # flags with a value, so that the value is not taken for a subcommand
//! notes = ["2.1: counts up when its port is taken"]
//!
//! [[recipe.match]]                     # any one of the match tables is enough
//! program = ["my-server"]              # within one table every key given must hold
//! subcommand = ["", "dev"]             # "" is "none"
//!
//! [recipe.short_lived]                 # same program, but not a server: no port, no noise
//! subcommands = ["build", "init"]      # "*": every subcommand that no match table names
//! flags = ["-h", "-v"]                 # `--help` and `--version` always count
//!
//! [recipe.port]
//! default = 4000
//! argv = ["--port {port}", "-p {port}"]  # the first form is what styxy adds; all are recognised
//! env = ["PORT"]                       # set by styxy, and read as the user's wish
//!
//! [[example]]
//! run = "npm run dev"
//! scripts = { dev = "my-server -p 4100" }
//! asked = 4100
//! port = 4101
//! gives = "npm run dev -- --port 4101"
//! sets = ["PORT=4101"]
//! ```
//!
//! Further keys are with the types below; `docs/adding-a-tool.md` goes through them.
//!
//! Which recipe wins: the one whose match table says more (file or module, then program, then words of
//! the subcommand, flags, dependencies, script text, files of the project), then the higher `priority`, then the user's over a
//! built-in one. Two tables that could match the same command and say equally much are an error.
//!
//! A user's recipe with the name of a built-in one replaces it.

mod example;
mod matcher;
mod port;

use serde::Deserialize;
use styxy_protocol::ServiceType;

pub use example::{Example, ExampleOutcome, ExamplePackage};
pub(crate) use matcher::DEPENDENCY;
pub use matcher::{Manifest, Match};
pub use port::{
    ArgForm, EnvForm, ExtraPort, NoOpen, Placement, PortRules, Repeat, Separator, ValueStyle,
};

/// One recipe file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeFile {
    /// The recipes.
    #[serde(default, rename = "recipe")]
    pub recipes: Vec<Recipe>,
    /// Commands with what is expected of them.
    #[serde(default, rename = "example")]
    pub examples: Vec<Example>,
}

/// What one tool is and how it takes its port.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Unique name.
    pub name: RecipeName,
    /// Where the tool comes from, for listings.
    pub ecosystem: Ecosystem,
    /// Kind of service. Default `dev`.
    #[serde(default = "dev", deserialize_with = "known_type")]
    pub service_type: ServiceType,
    /// What running the tool means.
    #[serde(default)]
    pub runs: Runs,
    /// When the recipe applies: one of these is enough.
    #[serde(rename = "match")]
    pub matches: Vec<Match>,
    /// Uses of the same programs that are no service.
    #[serde(default)]
    pub short_lived: ShortLived,
    /// Flags whose value is the next word.
    #[serde(default)]
    pub value_flags: Vec<String>,
    /// How the port gets in.
    #[serde(default)]
    pub port: PortRules,
    /// Further ports of the same command; see [`crate::Detection::extra_ports`].
    #[serde(default)]
    pub extra_ports: Vec<ExtraPort>,
    /// What keeps the tool from opening a browser.
    #[serde(default)]
    pub no_open: Vec<NoOpen>,
    /// What the tool does when its port is taken.
    #[serde(default)]
    pub on_conflict: Option<OnConflict>,
    /// A file, relative to the package, that lets only one instance run in a project.
    #[serde(default)]
    pub project_lock: Option<ProjectPath>,
    /// How to tell that it is ready; without it, ready means listening.
    #[serde(default)]
    pub readiness: Option<Readiness>,
    /// Whether a rewritten port must be hidden from `getsockname` (cluster modes).
    #[serde(default)]
    pub spoof_getsockname: bool,
    /// Whether the tool gets the preload library.
    #[serde(default)]
    pub intercept: InterceptRule,
    /// Decides between recipes that match equally well; the higher wins.
    #[serde(default)]
    pub priority: i8,
    /// What is known about the tool and how it is known; for people.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Name of a recipe: lower-case letters, digits, hyphens and dots.
#[derive(Clone, Debug, Hash, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct RecipeName(String);

impl RecipeName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RecipeName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let valid = (1..=50).contains(&text.len())
            && text.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte)
            });
        if valid && text != "generic" {
            Ok(Self(text))
        } else {
            Err(format!(
                "recipe name {text:?} is not 1 to 50 lower-case letters, digits, hyphens and dots (`generic` is taken)"
            ))
        }
    }
}

/// Where a tool comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ecosystem {
    /// npm packages and Node itself.
    Node,
    /// Python.
    Python,
    /// Ruby.
    Ruby,
    /// PHP.
    Php,
    /// Go.
    Go,
    /// Rust.
    Rust,
    /// Java, Kotlin, Scala.
    Jvm,
    /// .NET.
    Dotnet,
    /// Elixir and Erlang.
    Beam,
    /// Anything else.
    System,
}

/// What running a tool means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runs {
    /// One service: it gets one port.
    #[default]
    Service,
    /// No service at all: run as it is.
    ShortLived,
    /// Several commands at once: neither flags nor `PORT`, which they would fight over; only interception.
    SeveralServices,
}

/// Uses of a service's programs that are no service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShortLived {
    /// Subcommands of one or more words; `*` stands for every one that no match table names.
    pub subcommands: Vec<String>,
    /// Flags, wherever they stand, beside `--help` and `--version`; `--target=build` is one with that value.
    pub flags: Vec<String>,
}

/// What a tool does when its port is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// Ends with an error.
    Exit,
    /// Takes one of the next ports.
    Next,
    /// Takes any port.
    Random,
    /// Asks; hangs or ends without a terminal.
    Ask,
}

/// How to tell that a service is ready.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readiness {
    /// It answers `GET` on this path with a status below 500.
    pub http_path: HttpPath,
}

/// The path of a URL: it begins with `/` and holds neither blanks nor control characters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HttpPath(String);

impl HttpPath {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HttpPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text))
        } else {
            Err(format!(
                "{text:?} is not the path of a URL, such as `/health`"
            ))
        }
    }
}

/// A path inside the project, relative to the package.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ProjectPath(String);

impl ProjectPath {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ProjectPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut parts = text.split('/');
        if !text.is_empty() && parts.all(|part| !part.is_empty() && part != "..") {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is not a path inside the project"))
        }
    }
}

/// Whether a tool gets the preload library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InterceptRule {
    /// It does.
    #[default]
    Preload,
    /// It does not get along with it.
    Off,
}

fn dev() -> ServiceType {
    crate::detection::dev()
}

/// A service type without ports of its own could never be served.
fn known_type<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ServiceType, D::Error> {
    let service_type = ServiceType::deserialize(deserializer)?;
    if service_type.builtin().is_some() {
        return Ok(service_type);
    }
    let known: Vec<&str> = styxy_protocol::BUILTIN_SERVICE_TYPES
        .iter()
        .map(|spec| spec.name)
        .collect();
    Err(serde::de::Error::custom(format!(
        "unknown service type `{service_type}`; known types: {}",
        known.join(", ")
    )))
}
