//! The user's wish: the port that was asked for by the tool's own means other than its arguments.

use styxy_protocol::Port;

use super::judge::{Judge, nothing};
use super::{Asked, AskedFrom, Detection, Intercept, Outcome};
use crate::asked::{Number, variable};
use crate::invocation::{Origin, Trail};
use crate::plan::{Plan, Replace};
use crate::schema::EnvForm;

/// The user's wish, and whether it is one that styxy can serve.
pub(super) enum Wish {
    None,
    Port(Asked),
    Own,
}

impl Wish {
    /// The port, if there is one that styxy can serve.
    pub(super) fn port(&self) -> Option<Port> {
        match self {
            Self::Port(asked) => Some(asked.port),
            Self::None | Self::Own => None,
        }
    }
}

impl Judge<'_> {
    /// The port in the first of these variables that has one.
    pub(super) fn wish_in_env(&self, forms: &[EnvForm], trail: &Trail) -> Wish {
        for EnvForm { name, .. } in forms {
            let (value, from) = match trail.assigned(name) {
                Some(assignment) => {
                    let from = match assignment.origin {
                        Origin::Argv(_) => AskedFrom::Assignment,
                        Origin::Script => AskedFrom::Script,
                    };
                    (Some(assignment.value.clone()), from)
                }
                None if trail.env_reaches(name) => {
                    ((self.command.env)(name), AskedFrom::Environment)
                }
                None => (None, AskedFrom::Environment),
            };
            let Some(text) = value.as_ref().and_then(|value| value.to_str()) else {
                continue;
            };
            let digits = match variable(text) {
                Some((_, otherwise)) => otherwise.unwrap_or(""),
                // The port of an address: what follows the last colon.
                None => text.rsplit(':').next().unwrap_or(""),
            };
            if let Some(number) = Number::parse(digits) {
                return wish_of(number, from);
            }
        }
        Wish::None
    }

    /// Sets these variables, or changes the words of the command that set them.
    pub(super) fn plan_env(&self, forms: &[EnvForm], trail: &Trail, plan: &mut Plan) {
        for form in forms {
            match trail.assigned(&form.name) {
                None => plan.env_reaches |= trail.env_reaches(&form.name),
                Some(assignment) => match (assignment.origin, assignment.value.to_str()) {
                    (Origin::Argv(at), Some(value)) => {
                        plan.replace.extend(port_of(value).map(|start| Replace {
                            at,
                            before: format!("{}={}", form.name, &value[..start]),
                            after: String::new(),
                            is_argument: false,
                        }));
                    }
                    // `PORT=${PORT:-3000}` lets the variable through.
                    (Origin::Script, Some(value))
                        if variable(value).is_some_and(|(name, _)| name == form.name) =>
                    {
                        plan.env_reaches |= trail.env_reaches(&form.name);
                    }
                    _ => {}
                },
            }
            plan.env.push(self.with_host_of_user(form));
        }
    }

    /// The form with the address that the user gave, so that only the port changes.
    fn with_host_of_user(&self, form: &EnvForm) -> EnvForm {
        let given = (self.command.env)(&form.name);
        let given = given.as_ref().and_then(|value| value.to_str());
        match given.and_then(|value| Some((value, port_of(value)?))) {
            Some((value, start)) if start > 0 => EnvForm {
                name: form.name.clone(),
                value: format!("{}{{port}}", &value[..start]),
            },
            _ => form.clone(),
        }
    }

    /// The port that the first of these files that has one gives to one of these variables; files that a wrapper was
    /// given come before. What is no port is not
    /// taken for a wish there: nobody knows whether the program reads the file at all.
    pub(super) fn wish_in_files(&self, files: &[&str], forms: &[EnvForm], trail: &Trail) -> Wish {
        let named = trail.env_files.iter().rev().cloned();
        let paths = named.chain(files.iter().map(|file| trail.cwd.join(file)));
        for path in paths {
            let Some(text) = self.project.text(&path) else {
                continue;
            };
            let mut ports = forms.iter().filter_map(|form| assigned(&text, &form.name));
            if let Some(port) = ports.find_map(|value| Number::parse(value)?.port()) {
                return Wish::Port(Asked {
                    port,
                    from: AskedFrom::File,
                });
            }
        }
        Wish::None
    }
}

/// Where the port begins in `4000` or `127.0.0.1:4000`.
fn port_of(value: &str) -> Option<usize> {
    let start = value.rfind(':').map_or(0, |colon| colon + 1);
    Number::parse(&value[start..]).map(|_| start)
}

/// The value of a variable in the text of a `.env` file: the last assignment counts, `export`, quotes and a comment
/// behind the value are allowed.
fn assigned<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let value = |line: &'t str| {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let value = line.strip_prefix(name)?.trim_start().strip_prefix('=')?;
        let value = value
            .split_once(" #")
            .map_or(value, |(value, _)| value)
            .trim();
        Some(value.trim_matches(['"', '\'', '`']))
    };
    text.lines().rev().find_map(value)
}

pub(super) fn wish_of(number: Number, from: AskedFrom) -> Wish {
    number
        .port()
        .map_or(Wish::Own, |port| Wish::Port(Asked { port, from }))
}

impl From<Origin> for AskedFrom {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Argv(_) => Self::Argument,
            Origin::Script => Self::Script,
        }
    }
}

/// Enters the user's wish; one that styxy must not touch ends the matter.
pub(super) fn conclude(detection: Detection, wish: &Wish) -> Detection {
    match wish {
        Wish::None => detection,
        Wish::Port(asked) => Detection {
            asked_port: Some(*asked),
            ..detection
        },
        Wish::Own => {
            let mut why = detection.why;
            why.push(
                "the port that it was given is 0, privileged or no port number, so it keeps that"
                    .to_owned(),
            );
            Detection {
                outcome: Outcome::KeepsItsPort,
                why,
                intercept: Intercept::Off,
                extra_ports: Vec::new(),
                plan: nothing(detection.plan.len),
                ..detection
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_found_in_a_file_as_people_write_it() {
        for (text, value) in [
            ("PORT=4000", Some("4000")),
            ("# PORT=1\nA=b\r\nexport PORT = '4000'\r\n", Some("4000")),
            ("PORT=4000 # the usual one", Some("4000")),
            ("PORT=4000\nPORT=\"4001\"", Some("4001")),
            ("XPORT=1\nPORTS=2", None),
            ("PORT", None),
            ("", None),
        ] {
            assert_eq!(assigned(text, "PORT"), value, "{text:?}");
        }
    }
}
