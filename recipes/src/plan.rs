//! How ports get into a command: which words change, which are inserted, which variables are set.
//!
//! A plan is made for one command line and touches only the words that it names.

use std::ffi::OsString;

use styxy_protocol::Port;

use crate::detection::{Injection, Ports, Reach};
use crate::schema::{ArgForm, EnvForm};

/// Everything needed to inject a port.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Number of words of the command that the plan was made for.
    pub(crate) len: usize,
    /// Words that hold the port already.
    pub(crate) replace: Vec<Replace>,
    /// Where words can be added at all.
    pub(crate) slot: Option<Slot>,
    /// What is added there.
    pub(crate) insert: Option<Insert>,
    /// Variables to set.
    pub(crate) env: Vec<EnvForm>,
    /// Whether one of them gets to the tool.
    pub(crate) env_reaches: bool,
    /// The port that the tool takes when it is told nothing, as far as the recipe can promise.
    pub(crate) own: Option<Port>,
    /// The further ports of the command.
    pub(crate) extra: Vec<Extra>,
}

/// How insistent an injection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// A tool that takes the port anyway is told nothing.
    IfNeeded,
    /// It is told in any case.
    Always,
    /// And to end rather than to take another one.
    Strict,
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

/// A place for words: before position `at`, behind so many `--`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) at: usize,
    pub(crate) dashes: usize,
}

/// Words to add.
#[derive(Clone, Debug)]
pub(crate) struct Insert {
    /// Arguments with the port, in this order.
    pub(crate) forms: Vec<ArgForm>,
    /// Words that go with an added port.
    pub(crate) with: Vec<String>,
    /// Words that are added when only this port will do.
    pub(crate) strict: Vec<String>,
}

/// A further port, by the name that its recipe gives it.
#[derive(Clone, Debug)]
pub(crate) struct Extra {
    pub(crate) name: String,
    /// The port that it has when the tool is told nothing.
    pub(crate) own: Option<Port>,
    pub(crate) replace: Vec<Replace>,
    /// The argument to add when no word holds the port.
    pub(crate) form: Option<ArgForm>,
    pub(crate) env: Vec<EnvForm>,
}

/// A command under way to its ports.
struct Draft {
    argv: Vec<OsString>,
    added: Vec<String>,
    env: Vec<(String, OsString)>,
}

impl Plan {
    /// `argv` with its ports. A command of another length is not the one that was planned for: it stays as it is.
    pub(crate) fn inject(&self, ports: &Ports<'_>, argv: &[OsString], manner: Manner) -> Injection {
        let fits = argv.len() == self.len;
        let mut draft = Draft {
            argv: argv.to_vec(),
            added: Vec::new(),
            env: Vec::new(),
        };
        let unneeded = fits && manner == Manner::IfNeeded && self.own == Some(ports.main);
        if !unneeded {
            let added = self.insert.iter().filter(|_| self.slot.is_some());
            let added = added.flat_map(|insert| insert.words(ports.main, manner));
            draft.put(ports.main, &self.replace, added, &self.env);
        }
        for extra in &self.extra {
            let given = ports.extra.iter().find(|(name, _)| *name == extra.name);
            if let Some(&(_, port)) = given.filter(|(_, port)| extra.own != Some(*port)) {
                let form = extra.form.iter().filter(|_| self.slot.is_some());
                let added = form.flat_map(|form| form.words(port));
                draft.put(port, &extra.replace, added, &extra.env);
            }
        }
        if !fits {
            draft.argv = argv.to_vec();
        } else if let Some(slot) = self.slot.filter(|_| !draft.added.is_empty()) {
            let at = slot.at.min(draft.argv.len());
            let dashes = std::iter::repeat_n("--".to_owned(), slot.dashes);
            let words = dashes.chain(draft.added).map(OsString::from);
            draft.argv.splice(at..at, words);
        }
        Injection {
            argv: draft.argv,
            env: draft.env,
            reach: match (unneeded, fits) {
                (true, _) => Reach::Unneeded,
                (false, true) => self.reach(),
                (false, false) => Reach::None,
            },
        }
    }

    fn reach(&self) -> Reach {
        let adds = self.slot.is_some() && self.insert.is_some();
        if adds || self.replace.iter().any(|replace| replace.is_argument) {
            Reach::Argument
        } else if self.env_reaches || !self.replace.is_empty() {
            Reach::Environment
        } else {
            Reach::None
        }
    }
}

impl Draft {
    fn put(
        &mut self,
        port: Port,
        replace: &[Replace],
        added: impl Iterator<Item = String>,
        env: &[EnvForm],
    ) {
        for Replace {
            at, before, after, ..
        } in replace
        {
            if let Some(word) = self.argv.get_mut(*at) {
                *word = format!("{before}{port}{after}").into();
            }
        }
        self.added.extend(added);
        let set = env
            .iter()
            .map(|form| (form.name.clone(), form.with(port).into()));
        self.env.extend(set);
    }
}

impl Insert {
    fn words(&self, port: Port, manner: Manner) -> impl Iterator<Item = String> {
        let strict: &[String] = if manner == Manner::Strict {
            &self.strict
        } else {
            &[]
        };
        let forms = self.forms.iter().flat_map(move |form| form.words(port));
        forms
            .chain(self.with.iter().cloned())
            .chain(strict.iter().cloned())
    }
}
