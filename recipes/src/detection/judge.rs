//! The verdict on a tool that was reached: recipe, wish of the user, and the plan for its port.

use std::path::PathBuf;

use styxy_protocol::Port;

use super::wish::{Wish, conclude, wish_of};
use super::{AskedFrom, Detection, Intercept, Outcome, dev};
use crate::asked::{InArguments, Number, Place, in_arguments, variable};
use crate::invocation::{Origin, Trail, Word, escaped, program_name, shown};
use crate::matching::{self, Matched, Surroundings};
use crate::options::Options;
use crate::plan::{Insert, Plan, Replace};
use crate::schema::{EnvForm, InterceptRule, Recipe, Repeat};
use crate::tool::Tool;
use crate::{Catalog, Command, Project, unwrap};

/// The name of what no recipe knows.
const GENERIC: &str = "generic";

/// Where programs that nobody knows may have their variables from.
const DOTENV: &str = ".env";

pub(super) struct Judge<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) command: &'a Command<'a>,
    pub(super) project: &'a dyn Project,
}

impl Judge<'_> {
    /// The verdict on a command without wrappers.
    pub(super) fn tool(&self, words: &[Word], mut trail: Trail) -> Detection {
        let Some(tool) = Tool::parse(words) else {
            return self.generic(trail, None);
        };
        if is_styxy(tool.program) && tool.args.first().is_some_and(|word| word.as_str() == "run") {
            return brings_own_run(trail);
        }
        let cwd = trail.cwd.clone();
        let around = Surroundings {
            package: &|| unwrap::nearest(&cwd, self.project).map(|(_, package)| package),
            script: trail.script.as_ref().map(|(_, _, text)| text.as_str()),
        };
        match matching::best(self.catalog, &tool, &around) {
            Matched::Service(recipe, subcommand) => {
                trail.why.push(format!(
                    "`{}` is recipe `{}`",
                    shown(words),
                    recipe.name.as_str()
                ));
                self.service(&recipe, &tool, subcommand, trail)
            }
            Matched::ShortLived(recipe, why) => {
                trail.why.push(why);
                short_lived(trail, recipe.name.as_str())
            }
            Matched::Several(recipe) => {
                trail
                    .why
                    .push(format!("`{}` runs several commands at once", shown(words)));
                several(trail, recipe.name.as_str(), recipe.name.as_str())
            }
            Matched::Nothing => {
                trail
                    .why
                    .push(format!("no recipe knows `{}`", shown(words)));
                self.generic(trail, Some(&tool))
            }
        }
    }

    /// What no recipe knows: it gets `PORT`, unless its name says that it only builds or checks.
    pub(super) fn generic(&self, mut trail: Trail, tool: Option<&Tool<'_>>) -> Detection {
        if let Some((_, name, _)) = &trail.script
            && is_chore(name)
        {
            trail
                .why
                .push(format!("a script called `{name}` is no server"));
            return short_lived(trail, GENERIC);
        }
        if let Some(flag) = tool.and_then(|tool| tool.args.first()).map(Word::as_str)
            && matches!(flag, "--help" | "--version")
        {
            trail.why.push(format!("`{flag}` starts no server"));
            return short_lived(trail, GENERIC);
        }
        let env = [EnvForm::named("PORT")];
        let mut plan = nothing(self.command.argv.len());
        let mut wish = self.wish_in_env(&env, &trail);
        if matches!(wish, Wish::None) {
            wish = self.wish_in_files(&[DOTENV.to_owned()], &env, &trail);
        }
        plan_env(&env, &trail, &mut plan);
        plan.own = wish.port();
        let name = tool.map_or_else(|| GENERIC.to_owned(), Tool::service_name);
        conclude(
            Detection {
                outcome: Outcome::Generic,
                plan,
                ..blank(trail, GENERIC, &name)
            },
            &wish,
        )
    }

    fn service(
        &self,
        recipe: &Recipe,
        tool: &Tool<'_>,
        subcommand: usize,
        trail: Trail,
    ) -> Detection {
        let rules = &recipe.port;
        // A recipe for any file names no service: two files of one package are two services.
        let any_file = recipe
            .matches
            .iter()
            .any(|table| table.file.iter().any(|file| file == "*"));
        let name = if any_file {
            tool.service_name()
        } else {
            recipe.name.as_str().to_owned()
        };
        let options = matching::sorted(recipe, tool);
        let found = in_arguments(rules, tool.args, &options, subcommand);
        let mut env = rules.env.clone();
        let mut plan = nothing(self.command.argv.len());
        let mut wish = Wish::None;
        let mut add = !rules.argv.is_empty();
        match &found {
            InArguments::At(place) => {
                add = place.origin == Origin::Script && rules.repeat == Repeat::LastWins;
                wish = wish_of(place.number, place.origin.into());
                plan.replace.extend(replace(place));
                // A positional word cannot be given a second time.
                add &= rules.argv.first().is_some_and(|form| form.flag.is_some());
            }
            InArguments::Variable { name, otherwise } => {
                let reads = [EnvForm::named(name)];
                wish = match (self.wish_in_env(&reads, &trail), otherwise) {
                    (Wish::None, Some(number)) => wish_of(*number, AskedFrom::Script),
                    (wish, _) => wish,
                };
                if EnvForm::try_from((*name).to_owned()).is_ok() && name.contains("PORT") {
                    let known = env.iter().any(|form| form.name == *name);
                    env.extend(reads.into_iter().filter(|_| !known));
                }
                add &= rules.argv.first().is_some_and(|form| form.flag.is_some());
            }
            InArguments::Unclear => wish = Wish::Own,
            InArguments::Taken => add = false,
            InArguments::Absent => {}
        }
        if matches!(wish, Wish::None) {
            let mut asked = env.clone();
            asked.extend(rules.asked_env.iter().cloned());
            wish = self.wish_in_env(&asked, &trail);
        }
        if matches!(wish, Wish::None) {
            wish = self.wish_in_files(&rules.dotenv, &env, &trail);
        }
        plan_env(&env, &trail, &mut plan);
        plan.own = wish
            .port()
            .or_else(|| rules.default.filter(|_| !rules.tell_default));
        if add && plan.replace.is_empty() {
            plan.insert = self.insert(recipe, tool, &options, &trail);
        }
        conclude(
            Detection {
                outcome: Outcome::Service,
                service_type: recipe.service_type.clone(),
                default_port: rules.default,
                intercept: match recipe.intercept {
                    InterceptRule::Preload => Intercept::Preload,
                    InterceptRule::Off => Intercept::Off,
                },
                plan,
                ..blank(trail, recipe.name.as_str(), &name)
            },
            &wish,
        )
    }

    /// Where the tool's port argument can be added: before its own `--`, else at the end of the command.
    fn insert(
        &self,
        recipe: &Recipe,
        tool: &Tool<'_>,
        options: &Options<'_>,
        trail: &Trail,
    ) -> Option<Insert> {
        if trail.tail.closed.is_some() {
            return None;
        }
        let (at, dashes) = match options.end.map(|end| tool.args[end].origin) {
            Some(Origin::Argv(at)) => (at, 0),
            Some(Origin::Script) => return None,
            None => (self.command.argv.len(), trail.tail.dashes),
        };
        Some(Insert {
            at,
            dashes,
            form: recipe.port.argv.first()?.clone(),
            with: recipe.port.with.clone(),
            strict: recipe.port.strict.clone(),
        })
    }
}

/// Sets these variables, or changes the words of the command that set them.
fn plan_env(forms: &[EnvForm], trail: &Trail, plan: &mut Plan) {
    for form in forms {
        match trail.assigned(&form.name) {
            None => plan.env_reaches |= trail.env_reaches(&form.name),
            Some(assignment) => match (assignment.origin, assignment.value.to_str()) {
                (Origin::Argv(at), Some(value)) if Number::parse(value).is_some() => {
                    plan.replace.push(Replace {
                        at,
                        before: format!("{}=", form.name),
                        after: String::new(),
                        is_argument: false,
                    });
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
        plan.env.push(form.clone());
    }
}

fn replace(place: &Place<'_>) -> Option<Replace> {
    match place.origin {
        Origin::Argv(at) => Some(Replace {
            at,
            before: place.before.to_owned(),
            after: place.after.to_owned(),
            is_argument: true,
        }),
        Origin::Script => None,
    }
}

/// A command that gets no port.
pub(super) fn short_lived(trail: Trail, recipe: &str) -> Detection {
    Detection {
        outcome: Outcome::ShortLived,
        intercept: Intercept::Off,
        ..blank(trail, recipe, recipe)
    }
}

pub(super) fn brings_own_run(mut trail: Trail) -> Detection {
    trail
        .why
        .push("the script runs `styxy run` itself".to_owned());
    Detection {
        outcome: Outcome::BringsOwnRun,
        intercept: Intercept::Off,
        ..blank(trail, GENERIC, GENERIC)
    }
}

/// Several commands at once: they are intercepted, and get neither flags nor a `PORT` to fight over.
pub(super) fn several(trail: Trail, recipe: &str, name: &str) -> Detection {
    blank(trail, recipe, name)
}

/// A plan that changes nothing.
pub(super) fn nothing(len: usize) -> Plan {
    Plan {
        len,
        ..Plan::default()
    }
}

/// A generic detection without a plan; the script's name, where there is a script, beats `name`.
fn blank(trail: Trail, recipe: &str, name: &str) -> Detection {
    let (package_dir, script): (Option<PathBuf>, Option<String>) = match trail.script {
        Some((dir, name, _)) => (Some(dir), Some(name)),
        None => (None, None),
    };
    Detection {
        outcome: Outcome::Generic,
        service_type: dev(),
        recipe: recipe.to_owned(),
        why: trail.why.iter().map(|why| escaped(why)).collect(),
        service_name: script.unwrap_or_else(|| name.to_owned()),
        package_dir,
        asked_port: None,
        default_port: None::<Port>,
        intercept: Intercept::Preload,
        plan: nothing(0),
    }
}

pub(super) fn is_styxy(word: &str) -> bool {
    matches!(program_name(word), "styxy" | "styx")
}

/// Scripts that people name like this build or check something; a server among them is found by its recipe.
fn is_chore(script: &str) -> bool {
    const CHORES: [&str; 15] = [
        "build",
        "lint",
        "format",
        "fmt",
        "typecheck",
        "type-check",
        "test",
        "tests",
        "check",
        "clean",
        "install",
        "prepare",
        "prebuild",
        "postinstall",
        "generate",
    ];
    CHORES.contains(&script.split([':', '.']).next().unwrap_or(script))
}
