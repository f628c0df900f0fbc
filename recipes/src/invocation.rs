//! A command while it is being understood: words that remember where they stand, and what was learnt on the way.
//!
//! Only words that stand in the user's own command line ([`Origin::Argv`]) can be changed later.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::words::Simple;

/// One word of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: OsString,
    pub(crate) origin: Origin,
}

/// Where a word stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In the user's command line, at this position.
    Argv(usize),
    /// In a script, or made up by a wrapper.
    Script,
}

impl Word {
    pub(crate) fn script(text: impl Into<OsString>) -> Self {
        Self {
            text: text.into(),
            origin: Origin::Script,
        }
    }

    /// The text for comparing. Bytes that are not UTF-8 compare equal to nothing that a recipe can say.
    pub(crate) fn as_str(&self) -> &str {
        let unknown = if self.text.as_encoded_bytes().first() == Some(&b'-') {
            "-\u{fffd}"
        } else {
            "\u{fffd}"
        };
        self.text.to_str().unwrap_or(unknown)
    }

    pub(crate) fn is_flag(&self) -> bool {
        let text = self.as_str();
        text.len() > 1 && text.starts_with('-')
    }
}

/// Name of a program as recipes say it: without directory and Windows' endings. `@scope/package` stays whole.
pub(crate) fn program_name(word: &str) -> &str {
    if word.starts_with('@') && word.matches('/').count() == 1 {
        return word;
    }
    let name = word.rsplit(['/', '\\']).next().unwrap_or(word);
    [".exe", ".cmd", ".ps1"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
        .unwrap_or(name)
}

/// `NAME=value` before or inside the command.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub(crate) name: String,
    pub(crate) value: OsString,
    pub(crate) origin: Origin,
}

/// Whether and how words can be appended so that the tool gets them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail {
    /// How many `--` must come first, so that package managers hand the rest on.
    pub(crate) dashes: usize,
    /// A manager that may drop a `--` has been passed.
    pub(crate) drops_dashes: bool,
    /// Bun has been passed: it runs the `npm run` of a script as `bun run`, which hands everything on.
    pub(crate) within_bun: bool,
    /// Why nothing can be appended.
    pub(crate) closed: Option<&'static str>,
}

impl Tail {
    pub(crate) fn close(&mut self, why: &'static str) {
        self.closed.get_or_insert(why);
    }

    /// Passes a package manager that hands on only what follows `--`.
    pub(crate) fn needs_dashes(&mut self, has_them: bool) {
        if !has_them && !self.within_bun {
            if self.drops_dashes {
                self.close("one package manager drops the `--` that the next one needs");
            }
            self.dashes += 1;
        }
    }
}

/// What was learnt on the way from the command line to the tool.
#[derive(Clone, Debug)]
pub(crate) struct Trail {
    pub(crate) why: Vec<String>,
    pub(crate) cwd: PathBuf,
    pub(crate) assignments: Vec<Assignment>,
    /// The environment does not reach the tool at all (`env -i`).
    pub(crate) env_cleared: bool,
    /// Variables that do not reach it (`env -u NAME`).
    pub(crate) env_unset: Vec<String>,
    /// Files from which wrappers set the variables that the environment does not have, the last one weighs most.
    pub(crate) env_files: Vec<PathBuf>,
    /// The innermost script: its package's directory, its name, its text.
    pub(crate) script: Option<(PathBuf, String, String)>,
    /// Scripts that were followed, against cycles.
    pub(crate) seen: Vec<(PathBuf, String)>,
    pub(crate) tail: Tail,
}

impl Trail {
    pub(crate) fn new(cwd: PathBuf) -> Self {
        Self {
            why: Vec::new(),
            cwd,
            assignments: Vec::new(),
            env_cleared: false,
            env_unset: Vec::new(),
            env_files: Vec::new(),
            script: None,
            seen: Vec::new(),
            tail: Tail::default(),
        }
    }

    pub(crate) fn assign(&mut self, name: &str, value: &str, origin: Origin) {
        self.assignments.push(Assignment {
            name: name.to_owned(),
            value: value.into(),
            origin,
        });
    }

    /// Takes over the assignments of a simple command of a script, gives its words.
    pub(crate) fn enter(&mut self, simple: &Simple) -> Vec<Word> {
        for (name, value) in &simple.assignments {
            self.assign(name, value, Origin::Script);
        }
        simple.words.iter().map(Word::script).collect()
    }

    /// The innermost assignment of a variable.
    pub(crate) fn assigned(&self, name: &str) -> Option<&Assignment> {
        self.assignments
            .iter()
            .rev()
            .find(|assignment| assignment.name == name)
    }

    /// Whether a variable of the environment reaches the tool.
    pub(crate) fn env_reaches(&self, name: &str) -> bool {
        !self.env_cleared && !self.env_unset.iter().any(|unset| unset == name)
    }
}

/// Words for people, shortened: `npm run dev`.
pub(crate) fn shown(words: &[Word]) -> String {
    let mut text = String::new();
    for word in words {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&shown_text(&word.text));
    }
    shorten(text)
}

/// Text of a project for people: control characters escaped, cut at 120 characters.
pub(crate) fn shown_text(text: &OsStr) -> String {
    shorten(escaped(&text.to_string_lossy()))
}

/// The text with everything escaped that would move the cursor or deceive the eye.
pub(crate) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Characters that move the cursor or the eye rather than show something.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
}

fn shorten(text: String) -> String {
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Scripts that people name like this build or check something; a server among them is found by its recipe.
pub(crate) fn is_chore(script: &str) -> bool {
    const FIRST: [&str; 31] = [
        "build",
        "bundle",
        "bootstrap",
        "check",
        "ci",
        "clean",
        "codegen",
        "compile",
        "coverage",
        "deploy",
        "fmt",
        "format",
        "generate",
        "install",
        "lint",
        "migrate",
        "migrations",
        "postinstall",
        "prebuild",
        "precommit",
        "prepare",
        "prettier",
        "publish",
        "release",
        "seed",
        "setup",
        "test",
        "tests",
        "type-check",
        "typecheck",
        "validate",
    ];
    const LAST: [&str; 5] = ["migrate", "seed", "generate", "codegen", "reset"];
    let mut parts = script.split([':', '.']);
    let first = parts.next().unwrap_or(script);
    FIRST.contains(&first) || parts.next_back().is_some_and(|last| LAST.contains(&last))
}
