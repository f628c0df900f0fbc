//! The configuration: two files in the home that say what differs from what styxy does by itself.
//!
//! `config.json` has the documented format, is made by programs and is where auto-allocation records its ranges;
//! `config.toml` is made by people, is never written by styxy and has the last word. Invariant: a file that is
//! wrong is told with file, line and column, and loses nobody anything that does not depend on it.

mod document;
mod json_file;
mod layer;
mod merge;
mod problem;
mod reading;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use styxy_protocol::ServiceType;

use crate::settings::Settings;
use document::{Format, Source};
use layer::Layer;

pub(crate) use json_file::{Change, WriteError, write};
pub use problem::{Place, Problem};
pub(crate) use watch::Watch;

/// The file of people, in the home.
pub const TOML: &str = "config.toml";
/// The file of programs, in the home.
pub const JSON: &str = "config.json";

/// Bytes that a configuration file may have.
const MAX_FILE: u64 = 1024 * 1024;

/// A `config.toml` that says everything that can be said, and changes nothing as every line is a comment.
pub const fn template() -> &'static str {
    include_str!("config/template.toml")
}

/// A configuration that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// What is in force.
    pub settings: Settings,
    /// The files that say so, those with the last word last.
    pub files: Vec<PathBuf>,
    pub(crate) pins: Pins,
}

/// What `config.toml` says about that which styxy writes into `config.json`, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pins {
    /// Whether auto-allocation is on.
    pub(crate) enabled: Option<String>,
    /// Service types.
    pub(crate) types: BTreeMap<ServiceType, String>,
}

/// Everything that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", list(problems))]
pub struct ConfigError {
    /// At least one, those of `config.json` first.
    pub problems: Vec<Problem>,
}

fn list(problems: &[Problem]) -> String {
    let told: Vec<_> = problems.iter().map(Problem::to_string).collect();
    told.join("; ")
}

impl ConfigError {
    /// Whether something is wrong with the file of programs.
    pub(crate) fn is_about(&self, path: &Path) -> bool {
        self.problems.iter().any(|problem| problem.path == path)
    }
}

/// Reads the configuration files of this home. Without any, the settings are the defaults.
///
/// # Errors
/// If a file cannot be read, or anything in it is not as it has to be.
pub fn load(home: &Path) -> Result<Loaded, ConfigError> {
    load_texts(home, &Texts::read(home))
}

/// The texts of the files, as they were at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Texts {
    pub(crate) json: FileText,
    pub(crate) toml: FileText,
}

/// What is in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum FileText {
    /// There is no file.
    #[default]
    Absent,
    /// This.
    Text(String),
    /// It cannot be read, because of this.
    Unreadable(String),
}

impl Texts {
    pub(crate) fn read(home: &Path) -> Self {
        Self {
            json: FileText::read(&home.join(JSON)),
            toml: FileText::read(&home.join(TOML)),
        }
    }
}

impl FileText {
    pub(crate) fn read(path: &Path) -> Self {
        match read_file(path) {
            Ok(text) => Self::Text(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Absent,
            Err(error) => Self::Unreadable(error.to_string()),
        }
    }
}

fn read_file(path: &Path) -> io::Result<String> {
    // A pipe of that name must not keep the daemon waiting.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!(
            "it has more than {MAX_FILE} bytes"
        )));
    }
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))?;
    // Some editors put a byte order mark in front.
    Ok(text
        .strip_prefix('\u{feff}')
        .map_or_else(|| text.clone(), str::to_owned))
}

/// As [`load`], of files that were read before.
pub(crate) fn load_texts(home: &Path, texts: &Texts) -> Result<Loaded, ConfigError> {
    let read = ReadFiles::of(home, texts);
    let (settings, faults) = merge::merge(&read.layers);
    let mut problems = read.problems;
    // What a broken file seems to say together with the others may be a consequence.
    if problems.is_empty() {
        problems.extend(faults.into_iter().map(|fault| fault.problem));
    }
    if problems.is_empty() {
        Ok(Loaded {
            settings,
            files: read.files,
            pins: read.pins,
        })
    } else {
        Err(ConfigError { problems })
    }
}

/// What can be had of files that may be broken: everything but the parts that are wrong or contradict others.
pub(crate) fn load_what_can_be(home: &Path, texts: &Texts) -> (Loaded, Option<ConfigError>) {
    let error = match load_texts(home, texts) {
        Ok(loaded) => return (loaded, None),
        Err(error) => error,
    };
    let read = ReadFiles::of(home, texts);
    let mut left_out = vec![BTreeSet::new(); read.layers.len()];
    loop {
        let kept = read.layers.iter().zip(&left_out);
        let kept: Vec<Layer> = kept.map(|(layer, parts)| layer.without(parts)).collect();
        let (settings, faults) = merge::merge(&kept);
        // Each round leaves out one thing more, and with nothing left there are no faults.
        let next = faults.into_iter().find_map(|fault| {
            let (layer, part) = fault.culprit;
            left_out[layer].insert(part).then_some(())
        });
        if next.is_none() {
            let loaded = Loaded {
                settings,
                files: read.files,
                pins: read.pins,
            };
            return (loaded, Some(error));
        }
    }
}

/// The files, each for itself.
struct ReadFiles {
    files: Vec<PathBuf>,
    /// In ascending order of precedence.
    layers: Vec<Layer>,
    problems: Vec<Problem>,
    pins: Pins,
}

impl ReadFiles {
    fn of(home: &Path, texts: &Texts) -> Self {
        let mut read = Self {
            files: Vec::new(),
            layers: Vec::new(),
            problems: Vec::new(),
            pins: Pins::default(),
        };
        read.add(home.join(JSON), Format::Json, &texts.json);
        read.add(home.join(TOML), Format::Toml, &texts.toml);
        read
    }

    fn add(&mut self, path: PathBuf, format: Format, text: &FileText) {
        let text = match text {
            FileText::Absent => return,
            FileText::Text(text) => text.clone(),
            FileText::Unreadable(reason) => {
                let message = format!("cannot be read: {reason}");
                self.problems.push(Problem::of_file(&path, message));
                return;
            }
        };
        self.files.push(path.clone());
        let source = Arc::new(Source { path, format, text });
        let (layer, problems) = reading::read(&source);
        self.problems.extend(problems);
        if format == Format::Toml {
            let enabled = layer.auto_allocation.enabled.as_ref();
            let types = layer.types.iter();
            self.pins = Pins {
                enabled: enabled.map(|said| said.mark.to_string()),
                types: types
                    .map(|it| (it.name.clone(), it.mark.to_string()))
                    .collect(),
            };
        }
        self.layers.push(layer);
    }
}
