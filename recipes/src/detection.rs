//! What a command turned out to be, and how it gets its port.

use std::ffi::OsString;
use std::path::PathBuf;

use styxy_protocol::{Port, ServiceType};

use crate::plan::{Manner, Plan};
use crate::schema::{EnvForm, NoOpen, OnConflict, Recipe};
use crate::{Catalog, Command, Project};

mod follow;
mod judge;
mod service;
mod wish;

/// What to do with the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// A known server: lease a port and inject it.
    Service,
    /// Unknown: lease a port, give it as `PORT`, intercept; no flags.
    Generic,
    /// Builds, lints, installs, prints help: run as it is, no port.
    ShortLived,
    /// The script that it runs contains `styxy run` itself: run as it is, the inner run leases the port.
    BringsOwnRun,
    /// The user asked for port 0, a privileged port or something that is no port: run as it is.
    KeepsItsPort,
}

/// A port that the user asked for by the tool's own means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The port.
    pub port: Port,
    /// Where it stands.
    pub from: AskedFrom,
}

/// Where an asked-for port stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedFrom {
    /// A word of the command: `--port 4000`, `http.server 8000`.
    Argument,
    /// An assignment in the command: `env PORT=4000 …`.
    Assignment,
    /// A script that was followed.
    Script,
    /// A variable of the environment that the tool reads.
    Environment,
    /// A `.env` file, from which programs set the variables that the environment does not have.
    File,
}

/// Whether the preload library goes with the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intercept {
    /// It does.
    Preload,
    /// The recipe says that the tool does not get along with it, or no port is leased at all.
    Off,
}

/// How far an injection gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The tool gets the port as an argument, which beats everything else.
    Argument,
    /// The tool gets it by a variable only; an unknown tool may ignore it.
    Environment,
    /// Nothing was done: the tool takes that port by itself, unless files of its own say otherwise.
    Unneeded,
    /// Neither is possible: only interception can move the port.
    None,
}

/// The ports of a command. A lone [`Port`] is one without further ones.
#[derive(Clone, Copy, Debug)]
pub struct Ports<'a> {
    /// The one that the user knows the service by.
    pub main: Port,
    /// Further ones, by the names in [`Detection::extra_ports`]. One that is not given is left to the tool.
    pub extra: &'a [(&'a str, Port)],
}

impl From<Port> for Ports<'_> {
    fn from(main: Port) -> Self {
        Self { main, extra: &[] }
    }
}

/// A further port that the command opens beside its own: an inspector, a peer, an administration interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FurtherPort {
    /// Its name within the command.
    pub name: String,
    /// The port that the user asked for by the tool's own means.
    pub asked: Option<Port>,
    /// The port that it has when nobody says anything.
    pub default: Option<Port>,
    /// Whether the command can be told another one.
    pub can_be_told: bool,
}

/// What is known about the tool beyond its port. Nothing here is acted upon in this crate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolFacts {
    /// What keeps it from opening a browser.
    pub no_open: Vec<NoOpen>,
    /// What it does when its port is taken.
    pub on_conflict: Option<OnConflict>,
    /// A file, relative to the package, that lets only one instance run in a project.
    pub project_lock: Option<PathBuf>,
    /// It is ready when it answers `GET` on this path with a status below 500; without it, when it listens.
    pub ready_path: Option<String>,
    /// Whether a rewritten port must be hidden from `getsockname` (cluster modes).
    pub spoof_getsockname: bool,
}

impl ToolFacts {
    pub(crate) fn of(recipe: &Recipe) -> Self {
        let ready = recipe.readiness.as_ref();
        Self {
            no_open: recipe.no_open.clone(),
            on_conflict: recipe.on_conflict,
            project_lock: recipe
                .project_lock
                .as_ref()
                .map(|path| path.as_str().into()),
            ready_path: ready.map(|ready| ready.http_path.as_str().to_owned()),
            spoof_getsockname: recipe.spoof_getsockname,
        }
    }
}

/// The command with its port. Where [`Outcome`] says that no port is leased, it is the command as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// The whole command; every word is passed on separately, never through a shell.
    pub argv: Vec<OsString>,
    /// Variables to set.
    pub env: Vec<(String, OsString)>,
    /// How far that gets.
    pub reach: Reach,
}

/// The result of looking at a command.
#[derive(Clone, Debug)]
pub struct Detection {
    /// What to do with it.
    pub outcome: Outcome,
    /// Kind of service; `dev` for an unknown one.
    pub service_type: ServiceType,
    /// Name of the recipe that matched; `generic` when none did.
    pub recipe: String,
    /// The chain of conclusions, for `--dry-run`.
    pub why: Vec<String>,
    /// Name that tells the services of one package apart: the script's, else the recipe's, else the program's.
    pub service_name: String,
    /// Directory of the `package.json` whose script is run, when one is.
    pub package_dir: Option<PathBuf>,
    /// The port that the user asked for.
    pub asked_port: Option<Asked>,
    /// The port that the tool takes when nobody asks for another.
    pub default_port: Option<Port>,
    /// The command itself says nothing: what is known is what its project usually runs. It may bind any port.
    pub is_by_project: bool,
    /// Further ports that the command opens. Those that nobody leases are left to the tool and to interception.
    pub extra_ports: Vec<FurtherPort>,
    /// Whether to intercept.
    pub intercept: Intercept,
    /// What else is known about the tool.
    pub facts: ToolFacts,
    pub(crate) plan: Plan,
}

impl Detection {
    /// The same command for a user who says that it is a service although it does not look like one: it gets `PORT`
    /// and interception, as an unknown one does. `argv` is the command that was detected.
    #[must_use]
    pub fn as_service(mut self, argv: &[OsString]) -> Self {
        self.why.push("it was named a service".to_owned());
        Self {
            outcome: Outcome::Generic,
            intercept: Intercept::Preload,
            extra_ports: Vec::new(),
            plan: Plan {
                len: argv.len(),
                env: vec![EnvForm::named("PORT")],
                env_reaches: true,
                ..Plan::default()
            },
            ..self
        }
    }

    /// The command `argv` (the one that was detected) with its ports. A tool that takes this port by itself is told
    /// nothing, so that its own configuration files stay in force.
    #[must_use]
    pub fn inject<'a>(&self, ports: impl Into<Ports<'a>>, argv: &[OsString]) -> Injection {
        self.plan.inject(&ports.into(), argv, Manner::IfNeeded)
    }

    /// The same for a user who names this port: the tool is told in any case.
    #[must_use]
    pub fn inject_always<'a>(&self, ports: impl Into<Ports<'a>>, argv: &[OsString]) -> Injection {
        self.plan.inject(&ports.into(), argv, Manner::Always)
    }

    /// The same for a user who wants this port or none: tools that would wander off are told to end instead.
    #[must_use]
    pub fn inject_strict<'a>(&self, ports: impl Into<Ports<'a>>, argv: &[OsString]) -> Injection {
        self.plan.inject(&ports.into(), argv, Manner::Strict)
    }
}

/// Finds out what `command` is.
pub fn detect(catalog: &Catalog, command: &Command<'_>, project: &dyn Project) -> Detection {
    follow::Follower::new(catalog, command, project).detect()
}

/// The type of what nothing more is known about.
pub(crate) fn dev() -> ServiceType {
    "dev"
        .parse()
        .unwrap_or_else(|_| unreachable!("`dev` is letters only"))
}
