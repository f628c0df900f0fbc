//! How a port gets into a command: which words change, which are inserted, which variables are set.
//!
//! A plan is made for one command line and touches only the words that it names.

use std::ffi::OsString;

use styxy_protocol::Port;

use crate::detection::{Injection, Reach};
use crate::schema::{ArgForm, EnvForm};

/// Everything needed to inject a port.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Number of words of the command that the plan was made for.
    pub(crate) len: usize,
    /// Words that hold the port already.
    pub(crate) replace: Vec<Replace>,
    /// Words to add.
    pub(crate) insert: Option<Insert>,
    /// Variables to set.
    pub(crate) env: Vec<EnvForm>,
    /// Whether one of them gets to the tool.
    pub(crate) env_reaches: bool,
}

/// A word that becomes `before`, the port, `after`.
#[derive(Clone, Debug)]
pub(crate) struct Replace {
    pub(crate) at: usize,
    pub(crate) before: String,
    pub(crate) after: String,
    /// Whether it is an argument of the tool rather than an assignment.
    pub(crate) is_argument: bool,
}

/// Words to add before position `at`.
#[derive(Clone, Debug)]
pub(crate) struct Insert {
    pub(crate) at: usize,
    /// How many `--` come first.
    pub(crate) dashes: usize,
    pub(crate) form: ArgForm,
    /// Words that go with an added port.
    pub(crate) with: Vec<String>,
    /// Words that are added when only this port will do.
    pub(crate) strict: Vec<String>,
}

impl Plan {
    /// `argv` with `port`. A command of another length is not the one that was planned for: it stays as it is.
    pub(crate) fn inject(&self, port: Port, argv: &[OsString], strict: bool) -> Injection {
        let mut argv = argv.to_vec();
        let fits = argv.len() == self.len;
        if fits {
            for Replace {
                at, before, after, ..
            } in &self.replace
            {
                if let Some(word) = argv.get_mut(*at) {
                    *word = format!("{before}{port}{after}").into();
                }
            }
            if let Some(insert) = &self.insert {
                let at = insert.at.min(argv.len());
                argv.splice(at..at, insert.words(port, strict));
            }
        }
        let env = self
            .env
            .iter()
            .map(|form| (form.name.clone(), form.with(port).into()))
            .collect();
        Injection {
            argv,
            env,
            reach: if fits { self.reach() } else { Reach::None },
        }
    }

    fn reach(&self) -> Reach {
        if self.insert.is_some() || self.replace.iter().any(|replace| replace.is_argument) {
            Reach::Argument
        } else if self.env_reaches || !self.replace.is_empty() {
            Reach::Environment
        } else {
            Reach::None
        }
    }
}

impl Insert {
    fn words(&self, port: Port, strict: bool) -> Vec<OsString> {
        let strict: &[String] = if strict { &self.strict } else { &[] };
        std::iter::repeat_n("--".to_owned(), self.dashes)
            .chain(self.form.words(port))
            .chain(self.with.iter().cloned())
            .chain(strict.iter().cloned())
            .map(OsString::from)
            .collect()
    }
}
