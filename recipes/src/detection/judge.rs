//! The verdict on a tool that was reached: recipe, wish of the user, and the plan for its port.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use styxy_protocol::Port;

use super::wish::{Wish, conclude};
use super::{Detection, Intercept, Outcome, ToolFacts, dev};
use crate::invocation::{Trail, Word, escaped, is_chore, program_name, shown};
use crate::matching::{self, Matched, Surroundings};
use crate::plan::Plan;
use crate::schema::{EnvForm, Manifest};
use crate::tool::Tool;
use crate::{Catalog, Command, Project, unwrap};

/// The name of what no recipe knows.
const GENERIC: &str = "generic";

/// Where programs that nobody knows may have their variables from.
const DOTENV: &str = ".env";
/// How far above the working directory a project's files are looked for.
const LEVELS: usize = 16;

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
        let manifests = Manifests {
            project: self.project,
            dir: &cwd,
            read: RefCell::default(),
        };
        let script = trail.script.as_ref();
        let around = Surroundings {
            package: &|| unwrap::nearest(&cwd, self.project).map(|(_, package)| package),
            manifest: &|manifest| manifests.has(manifest),
            script: script.map(|(_, _, text)| text.as_str()),
            is_chore: script.is_some_and(|(_, name, _)| is_chore(name)),
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
                Detection {
                    service_type: recipe.service_type.clone(),
                    facts: ToolFacts::of(&recipe),
                    ..several(trail, recipe.name.as_str(), recipe.name.as_str())
                }
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
            wish = self.wish_in_files(&[DOTENV], &env, &trail);
        }
        self.plan_env(&env, &trail, &mut plan);
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
}

/// The files that tell what kind of project it is, each read at most once.
struct Manifests<'a> {
    project: &'a dyn Project,
    dir: &'a Path,
    /// What they say in lower case; `None` for one that is not there.
    read: RefCell<HashMap<String, Option<String>>>,
}

impl Manifests<'_> {
    fn has(&self, manifest: &Manifest) -> bool {
        let mut dirs = self.dir.ancestors().take(LEVELS);
        let Some(text) = &manifest.text else {
            return dirs.any(|dir| self.project.exists(&dir.join(&manifest.file)));
        };
        let mut read = self.read.borrow_mut();
        let found = read.entry(manifest.file.clone()).or_insert_with(|| {
            let text = dirs.find_map(|dir| self.project.text(&dir.join(&manifest.file)));
            text.map(|text| text.to_ascii_lowercase())
        });
        found.as_ref().is_some_and(|found| found.contains(text))
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
pub(super) fn blank(trail: Trail, recipe: &str, name: &str) -> Detection {
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
        is_by_project: false,
        extra_ports: Vec::new(),
        intercept: Intercept::Preload,
        facts: ToolFacts::default(),
        plan: nothing(0),
    }
}

pub(super) fn is_styxy(word: &str) -> bool {
    matches!(program_name(word), "styxy" | "styx")
}
