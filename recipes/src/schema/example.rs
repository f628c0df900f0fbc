//! Commands in recipe files with what is expected of them; `cargo test -p styxy-recipes` runs the built-in ones.

use std::collections::BTreeMap;

use serde::Deserialize;
use styxy_protocol::{Port, ServiceType};

/// A command, the project it is run in, and what is expected. What is not said is not checked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// The command line; quotes work as in a shell.
    pub run: String,
    /// `scripts` of the `package.json` in the working directory.
    #[serde(default)]
    pub scripts: BTreeMap<String, String>,
    /// Its dependencies.
    #[serde(default)]
    pub dependencies: Vec<String>,
    /// Its `packageManager`.
    #[serde(default)]
    pub package_manager: Option<String>,
    /// Packages of the workspace, by directory.
    #[serde(default)]
    pub packages: BTreeMap<String, ExamplePackage>,
    /// Variables of the environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Files that exist.
    #[serde(default)]
    pub files: Vec<String>,
    /// Texts of files that the program reads.
    #[serde(default)]
    pub texts: BTreeMap<String, String>,
    /// What it is expected to be.
    #[serde(default)]
    pub outcome: ExampleOutcome,
    /// Expected recipe; by default the first of the file.
    pub recipe: Option<String>,
    /// Expected type.
    pub service_type: Option<ServiceType>,
    /// Expected name of the service.
    pub name: Option<String>,
    /// Expected directory of the package, relative to the project.
    pub package: Option<String>,
    /// Expected default port.
    pub default: Option<Port>,
    /// Port that the user is expected to have asked for; absent means that none was.
    pub asked: Option<Port>,
    /// The port that is injected.
    pub port: Option<Port>,
    /// The further ports that are injected with it, by name.
    #[serde(default)]
    pub extra: BTreeMap<String, Port>,
    /// Expected command line with that port.
    pub gives: Option<String>,
    /// Expected variables with that port, as `NAME=value`; absent means none.
    #[serde(default)]
    pub sets: Vec<String>,
}

/// A package of an example's workspace.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExamplePackage {
    /// Its name.
    pub name: Option<String>,
    /// Its scripts.
    pub scripts: BTreeMap<String, String>,
    /// Its dependencies.
    pub dependencies: Vec<String>,
}

/// The [`crate::Outcome`] of an example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExampleOutcome {
    /// A known server.
    #[default]
    Service,
    /// Unknown.
    Generic,
    /// No server.
    ShortLived,
    /// The script runs styxy itself.
    BringsOwnRun,
    /// The user's port is left alone.
    KeepsItsPort,
}
