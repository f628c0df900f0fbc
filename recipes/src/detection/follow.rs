//! From the command line to the tool: through wrappers, package managers and scripts, however deep.
//!
//! Every step burns fuel, so that a project's scripts cannot make a run slow, and no script is followed twice.

use std::ffi::OsStr;

use super::judge::{self, Judge};
use super::{Detection, Outcome};
use crate::invocation::{Origin, Trail, Word, shown, shown_text};
use crate::unwrap::{self, Step, lexically_joined};
use crate::words::{self, Line, Simple, Then};
use crate::{Catalog, Command, Project};

/// Steps after which a command counts as unknown; real ones take fewer than ten.
const FUEL: u32 = 48;
/// Scripts within scripts that are followed.
const DEPTH: usize = 8;

pub(super) struct Follower<'a> {
    judge: Judge<'a>,
    fuel: u32,
}

impl<'a> Follower<'a> {
    pub(super) fn new(
        catalog: &'a Catalog,
        command: &'a Command<'a>,
        project: &'a dyn Project,
    ) -> Self {
        Self {
            judge: Judge {
                catalog,
                command,
                project,
            },
            fuel: FUEL,
        }
    }

    pub(super) fn detect(mut self) -> Detection {
        let Command { argv, cwd, .. } = *self.judge.command;
        let words = argv
            .iter()
            .enumerate()
            .map(|(at, text)| Word {
                text: text.clone(),
                origin: Origin::Argv(at),
            })
            .collect();
        self.words(words, Trail::new(cwd.to_owned()))
    }

    fn words(&mut self, mut words: Vec<Word>, mut trail: Trail) -> Detection {
        while self.burn() {
            match unwrap::step(&words, &mut trail, self.judge.project) {
                Step::Tool => return self.judge.tool(&words, trail),
                Step::Peel(inner) => words = inner,
                Step::Script {
                    dir,
                    name,
                    text,
                    extra,
                } => {
                    let via = shown(&words);
                    return self.script(&via, (dir, name), &text, &extra, trail);
                }
                Step::Shell(text) => {
                    trail.tail.close("the command is a text for a shell");
                    trail
                        .why
                        .push(format!("a shell runs `{}`", shown_text(OsStr::new(&text))));
                    return self.text(&text, &[], trail);
                }
                Step::ShortLived(why) => {
                    trail.why.push(why);
                    return judge::short_lived(trail, "generic");
                }
                Step::Several(why) => {
                    trail.why.push(why);
                    return judge::several(trail, "generic", &shown(&words));
                }
                Step::Unknown(why) => {
                    trail.why.push(why);
                    return self.judge.generic(trail, None);
                }
            }
        }
        trail
            .why
            .push("it is nested too deeply to follow".to_owned());
        self.judge.generic(trail, None)
    }

    fn burn(&mut self) -> bool {
        self.fuel = self.fuel.saturating_sub(1);
        self.fuel > 0
    }

    fn script(
        &mut self,
        via: &str,
        (dir, name): (std::path::PathBuf, String),
        text: &str,
        extra: &[Word],
        mut trail: Trail,
    ) -> Detection {
        trail.why.push(format!(
            "`{via}` runs the script `{}`",
            shown_text(OsStr::new(text))
        ));
        let key = (dir.clone(), name.clone());
        let again = trail.seen.contains(&key);
        trail.seen.push(key);
        trail.cwd.clone_from(&dir);
        trail.script = Some((dir, name, text.to_owned()));
        if again || trail.seen.len() > DEPTH {
            trail
                .why
                .push("the scripts call each other too deeply".to_owned());
            return self.judge.generic(trail, None);
        }
        self.text(text, extra, trail)
    }

    /// The text of a script or of `sh -c`, with words that are appended to it.
    fn text(&mut self, text: &str, extra: &[Word], mut trail: Trail) -> Detection {
        let commands = match words::split(text) {
            Line::Commands(commands) if !commands.is_empty() => commands,
            Line::Commands(_) => {
                trail.why.push("there is nothing to run".to_owned());
                return judge::short_lived(trail, "generic");
            }
            Line::Opaque if mentions_run(text) => return judge::brings_own_run(trail),
            Line::Opaque => {
                trail.why.push("it is more than simple commands".to_owned());
                trail.tail.close("the script is more than simple commands");
                return self.judge.generic(trail, None);
            }
        };
        match commands.as_slice() {
            [only] if only.then == Then::End || only.then == Then::Next => {
                self.simple(only, extra, trail)
            }
            _ => self.compound(&commands, extra, &trail),
        }
    }

    fn simple(&mut self, simple: &Simple, extra: &[Word], mut trail: Trail) -> Detection {
        if simple.then != Then::End {
            trail
                .tail
                .close("something follows the command in the script");
        }
        let mut words = trail.enter(simple);
        words.extend_from_slice(extra);
        self.words(words, trail)
    }

    /// Several commands. What a package manager appends goes to the last one, and only an `&&` chain
    /// keeps it the one whose end is the script's end; so only such a last command can get flags.
    fn compound(&mut self, commands: &[Simple], extra: &[Word], trail: &Trail) -> Detection {
        // What a pipe feeds is a filter of logs, hardly a second server.
        let parallel = commands
            .iter()
            .any(|simple| simple.then == Then::Background);
        let chain = commands
            .iter()
            .rev()
            .skip(1)
            .all(|simple| simple.then == Then::And);
        let mut trail = trail.clone();
        let mut found: Vec<Detection> = Vec::new();
        for (position, simple) in commands.iter().enumerate() {
            if let ([command, dir], Then::And | Then::Next) = (simple.words.as_slice(), simple.then)
                && command == "cd"
            {
                trail.cwd = lexically_joined(&trail.cwd, dir);
                continue;
            }
            if simple.words.is_empty() {
                continue;
            }
            let is_last = position + 1 == commands.len();
            let mut own = trail.clone();
            if !(is_last && chain) {
                own.tail.close("the script is compound");
            }
            let extra = if is_last { extra } else { &[] };
            let detection = self.simple(simple, extra, own);
            if detection.outcome == Outcome::BringsOwnRun {
                return detection;
            }
            found.push(detection);
        }
        let running = found
            .iter()
            .filter(|found| found.outcome != Outcome::ShortLived)
            .count();
        let Some(mut chosen) = choose(found) else {
            return self.judge.generic(trail, None);
        };
        if parallel && running > 1 {
            chosen
                .why
                .push("several commands run at once, so none of them gets `PORT`".to_owned());
            chosen.plan = judge::nothing(self.judge.command.argv.len());
        }
        chosen
    }
}

/// The last service, else the last command that may be one, else the last.
fn choose(mut found: Vec<Detection>) -> Option<Detection> {
    let last =
        |wanted: &dyn Fn(Outcome) -> bool| found.iter().rposition(|found| wanted(found.outcome));
    let at = last(&|outcome| matches!(outcome, Outcome::Service | Outcome::KeepsItsPort))
        .or_else(|| last(&|outcome| outcome == Outcome::Generic))
        .or_else(|| found.len().checked_sub(1))?;
    Some(found.swap_remove(at))
}

/// Whether a text that cannot be taken apart runs styxy somewhere.
fn mentions_run(text: &str) -> bool {
    let mut words = text
        .split(|c: char| c.is_whitespace() || "();&|`'\"".contains(c))
        .peekable();
    while let Some(word) = words.next() {
        if judge::is_styxy(word) && words.peek() == Some(&"run") {
            return true;
        }
    }
    false
}
