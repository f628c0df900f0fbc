//! The run plan: everything that is decided about a command before it is started. Pure: a detection and a port
//! in, arguments and environment out. What comes after it decides nothing about tools.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;
use styxy_protocol::{Port, ServiceType};
use styxy_recipes::{Detection, Intercept, Outcome, Ports, Reach};

use crate::env_names;
use crate::lease::Wish;
use crate::notice::printable;

/// A command, ready to be run on its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunPlan {
    /// Program and arguments.
    pub(crate) argv: Vec<OsString>,
    /// Variables that are set on top of the inherited environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Whether the preload library is put in.
    pub(crate) intercept: bool,
    /// How the tool hears of the port. [`Reach::None`]: only the library can move it there from the one that it wants.
    pub(crate) reach: Reach,
    /// The command may well bind a port that nobody foresaw: nobody knows what it is, or it was told nothing and
    /// has configuration files of its own.
    pub(crate) is_guess: bool,
    /// The port.
    pub(crate) port: Port,
    /// Further ports that the tool was told.
    pub(crate) further: Vec<Port>,
}

/// How the user said which port it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Insistence {
    /// Not at all, or in the command itself.
    None,
    /// With `--port`.
    Named,
    /// With `--strict`.
    Strict,
}

/// Further ports of the command that somebody has: each gets one of the spares, as far as there are enough. The
/// others are left to the tool.
pub(crate) fn further_ports<'d>(
    detection: &'d Detection,
    spares: &mut Vec<Port>,
    is_free: impl Fn(Port) -> bool,
) -> Vec<(&'d str, Port)> {
    let mut found = Vec::new();
    for further in &detection.extra_ports {
        let wanted = further.asked.or(further.default);
        if further.can_be_told
            && wanted.is_some_and(|wanted| !is_free(wanted))
            && let Some(spare) = spares.pop()
        {
            found.push((further.name.as_str(), spare));
        }
    }
    found
}

/// Puts the ports into the command as its recipe says.
pub(crate) fn plan<'a>(
    detection: &Detection,
    command: &[OsString],
    ports: impl Into<Ports<'a>>,
    insistence: Insistence,
    lease_id: &str,
) -> RunPlan {
    let ports = ports.into();
    let injection = match insistence {
        Insistence::None => detection.inject(ports, command),
        Insistence::Named => detection.inject_always(ports, command),
        Insistence::Strict => detection.inject_strict(ports, command),
    };
    let mut env: Vec<(OsString, OsString)> = injection
        .env
        .into_iter()
        .map(|(name, value)| (OsString::from(name), value))
        .collect();
    if !lease_id.is_empty() {
        env.push((env_names::LEASE.into(), lease_id.into()));
    }
    let was_told_nothing = injection.reach == Reach::Unneeded && detection.asked_port.is_none();
    // Its port stands where no recipe can read it: in a configuration file or in the program.
    let wants_unknown_port = detection.asked_port.is_none()
        && detection.default_port.is_none()
        && injection.reach != Reach::Argument;
    RunPlan {
        argv: injection.argv,
        env,
        intercept: detection.intercept == Intercept::Preload,
        reach: injection.reach,
        is_guess: detection.outcome == Outcome::Generic
            || detection.is_by_project
            || was_told_nothing
            || wants_unknown_port,
        port: ports.main,
        further: ports.extra.iter().map(|&(_, port)| port).collect(),
    }
}

/// The inherited environment with the plan's variables in it, and without the wish for a port, which this run
/// has taken for its own.
pub(crate) fn environment(
    inherited: &[(OsString, OsString)],
    set: &[(OsString, OsString)],
) -> Vec<(OsString, OsString)> {
    let kept = inherited
        .iter()
        .filter(|(name, _)| name != env_names::PORT && !set.iter().any(|(other, _)| other == name));
    kept.chain(set).cloned().collect()
}

/// Everything that was found out about a command.
#[derive(Debug)]
pub(crate) struct Findings<'a> {
    /// What it is.
    pub(crate) detection: &'a Detection,
    /// What it would like to have.
    pub(crate) wish: &'a Wish,
    /// As it was typed.
    pub(crate) command: &'a [OsString],
    /// The file that its first word names.
    pub(crate) program: Option<PathBuf>,
    /// What would be run; `None` when it is left as it is.
    pub(crate) plan: Option<&'a RunPlan>,
    /// Nothing would be run: there may be one service of the type, and it runs already on the plan's port.
    pub(crate) is_followed: bool,
}

/// What `--dry-run` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    recipe: &'a str,
    outcome: &'static str,
    service_type: &'a ServiceType,
    service_name: &'a str,
    why: &'a [String],
    asked_port: Option<Port>,
    default_port: Option<Port>,
    port: Option<Port>,
    url: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    follows: bool,
    intercept: bool,
    env: BTreeMap<String, String>,
    argv: Vec<String>,
    program: Option<String>,
}

impl<'a> Report<'a> {
    /// Puts the findings into words.
    pub(crate) fn new(findings: &Findings<'a>) -> Self {
        let &Findings {
            detection,
            wish,
            command,
            ref program,
            plan,
            is_followed,
        } = findings;
        let text = |word: &OsString| word.to_string_lossy().into_owned();
        Self {
            recipe: &detection.recipe,
            outcome: outcome_name(detection.outcome),
            service_type: &wish.service_type,
            service_name: &wish.name,
            why: &detection.why,
            asked_port: wish.asked,
            default_port: wish.default,
            port: plan.map(|plan| plan.port),
            url: plan.map(|plan| format!("http://localhost:{}", plan.port)),
            follows: is_followed,
            intercept: plan.is_some_and(|plan| plan.intercept),
            env: plan
                .iter()
                .flat_map(|plan| &plan.env)
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
            argv: plan
                .map_or(command, |plan| &plan.argv)
                .iter()
                .map(text)
                .collect(),
            program: program
                .as_ref()
                .map(|path| path.to_string_lossy().into_owned()),
        }
    }

    /// The report for people.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:<9} {}", printable(value));
        };
        row("recipe", &format!("{} ({})", self.recipe, self.outcome));
        for why in self.why {
            row("because", why);
        }
        row("type", self.service_type.as_str());
        row("name", self.service_name);
        match self.port {
            Some(port) => row("port", &format!("{port}{}", self.port_remark())),
            None => row("port", "none, the command is run as it is"),
        }
        for (name, value) in &self.env {
            row("env", &format!("{name}={}", quoted(value)));
        }
        if self.intercept {
            row(
                "net",
                "binds to other taken ports are moved to free ones (LD_PRELOAD)",
            );
        }
        let words: Vec<_> = self.argv.iter().map(|word| quoted(word)).collect();
        row("command", &words.join(" "));
        match &self.program {
            Some(path) => row("program", path),
            None => row(
                "program",
                "not found; it would end with exit code 127 or 126",
            ),
        }
        text
    }

    fn port_remark(&self) -> String {
        if self.follows {
            return format!(
                " (the one `{}` service runs there; it would be followed until it ends, and nothing started)",
                self.service_type
            );
        }
        match (self.asked_port, self.default_port) {
            (Some(asked), _) if Some(asked) != self.port => format!(" (asked for: {asked})"),
            (None, Some(default)) if Some(default) != self.port => {
                format!(" (the tool's own: {default})")
            }
            _ => String::new(),
        }
    }
}

const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Service => "service",
        Outcome::Generic => "generic",
        Outcome::ShortLived => "short-lived",
        Outcome::BringsOwnRun => "brings-own-run",
        Outcome::KeepsItsPort => "keeps-its-port",
    }
}

/// A word as it could be typed in a shell, without anything that a terminal would obey.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=:./@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else if printable(word) == word {
        format!("'{}'", word.replace('\'', r"'\''"))
    } else {
        word.chars().fold("$'".to_owned(), ansi_c_quoted) + "'"
    }
}

/// Adds a character as it stands between `$'` and `'` in bash, zsh and ksh.
fn ansi_c_quoted(mut text: String, character: char) -> String {
    match character {
        '\'' | '\\' => text.extend(['\\', character]),
        '\n' => text.push_str("\\n"),
        '\t' => text.push_str("\\t"),
        _ if printable(character.encode_utf8(&mut [0; 4]))
            .chars()
            .eq([character]) =>
        {
            text.push(character);
        }
        _ => {
            let _ = write!(text, "\\u{:04x}", u32::from(character));
        }
    }
    text
}

/// A command for display.
pub(crate) fn command_line(argv: &[OsString]) -> String {
    argv.iter()
        .map(|word| quoted(&OsStr::to_string_lossy(word)))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests;
