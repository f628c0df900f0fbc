//! The forms in which tools take a port. Values come from a closed grammar: a number, an address or a URL with it.

use serde::Deserialize;
use styxy_protocol::Port;

use super::RecipeName;

/// How a port gets into a tool.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PortRules {
    /// The port that the tool takes, or is expected to take, when nobody says anything.
    pub default: Option<Port>,
    /// The tool has to be told even this port, because by itself it takes another one: a random one, or one that
    /// its program says. Without it a tool that gets the port that it would take anyway is run just as it was typed,
    /// so that what its own configuration files say stays in force.
    pub tell_default: bool,
    /// Arguments that carry the port. The first is added when the user typed none; all are recognised.
    pub argv: Vec<ArgForm>,
    /// Variables that carry it: set by styxy, and read as the user's wish.
    pub env: Vec<EnvForm>,
    /// Variables that are read as the user's wish but not set.
    pub asked_env: Vec<EnvForm>,
    /// Files beside the package from which the program may set those variables if the environment does not, in the
    /// order of their weight. A port in one of them is the user's wish.
    pub dotenv: Vec<String>,
    /// Which word after the subcommand a positional form is: 0 is the first.
    pub position: usize,
    /// Where the added argument goes.
    pub place: Placement,
    /// What the tool makes of the argument given twice.
    pub repeat: Repeat,
    /// Further arguments that carry the same port: added with it, and changed where the user typed them.
    pub also: Vec<ArgForm>,
    /// Words to add together with an added port, for tools that need a host with it.
    pub with: Vec<String>,
    /// Words that make the tool end rather than wander off to another port. Added by
    /// [`crate::Detection::inject_strict`] only: a run that would work on another port must go on working.
    pub strict: Vec<String>,
}

/// A further port of a command, such as an inspector or a second protocol.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtraPort {
    /// Name that tells it from the others of the recipe.
    pub name: RecipeName,
    /// The port that it has by default.
    #[serde(default)]
    pub default: Option<Port>,
    /// Arguments that carry it. The first is added, all are recognised.
    #[serde(default)]
    pub argv: Vec<ArgForm>,
    /// Variables that carry it.
    #[serde(default)]
    pub env: Vec<EnvForm>,
    /// Flags of which one must be given for the tool to open it; none means that it always does.
    #[serde(default)]
    pub when: Vec<String>,
}

/// Where an added argument goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// To the end of the command, before a `--` of the tool's own.
    #[default]
    End,
    /// Right after the subcommand, for tools that read no flags behind their first operand. A script's own words
    /// cannot be parted, so there it is not added.
    First,
}

/// What a tool makes of a port argument given twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repeat {
    /// The last one counts, so that one can be appended to a script that has one.
    #[default]
    LastWins,
    /// An error or the first one: nothing is appended.
    Error,
}

/// What stands between a flag and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    /// They are two words.
    Word,
    /// `=`.
    Equals,
    /// Nothing.
    Glued,
}

/// How a port stands in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueStyle {
    /// The value is the port.
    Number,
    /// It ends in `:` and the port.
    Address,
    /// It is a URL with the port.
    Url,
    /// It is a setting, `port=4000`; the flag may be given several times for several settings.
    Setting,
}

/// One form of the port argument, written as `--port {port}`, `--port={port}`, `-p{port}`, `{port}`,
/// `{host}:{port}`, `-S 127.0.0.1:{port}`, `--listen tcp://127.0.0.1:{port}`, `-c port={port}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ArgForm {
    /// The flag; none for a positional form.
    pub flag: Option<String>,
    /// What stands between flag and value.
    pub separator: Separator,
    /// The value with `{port}` in it.
    pub value: String,
    /// How the port stands in the value.
    pub style: ValueStyle,
}

/// A variable that carries the port: `PORT`, or `ADDR=127.0.0.1:{port}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct EnvForm {
    /// Its name.
    pub name: String,
    /// Its value with `{port}` in it.
    pub value: String,
}

/// One word that keeps a tool from opening a browser: an argument such as `--no-open`, or a variable as
/// `BROWSER=none`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum NoOpen {
    /// An argument.
    Argument(String),
    /// A variable and its value.
    Variable(String, String),
}

impl TryFrom<String> for NoOpen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=:/".contains(&byte);
        if !text.bytes().all(harmless) {
            return Err(format!("{text:?} is more than one word"));
        }
        if text.starts_with('-') || !text.contains('=') {
            return Ok(Self::Argument(text));
        }
        let (name, value) = text.split_once('=').unwrap_or((&text, ""));
        check_variable(name)?;
        Ok(Self::Variable(name.to_owned(), value.to_owned()))
    }
}

const PORT: &str = "{port}";
const HOST: &str = "{host}";

impl TryFrom<String> for ArgForm {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (flag, separator, value) = split_form(&text);
        check_value(value)?;
        let style = if value == PORT {
            ValueStyle::Number
        } else if value.contains("://") {
            ValueStyle::Url
        } else if value.ends_with(":{port}") {
            ValueStyle::Address
        } else if flag.is_some() && value.ends_with("={port}") {
            ValueStyle::Setting
        } else {
            return Err(format!(
                "form {text:?}: `{{port}}` must be the value or follow a `:` or `=`"
            ));
        };
        if flag.is_some_and(|flag| !flag.starts_with('-') || flag.bytes().any(|byte| byte <= b' '))
        {
            return Err(format!("form {text:?}: a flag starts with `-`"));
        }
        Ok(Self {
            flag: flag.map(str::to_owned),
            separator,
            value: value.to_owned(),
            style,
        })
    }
}

/// Splits `--port {port}` into flag, separator and value.
fn split_form(text: &str) -> (Option<&str>, Separator, &str) {
    if !text.starts_with('-') {
        (None, Separator::Word, text)
    } else if let Some((flag, value)) = text.split_once(' ') {
        (Some(flag), Separator::Word, value)
    } else if let Some((flag, value)) = text.split_once('=') {
        (Some(flag), Separator::Equals, value)
    } else {
        let (flag, value) = text.split_at(text.find('{').unwrap_or(text.len()));
        (Some(flag), Separator::Glued, value)
    }
}

/// Whether a value is of the closed grammar: `{port}` once, `{host}` at most once, and the characters of addresses.
fn check_value(value: &str) -> Result<(), String> {
    let rest = value.replacen(PORT, "", 1);
    if rest.len() == value.len() {
        return Err(format!("{value:?} does not contain `{{port}}`"));
    }
    let rest = rest.replacen(HOST, "", 1);
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b".:/[]_-=".contains(&byte);
    if rest.bytes().all(harmless) {
        Ok(())
    } else {
        Err(format!(
            "{value:?} has characters that do not belong into an address"
        ))
    }
}

impl TryFrom<String> for EnvForm {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (name, value) = text.split_once('=').unwrap_or((&text, PORT));
        check_variable(name)?;
        check_value(value)?;
        if value.contains(HOST) {
            return Err(format!("{text:?}: give a literal host"));
        }
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// Whether a recipe may set a variable of this name.
fn check_variable(name: &str) -> Result<(), String> {
    let word = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || name.as_bytes()[0].is_ascii_digit() || !name.bytes().all(word) {
        return Err(format!("{name:?} is not the name of a variable"));
    }
    if is_dangerous(name) {
        return Err(format!(
            "variable `{name}` decides what programs load or run; a recipe may not set it"
        ));
    }
    Ok(())
}

/// Variables through which a value could load code or move files, whatever it is.
fn is_dangerous(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "PATH", "HOME", "SHELL", "IFS", "ENV", "BASH_ENV", "TMPDIR", "EDITOR",
    ];
    const PREFIXES: [&str; 9] = [
        "LD_",
        "DYLD_",
        "PYTHON",
        "PERL",
        "RUBY",
        "GIT_",
        "STYXY_",
        "NPM_CONFIG_",
        "GCONV_",
    ];
    NAMES.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || name.ends_with("_OPTIONS")
        || name.ends_with("OPT")
}

impl ArgForm {
    /// Whether styxy can write the form by itself, which a `{host}` that only the user knows forbids.
    pub(crate) fn can_be_added(&self) -> bool {
        !self.value.contains(HOST)
    }

    /// What stands before the port in a setting.
    pub(crate) fn setting(&self) -> Option<&str> {
        let value = self.value.strip_suffix(PORT);
        value.filter(|_| self.style == ValueStyle::Setting)
    }

    /// The words of the form with this port.
    pub(crate) fn words(&self, port: Port) -> Vec<String> {
        let value = self.value.replace(PORT, &port.to_string());
        match (&self.flag, self.separator) {
            (None, _) => vec![value],
            (Some(flag), Separator::Word) => vec![flag.clone(), value],
            (Some(flag), Separator::Equals) => vec![format!("{flag}={value}")],
            (Some(flag), Separator::Glued) => vec![format!("{flag}{value}")],
        }
    }
}

impl EnvForm {
    /// The variable that holds nothing but the port.
    pub(crate) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            value: PORT.to_owned(),
        }
    }

    /// The value with this port.
    pub(crate) fn with(&self, port: Port) -> String {
        self.value.replace(PORT, &port.to_string())
    }
}
