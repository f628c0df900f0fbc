//! The outside world, read once at the start and passed on from there: environment, working directory,
//! terminal, process. Nothing else in the launcher asks the process for these.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use styxy_protocol::Port;
use styxy_protocol::api::Build;

use crate::env_names;

/// What the launcher was started with.
#[derive(Debug)]
pub(crate) struct Context {
    /// Which styxy this is.
    pub(crate) build: Build,
    /// The complete environment, in the order in which it came.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The working directory; `None` when it was deleted or may not be read.
    pub(crate) cwd: Option<PathBuf>,
    /// The process id of this launcher.
    pub(crate) pid: u32,
    /// The user that owns everything styxy makes.
    pub(crate) uid: u32,
    /// Whether somebody reads stderr as it comes: a person at a terminal or a coding agent.
    pub(crate) is_watched: bool,
}

impl Context {
    /// Reads the process world.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads it"
    )]
    pub(crate) fn read(build: Build) -> Self {
        let env: Vec<_> = std::env::vars_os().collect();
        let agent = env_names::AGENTS
            .iter()
            .any(|name| env.iter().any(|(key, _)| key == name));
        Self {
            build,
            cwd: std::env::current_dir().ok(),
            pid: std::process::id(),
            uid: nix::unistd::Uid::effective().as_raw(),
            is_watched: agent || std::io::stderr().is_terminal(),
            env,
        }
    }

    /// The value of an environment variable.
    pub(crate) fn var(&self, name: &str) -> Option<&OsStr> {
        self.env
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_os_str())
    }

    /// The value of an environment variable that holds an absolute path; anything else counts as unset.
    pub(crate) fn path_var(&self, name: &str) -> Option<&Path> {
        self.var(name)
            .map(Path::new)
            .filter(|path| path.is_absolute())
    }

    /// The port that a run outside this one was told to ask for. What is no port counts as unset.
    pub(crate) fn wished_port(&self) -> Option<Port> {
        let port: Port = self.var(env_names::PORT)?.to_str()?.parse().ok()?;
        (!port.is_privileged()).then_some(port)
    }

    /// Whether the user turned styxy off.
    pub(crate) fn is_disabled(&self) -> bool {
        self.var(env_names::DISABLE)
            .is_some_and(|value| !value.is_empty() && value != "0")
    }
}
