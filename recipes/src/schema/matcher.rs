//! When a recipe applies. A table without anything to go by is refused when it is read.

use serde::Deserialize;

/// Begins the trigger of a table that goes by a dependency alone.
pub(crate) const DEPENDENCY: &str = "+";

/// Conditions that must all hold; the words of one list are alternatives unless said otherwise.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "RawMatch")]
pub struct Match {
    /// Name of the program without directory. `node` and other interpreters count as the program of what they run.
    pub program: Vec<String>,
    /// Module that an interpreter runs: `http.server` in `python3 -m http.server`.
    pub module: Vec<String>,
    /// Name without directory of the file that is run: `manage.py`, `server.js`; `*` is any file, `*.html` any with
    /// that ending.
    pub file: Vec<String>,
    /// First words after the program that are no flags, such as `dev` or `server start`; `""` is none.
    pub subcommand: Vec<String>,
    /// Flags that must all be there; `--only=auth` with that value.
    pub flags: Vec<String>,
    /// Flags of which none may be there.
    pub without_flags: Vec<String>,
    /// Packages of which one must be in `dependencies` or `devDependencies`.
    pub dependency: Vec<String>,
    /// Files of the project of which one must be there, at or above the working directory: `artisan`, or with a
    /// text that must occur in it, `Gemfile: rails`.
    pub manifest: Vec<Manifest>,
    /// Texts of which one must occur in the script that is run.
    pub script: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawMatch {
    program: Vec<String>,
    module: Vec<String>,
    file: Vec<String>,
    subcommand: Vec<String>,
    flags: Vec<String>,
    without_flags: Vec<String>,
    dependency: Vec<String>,
    manifest: Vec<Manifest>,
    script: Vec<String>,
}

/// A file of the project, and a text that must occur in it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Manifest {
    /// Its path, relative to the directory that it is looked for in.
    pub file: String,
    /// The text, in lower case; none means that the file has to be there, whatever it says.
    pub text: Option<String>,
}

impl TryFrom<String> for Manifest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (file, needle) = match text.split_once(": ") {
            Some((file, needle)) => (file, Some(needle)),
            None => (text.as_str(), None),
        };
        let inside = !file.is_empty() && !file.starts_with('/') && !file.contains("..");
        if !inside || needle.is_some_and(str::is_empty) {
            return Err(format!(
                "manifest {text:?} is neither `FILE` nor `FILE: TEXT` with a file of the project"
            ));
        }
        Ok(Self {
            file: file.to_owned(),
            text: needle.map(str::to_ascii_lowercase),
        })
    }
}

impl TryFrom<RawMatch> for Match {
    type Error = &'static str;

    fn try_from(raw: RawMatch) -> Result<Self, &'static str> {
        let anchors = [
            &raw.program,
            &raw.module,
            &raw.file,
            &raw.dependency,
            &raw.script,
        ];
        if raw.manifest.is_empty() && anchors.iter().all(|list| list.is_empty()) {
            return Err(
                "empty match: give at least one of `program`, `module`, `file`, `dependency`, `manifest`, `script`",
            );
        }
        if anchors.iter().any(|list| list.iter().any(String::is_empty)) {
            return Err("empty text in a match would match everything");
        }
        Ok(Self {
            program: raw.program,
            module: raw.module,
            file: raw.file,
            subcommand: raw.subcommand,
            flags: raw.flags,
            without_flags: raw.without_flags,
            dependency: raw.dependency,
            manifest: raw.manifest,
            script: raw.script,
        })
    }
}

impl Match {
    /// How much the table says; the higher number wins.
    pub(crate) fn specificity(&self) -> u32 {
        let given = |list: &[String], weight: u32| if list.is_empty() { 0 } else { weight };
        let any_file = self.any_file();
        let subcommand_words = self
            .subcommand
            .iter()
            .map(|words| words.split(' ').count().min(3))
            .min()
            .unwrap_or(0);
        given(&self.module, 0x1000)
            + given(&self.file, if any_file { 0x10 } else { 0x1000 })
            + given(&self.program, 0x400)
            + u32::try_from(subcommand_words).unwrap_or(0) * 0x100
            + u32::try_from(self.flags.len().min(3)).unwrap_or(0) * 0x20
            + given(&self.without_flags, 0x8)
            + given(&self.dependency, 0x4)
            + given(&self.script, 0x2)
            + u32::from(!self.manifest.is_empty())
    }

    /// Whether the project has to tell what the command alone does not. Such a table is not for scripts that are
    /// called `build` or `seed`.
    pub(crate) fn goes_by_the_project(&self) -> bool {
        let names_the_tool = !(self.program.is_empty() && self.module.is_empty())
            || !(self.file.is_empty() || self.any_file());
        !names_the_tool || !self.dependency.is_empty() || !self.manifest.is_empty()
    }

    /// Whether some command could match both tables and nothing but the recipes' order would decide.
    pub(crate) fn ties_with(&self, other: &Self) -> bool {
        let overlap = |a: &[String], b: &[String]| {
            a.is_empty() && b.is_empty() || a.iter().any(|word| b.contains(word))
        };
        // `--only=auth` and `--only=ui` cannot both be.
        let differs = |a: &str, b: &str| match (a.split_once('='), b.split_once('=')) {
            (Some((name, value)), Some((other, other_value))) => {
                name == other && value != other_value
            }
            _ => false,
        };
        let excludes = |a: &Self, b: &Self| {
            a.flags.iter().any(|flag| {
                b.without_flags.contains(flag) || b.flags.iter().any(|other| differs(flag, other))
            })
        };
        self.specificity() == other.specificity()
            && overlap(&self.program, &other.program)
            && overlap(&self.module, &other.module)
            && overlap(&self.file, &other.file)
            && overlap(&self.subcommand, &other.subcommand)
            && !excludes(self, other)
            && !excludes(other, self)
    }

    /// Whether the table is for whatever command is run in such a project.
    pub(crate) fn is_for_any_command(&self) -> bool {
        self.program.is_empty() && self.module.is_empty() && self.file.is_empty()
    }

    /// Whether a file is asked for, but not by its name.
    pub(crate) fn any_file(&self) -> bool {
        self.file.iter().any(|file| file.starts_with('*'))
    }

    /// The words by which the table is found in an index, see [`crate::catalog`].
    pub(crate) fn triggers(&self) -> Vec<String> {
        let any_file = self.any_file();
        if !self.module.is_empty() {
            self.module
                .iter()
                .map(|module| format!("-m {module}"))
                .collect()
        } else if !self.file.is_empty() && !any_file {
            self.file.iter().map(|file| format!("./{file}")).collect()
        } else if !self.program.is_empty() {
            self.program.clone()
        } else if !self.dependency.is_empty() {
            self.dependency
                .iter()
                .map(|name| format!("{DEPENDENCY}{name}"))
                .collect()
        } else {
            vec!["*".to_owned()]
        }
    }
}
