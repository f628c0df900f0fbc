//! Which port the user asked for by the tool's own means, and where it stands.
//!
//! The order is the tools' own: an argument beats a variable, the last argument beats earlier ones, an
//! assignment close to the tool beats one further away, which beats the environment.

use std::ops::Range;

use styxy_protocol::Port;

use crate::invocation::{Origin, Word};
use crate::options::{Flag, Options};
use crate::schema::{ArgForm, PortRules, Separator, ValueStyle};

/// What the arguments say about the port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InArguments<'a> {
    /// Nothing.
    Absent,
    /// This number, in this word.
    At(Place<'a>),
    /// A variable of the shell, with the number that stands in for it when it is not set.
    Variable {
        name: &'a str,
        otherwise: Option<Number>,
    },
    /// A word stands where the port would, but it is none.
    Taken,
    /// A port flag without a number.
    Unclear,
}

/// Where a number stands: a word, split around it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub(crate) origin: Origin,
    pub(crate) before: &'a str,
    pub(crate) after: &'a str,
    pub(crate) number: Number,
}

/// A number that was given as a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    /// A port that can be leased.
    Port(Port),
    /// 0, a privileged port, or no port at all: the user's own business.
    Own,
}

impl Number {
    /// Reads decimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| match text.parse::<Port>() {
            Ok(port) if !port.is_privileged() => Self::Port(port),
            _ => Self::Own,
        })
    }

    pub(crate) fn port(self) -> Option<Port> {
        match self {
            Self::Port(port) => Some(port),
            Self::Own => None,
        }
    }
}

/// Looks for the port among `args`, whose first `subcommand` positionals are the subcommand.
pub(crate) fn in_arguments<'a>(
    rules: &PortRules,
    args: &'a [Word],
    options: &Options<'a>,
    subcommand: usize,
) -> InArguments<'a> {
    if let Some(found) = in_flags(&rules.argv, args, options) {
        return found;
    }
    let mut positional = rules
        .argv
        .iter()
        .filter(|form| form.flag.is_none())
        .peekable();
    let Some(&at) = options.positionals.get(subcommand + rules.position) else {
        return InArguments::Absent;
    };
    if positional.peek().is_none() {
        return InArguments::Absent;
    }
    let word = &args[at];
    positional
        .find_map(|form| in_value(form.style, word, 0))
        .unwrap_or(InArguments::Taken)
}

/// What the last flag of one of these forms says.
pub(crate) fn in_flags<'a>(
    forms: &[ArgForm],
    args: &'a [Word],
    options: &Options<'a>,
) -> Option<InArguments<'a>> {
    options.flags.iter().rev().find_map(|flag| {
        let mut found = forms.iter().filter_map(|form| in_flag(form, flag, args));
        let first = found.next()?;
        if first != InArguments::Unclear {
            return Some(first);
        }
        // Another form of the same flag may read what this one could not.
        let clearer = found.find(|other| *other != InArguments::Unclear);
        Some(clearer.unwrap_or(first))
    })
}

/// What a flag says if it is one of this form; `--port=N` and `-pN` count as `--port N` and `-p N`.
fn in_flag<'a>(form: &ArgForm, flag: &Flag<'a>, args: &'a [Word]) -> Option<InArguments<'a>> {
    let name = form.flag.as_deref()?;
    if flag.name == name {
        let Some((at, start, _)) = flag.value else {
            // `--serve` alone is a switch where the port comes as `--serve=8000`.
            return (form.separator == Separator::Word).then_some(InArguments::Unclear);
        };
        if let Some(setting) = form.setting() {
            let is_it = args[at].as_str().get(start..)?.starts_with(setting);
            let start = start + setting.len();
            return is_it.then(|| in_value(ValueStyle::Number, &args[at], start))?;
        }
        return Some(in_value(form.style, &args[at], start).unwrap_or(InArguments::Unclear));
    }
    let is_short = name.len() == 2;
    let glued = flag.name.strip_prefix(name).filter(|_| is_short)?;
    let begins_a_number = glued.starts_with(|c: char| c.is_ascii_digit());
    begins_a_number.then(|| in_value(form.style, &args[flag.at], name.len()))?
}

/// The port in the part of a word that begins at byte `start`.
fn in_value(style: ValueStyle, word: &Word, start: usize) -> Option<InArguments<'_>> {
    let text = word.as_str();
    let value = text.get(start..)?;
    if let Some((name, otherwise)) = variable(value) {
        let otherwise = otherwise.and_then(Number::parse);
        return Some(InArguments::Variable { name, otherwise });
    }
    // People write an address where a number would do; only the number in it is changed.
    let styles = [
        style,
        ValueStyle::Number,
        ValueStyle::Address,
        ValueStyle::Url,
    ];
    let Range {
        start: from,
        end: to,
    } = styles.into_iter().find_map(|style| digits(style, value))?;
    Some(InArguments::At(Place {
        origin: word.origin,
        before: &text[..start + from],
        after: &text[start + to..],
        number: Number::parse(&value[from..to])?,
    }))
}

/// Where the digits of a port stand in a value.
fn digits(style: ValueStyle, value: &str) -> Option<Range<usize>> {
    let (start, end) = match style {
        ValueStyle::Number | ValueStyle::Setting => (0, value.len()),
        ValueStyle::Address => (value.rfind(':')? + 1, value.len()),
        ValueStyle::Url => {
            let authority = value.find("://")? + 3;
            let end = value[authority..]
                .find('/')
                .map_or(value.len(), |slash| authority + slash);
            (authority + value[authority..end].rfind(':')? + 1, end)
        }
    };
    let is_number = start < end && value[start..end].bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(start..end)
}

/// `$NAME`, `${NAME}` or `${NAME:-8080}`, alone.
pub(crate) fn variable(value: &str) -> Option<(&str, Option<&str>)> {
    let name = value.strip_prefix('$')?;
    let (name, otherwise) = match name.strip_prefix('{') {
        Some(inner) => {
            let inner = inner.strip_suffix('}')?;
            match inner.split_once(":-").or_else(|| inner.split_once('-')) {
                Some((name, otherwise)) => (name, Some(otherwise)),
                None => (inner, None),
            }
        }
        None => (name, None),
    };
    let is_name = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some((name, otherwise))
}
