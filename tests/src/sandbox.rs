//! One test's world: a home, a runtime directory, a network, and the processes in it.
//!
//! Commands get an environment made from nothing. When the sandbox is dropped, every process in it is killed, each by
//! its own pid, the daemon too, and the directory is removed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::namespace::Network;
use crate::running::Source;
use crate::terminal::{Keyboard, Terminal};
use crate::{
    Api, Deadline, Ended, Host, Manners, Missing, Page, Processes, Running, Squatter, eventually,
    http, ports,
};

/// The programs that the tests were built with; only the integration binary knows where they are.
#[derive(Clone, Copy, Debug)]
pub struct Programs {
    /// `env!("CARGO_BIN_EXE_styxy-under-test")`
    pub styxy: &'static str,
    /// `env!("CARGO_BIN_EXE_styxy-newer")`
    pub newer: &'static str,
    /// `env!("CARGO_BIN_EXE_inside")`
    pub inside: &'static str,
}

/// A place for one test.
pub struct Sandbox {
    programs: Programs,
    network: Network,
    root: TempDir,
    search_path: OsString,
}

/// A command about to be run in a sandbox.
#[must_use]
pub struct Call<'a> {
    sandbox: &'a Sandbox,
    argv: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    dir: PathBuf,
}

impl Sandbox {
    /// An empty one.
    ///
    /// # Panics
    /// When the machine does not let one be made.
    pub fn new(programs: Programs) -> Self {
        let network = Network::new(Path::new(programs.inside));
        // A Unix socket's path has at most 107 bytes, so the name is short and under the system's own directory.
        let root = tempfile::Builder::new().prefix("styxy-").tempdir_in("/tmp");
        let root = root.expect("a directory in /tmp");
        for dir in ["home", "run", "tmp", "bin", "projects"] {
            fs::create_dir(root.path().join(dir)).expect("a directory of the sandbox");
        }
        let private = Permissions::from_mode(0o700);
        fs::set_permissions(root.path().join("run"), private).expect("chmod");
        symlink(programs.styxy, root.path().join("bin/styxy")).expect("symlink");
        let mut search_path = root.path().join("bin").into_os_string();
        search_path.push(":");
        search_path.push(machine_path());
        Self {
            programs,
            network,
            root,
            search_path,
        }
    }

    /// Whether no other sandbox and nothing of the machine can be on its ports. Where this is not so, a second
    /// sandbox of the same test would wait for the first for ever.
    pub fn has_own_ports(&self) -> Result<(), Missing> {
        match self.network {
            Network::Own(_) => Ok(()),
            Network::Machine(_) => Err(Missing::new("no network namespace")),
        }
    }

    /// `HOME` of its commands.
    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// `XDG_RUNTIME_DIR` of its commands.
    pub fn runtime_dir(&self) -> PathBuf {
        self.root.path().join("run")
    }

    /// Where its projects are.
    pub fn projects(&self) -> PathBuf {
        self.root.path().join("projects")
    }

    /// A new directory for one project.
    ///
    /// # Panics
    /// When it is there already.
    pub fn project(&self, name: &str) -> PathBuf {
        let dir = self.projects().join(name);
        fs::create_dir_all(&dir).expect("a project directory");
        dir
    }

    /// A command with this program and these arguments.
    pub fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, argv: I) -> Call<'_> {
        let dir = |name: &str| self.root.path().join(name).into_os_string();
        let env = [
            ("HOME", dir("home")),
            ("XDG_RUNTIME_DIR", dir("run")),
            ("TMPDIR", dir("tmp")),
            ("PATH", self.search_path.clone()),
            ("LANG", "C.UTF-8".into()),
            ("TERM", "xterm-256color".into()),
            ("NO_COLOR", "1".into()),
            // Tools that would open a browser, phone home or hold lines back.
            ("BROWSER", "none".into()),
            ("STORYBOOK_DISABLE_TELEMETRY", "1".into()),
            ("npm_config_update_notifier", "false".into()),
            ("PYTHONUNBUFFERED", "1".into()),
            ("PYTHONDONTWRITEBYTECODE", "1".into()),
        ];
        Call {
            sandbox: self,
            argv: argv.into_iter().map(|a| a.as_ref().to_owned()).collect(),
            env: env.into_iter().map(|(k, v)| (k.into(), v)).collect(),
            dir: self.projects(),
        }
    }

    /// The program under test with these arguments.
    pub fn styxy<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Call<'_> {
        self.program(self.programs.styxy, arguments)
    }

    /// The version after the one under test, with these arguments.
    pub fn newer<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Call<'_> {
        self.program(self.programs.newer, arguments)
    }

    fn program<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: I,
    ) -> Call<'_> {
        let mut call = self.command([program]);
        let arguments = arguments.into_iter().map(|a| a.as_ref().to_owned());
        call.argv.extend(arguments);
        call
    }

    /// `styxy run -- COMMAND...`
    pub fn managed<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, command: I) -> Call<'_> {
        let mut call = self.styxy(["run", "--"]);
        let command = command.into_iter().map(|a| a.as_ref().to_owned());
        call.argv.extend(command);
        call
    }

    /// A foreign process that listens on the port.
    ///
    /// # Panics
    /// When it is not free.
    pub fn squat(&self, host: Host, port: u16) -> Squatter {
        self.try_squat(host, port, Manners::ReuseAddress)
            .unwrap_or_else(|error| panic!("port {port} on {host:?}: {error}"))
    }

    /// A foreign process that listens on the port, if it can.
    pub fn try_squat(&self, host: Host, port: u16, manners: Manners) -> std::io::Result<Squatter> {
        Squatter::new(&self.network, host, port, manners)
    }

    /// The daemon's API.
    ///
    /// # Panics
    /// When there never was a daemon.
    pub fn api(&self) -> Api {
        Api::below(&self.runtime_dir())
    }

    /// Whether nobody listens on the port, on any address.
    pub fn is_free(&self, port: u16) -> bool {
        ports::is_free(&self.network, port)
    }

    /// Waits until nobody listens on the port; the time that it took.
    ///
    /// # Panics
    /// When somebody still does at the deadline.
    pub fn wait_free(&self, port: u16, deadline: Deadline) -> std::time::Duration {
        let freed = eventually(deadline, || self.is_free(port).then(|| deadline.elapsed()));
        freed.unwrap_or_else(|| panic!("port {port} is still taken; {:?}", self.processes()))
    }

    /// `GET http://localhost:PORT/PATH`.
    pub fn get(&self, port: u16, path: &str) -> std::io::Result<Page> {
        http::get(&self.network, port, path)
    }

    /// The page at `path`, once it is served with status 200 and contains `needle`.
    ///
    /// # Panics
    /// When the deadline passes before, with the last answer.
    #[track_caller]
    pub fn page(&self, port: u16, path: &str, needle: &str, deadline: Deadline) -> Page {
        let mut last = None;
        let page = eventually(deadline, || {
            last = Some(self.get(port, path));
            let page = last.as_ref()?.as_ref().ok()?;
            (page.status == 200 && page.body.contains(needle)).then(|| page.clone())
        });
        match page {
            Some(page) => page,
            None => panic!("no {needle:?} on port {port}{path}: {last:?}"),
        }
    }

    /// Every process that lives in the sandbox, daemon included.
    pub fn processes(&self) -> Processes {
        let mark = format!("HOME={}", self.home().display()).into_bytes();
        Processes::of_machine(|pid| {
            self.network.contains(pid).unwrap_or_else(|| {
                let env = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                env.split(|byte| *byte == 0).any(|entry| entry == mark)
            })
        })
    }

    /// The daemons among them.
    pub fn daemons(&self) -> Processes {
        self.processes()
            .filter(|process| process.command_line().contains(" daemon start"))
    }

    /// Waits until nothing but daemons lives in the sandbox.
    ///
    /// # Panics
    /// When something else still does at the deadline.
    pub fn wait_quiet(&self, deadline: Deadline) {
        let quiet = eventually(deadline, || {
            (self.processes() == self.daemons()).then_some(())
        });
        assert!(quiet.is_some(), "left behind: {:?}", self.processes());
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Some may start others while they are being killed, so go round until none is left.
        let empty = eventually(Deadline::short(), || {
            let left = self.processes();
            for process in left.iter() {
                process.signal(Signal::SIGKILL);
            }
            left.is_empty().then_some(())
        });
        if empty.is_none() {
            crate::say(&format!("NOTE: left behind: {:?}", self.processes()));
        }
        for dir in ["home", "run", "tmp"] {
            // A test may have made it unwritable.
            let writable = Permissions::from_mode(0o700);
            fs::set_permissions(self.root.path().join(dir), writable).ok();
        }
    }
}

impl Call<'_> {
    /// In this directory instead of the sandbox's `projects`.
    pub fn in_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = dir.into();
        self
    }

    /// With one more environment variable.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Without this environment variable.
    pub fn without(mut self, name: &str) -> Self {
        self.env.remove(OsStr::new(name));
        self
    }

    /// With this directory before all others in `PATH`, as an activated virtual environment has it.
    pub fn path_first(mut self, dir: &Path) -> Self {
        let path = self.env.entry("PATH".into()).or_default();
        let mut first = dir.as_os_str().to_owned();
        first.push(":");
        first.push(&path);
        *path = first;
        self
    }

    /// Runs it to its end, for what takes no time.
    #[must_use = "how it ended is for the test to judge"]
    #[track_caller]
    pub fn run(self) -> Ended {
        self.spawn().end(Deadline::short())
    }

    /// Starts it, the leader of a process group, with stdin on `/dev/null`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(self) -> Running {
        self.start(Stdio::null())
    }

    /// Starts it with a pipe as stdin, which [`Running::type_keys`] writes to.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn_with_input(self) -> Running {
        self.start(Stdio::piped())
    }

    /// Starts it in a session of its own at a new terminal.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn on_terminal(self) -> Running {
        let terminal = Terminal::open().expect("a terminal");
        let mut command = self.prepare(Some(&terminal.path));
        // Replaced by the terminal; until then it is what a failure to take it is reported on.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(terminal.user);
        let child = command.spawn().expect("spawn");
        drop(command);
        let outputs: Vec<(Source, Box<dyn Read + Send>)> =
            vec![(Source::Terminal, Box::new(terminal.screen))];
        Running::new(child, self.shown(), outputs, Some(terminal.keyboard))
    }

    /// As a command of the standard library, for a test that starts and watches it by itself.
    #[must_use]
    pub fn into_std(self) -> Command {
        self.prepare(None)
    }

    fn start(self, stdin: Stdio) -> Running {
        let mut command = self.prepare(None);
        command.process_group(0).stdin(stdin);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("spawn");
        let stdout: Box<dyn Read + Send> = Box::new(child.stdout.take().expect("piped"));
        let stderr: Box<dyn Read + Send> = Box::new(child.stderr.take().expect("piped"));
        let outputs = vec![(Source::Stdout, stdout), (Source::Stderr, stderr)];
        let keyboard = child.stdin.take().map(Keyboard::Pipe);
        Running::new(child, self.shown(), outputs, keyboard)
    }

    fn prepare(&self, terminal: Option<&Path>) -> Command {
        let inside = Path::new(self.sandbox.programs.inside);
        let mut argv = self.sandbox.network.entry(inside, terminal);
        argv.extend(self.argv.iter().cloned());
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).current_dir(&self.dir);
        command.env_clear().envs(&self.env);
        command
    }

    fn shown(&self) -> String {
        let words = self.argv.iter().map(|word| word.to_string_lossy());
        words.collect::<Vec<_>>().join(" ")
    }
}

/// The one thing that a sandbox takes from the environment of the tests: where programs are.
#[expect(
    clippy::disallowed_methods,
    reason = "where `node` and `python3` are is a fact about the machine"
)]
pub(crate) fn machine_path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    // One directory that this user may not search, and execvp(3) says of a command that exists nowhere that it is
    // not permitted rather than that it was not found.
    let searchable = std::env::split_paths(&path).filter(|dir| dir.join(".").exists());
    std::env::join_paths(searchable).unwrap_or(path)
}
