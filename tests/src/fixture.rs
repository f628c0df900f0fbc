//! Real projects to run: installed once per machine from their locks, copied for every test.
//!
//! An installation lives below cargo's `target/tmp` under a name that contains the hash of its lock, so a changed lock
//! is a new installation. Tests never write into it: `node_modules` is hard-linked file by file into the copy.

use std::fmt;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{Flock, FlockArg};

use crate::Sandbox;
use crate::sandbox::machine_path;

/// A project below `tests/fixtures`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fixture {
    /// React, Vite and Storybook; `npm run storybook`.
    Storybook,
    /// Vite alone; `npm run dev`, and `npm run managed` whose script starts with `styxy run --`.
    Vite,
    /// Express on `PORT` or 3000; `npm start`.
    Express,
    /// Node on `::` and port 4321 whatever happens; `npm run dev`.
    NodeHardcoded,
    /// Python on 127.0.0.1 and port 5055 whatever happens; `make dev`.
    PythonMake,
    /// Applications for uvicorn, Flask and Django, with all three in a virtual environment.
    PythonWeb,
    /// Next with one page; `npm run dev`.
    Next,
    /// nodemon, cross-env and concurrently over Node servers; `npm run both` runs two servers at once.
    NodeTools,
    /// A workspace with Vite in the root and in package `web`, and pnpm, Yarn 1 and Bun to run them.
    PackageManagers,
    /// Yarn 4 and Vite; `yarn dev` in `app`, a project of its own.
    YarnBerry,
}

/// Where installations are kept.
#[derive(Clone, Copy, Debug)]
pub struct Fixtures {
    /// `env!("CARGO_TARGET_TMPDIR")`
    pub store: &'static str,
}

/// Why a fixture or a tool cannot be had on this machine.
#[derive(Debug)]
pub struct Missing(String);

impl Missing {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Missing {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl Fixture {
    fn source(self) -> PathBuf {
        let name = match self {
            Self::Storybook => "storybook",
            Self::Vite => "vite",
            Self::Express => "express",
            Self::NodeHardcoded => "node-hardcoded",
            Self::PythonMake => "python-make",
            Self::PythonWeb => "python-web",
            Self::Next => "next",
            Self::NodeTools => "node-tools",
            Self::PackageManagers => "package-managers",
            Self::YarnBerry => "yarn-berry",
        };
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures")
            .join(name)
    }

    fn tools(self) -> &'static [&'static str] {
        match self {
            Self::PythonMake => &["python3", "make"],
            Self::PythonWeb => &["python3"],
            _ => &["node", "npm"],
        }
    }

    /// Packages whose own install scripts put a program in place. No others' scripts run.
    fn with_install_scripts(self) -> &'static [&'static str] {
        match self {
            Self::PackageManagers => &["bun", "pnpm"],
            _ => &[],
        }
    }

    fn lock(self) -> Option<PathBuf> {
        ["package-lock.json", "requirements.txt"]
            .into_iter()
            .map(|name| self.source().join(name))
            .find(|path| path.exists())
    }
}

impl Fixtures {
    /// A copy of the fixture in the sandbox's `projects/NAME`, ready to run.
    pub fn copy(self, fixture: Fixture, sandbox: &Sandbox, name: &str) -> Result<PathBuf, Missing> {
        for name in fixture.tools() {
            tool(name)?;
        }
        let project = sandbox.projects().join(name);
        cp(&["-R"], &fixture.source(), &project)?;
        // A developer's own installation in the source tree is none of ours.
        fs::remove_dir_all(project.join("node_modules")).ok();
        let Some(lock) = fixture.lock() else {
            return Ok(project);
        };
        let installed = self.installed(fixture, &lock)?;
        if fixture == Fixture::PythonWeb {
            if !installed.join(".venv/bin/python").exists() {
                return Err(Missing::new(
                    "this user cannot reach the Python that the fixture was installed with",
                ));
            }
            std::os::unix::fs::symlink(installed.join(".venv"), project.join(".venv"))?;
        } else {
            let modules = (installed.join("node_modules"), project.join("node_modules"));
            // Links are refused across file systems, and to files of other users.
            cp(&["-a", "-l"], &modules.0, &modules.1).or_else(|_| {
                fs::remove_dir_all(&modules.1).ok();
                cp(&["-a"], &modules.0, &modules.1)
            })?;
        }
        Ok(project)
    }

    /// The directory of the fixture's installation, made now if it is not there.
    fn installed(self, fixture: Fixture, lock: &Path) -> Result<PathBuf, Missing> {
        let text = fs::read(lock)?;
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let source = fixture.source();
        let name = source.file_name().unwrap_or_default().to_string_lossy();
        let dir = Path::new(self.store).join(format!("{name}-{:016x}", hasher.finish()));
        let complete = dir.join(".complete");
        if complete.exists() {
            return Ok(dir);
        }
        fs::create_dir_all(&dir)?;
        // Tests run in parallel, and so may whole test runs: the first installs, the others wait for it.
        let guard = File::create(dir.join(".lock"))?;
        let guard = Flock::lock(guard, FlockArg::LockExclusive)
            .map_err(|(_, error)| Missing::new(format!("{}: {error}", dir.display())))?;
        if !complete.exists() {
            match fixture {
                Fixture::PythonWeb => pip_install(&dir, lock)?,
                _ => npm_ci(&dir, &source, fixture.with_install_scripts())?,
            }
            File::create(complete)?;
        }
        drop(guard);
        Ok(dir)
    }
}

/// Installs in `dir`, which gets the sources too: a workspace's packages are part of the installation.
fn npm_ci(dir: &Path, source: &Path, with_scripts: &[&str]) -> Result<(), Missing> {
    cp(&["-R"], &source.join("."), dir)?;
    fs::remove_dir_all(dir.join("node_modules")).ok();
    let options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    succeed(Command::new(tool("npm")?).args(options).current_dir(dir))?;
    if with_scripts.is_empty() {
        return Ok(());
    }
    let mut rebuild = Command::new(tool("npm")?);
    succeed(rebuild.arg("rebuild").args(with_scripts).current_dir(dir))
}

fn pip_install(dir: &Path, requirements: &Path) -> Result<(), Missing> {
    let venv = dir.join(".venv");
    let venv = venv.as_path();
    succeed(
        Command::new(tool("python3")?)
            .args(["-m", "venv", "--clear"])
            .arg(venv),
    )?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--require-hashes", "-r"]);
    succeed(pip.arg(requirements))
}

/// Runs a command of the machine, outside of any sandbox, with the environment that the tests were started with.
fn succeed(command: &mut Command) -> Result<(), Missing> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    // The cause comes first, advice after it; npm begins every line of both with `npm error`.
    let lines = errors
        .lines()
        .map(|line| line.trim_start_matches("npm error").trim());
    let cause: Vec<_> = lines
        .filter(|line| !line.is_empty() && !line.starts_with("npm warn"))
        .take(4)
        .collect();
    Err(Missing::new(format!(
        "{command:?}: {}: {}",
        output.status,
        cause.join("; ")
    )))
}

fn cp(options: &[&str], from: &Path, to: &Path) -> Result<(), Missing> {
    succeed(Command::new("cp").args(options).arg(from).arg(to))
}

/// Where this program is in `PATH`.
pub(crate) fn tool(name: &str) -> Result<PathBuf, Missing> {
    std::env::split_paths(&machine_path())
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| Missing::new(format!("no `{name}` in PATH")))
}
