//! Takes off, one at a time, what stands in front of a tool: package managers, `env`, interpreters, shells.
//!
//! Each step only reads; the words that remain keep their places in the user's command line.

mod bun;
mod deno;
mod interpreter;
mod npm;
mod pnpm;
mod prefix;
mod task_runner;
mod wrapper;
mod yarn;

use std::path::{Path, PathBuf};

pub(crate) use interpreter::{
    is_python, node_takes_value, php_takes_value, python_takes_value, ruby_takes_value, runs_files,
};

use crate::invocation::{Trail, Word, program_name, shown};
use crate::{Package, Project};

/// What stands first in a command.
#[derive(Debug)]
pub(crate) enum Step {
    /// The tool itself.
    Tool,
    /// A wrapper around these words.
    Peel(Vec<Word>),
    /// A script of a package, with words that are appended to it.
    Script {
        dir: PathBuf,
        name: String,
        text: String,
        extra: Vec<Word>,
    },
    /// A command line for a shell.
    Shell(String),
    /// No service, for this reason.
    ShortLived(String),
    /// Several commands at once, for this reason.
    Several(String),
    /// Known to be unknowable, for this reason.
    Unknown(String),
}

/// The next step for `words`, which are not empty.
pub(crate) fn step(words: &[Word], trail: &mut Trail, project: &dyn Project) -> Step {
    let Some(first) = words.first() else {
        return Step::Unknown("there is no command".to_owned());
    };
    let args = &words[1..];
    match program_name(first.as_str()) {
        "npm" => npm::npm(args, trail, project),
        "npx" => npm::npx(args, trail),
        "pnpm" => pnpm::pnpm(args, trail, project),
        "pnpx" => prefix::package_runner(args, &["-p", "--package"], "pnpx"),
        "yarn" | "yarnpkg" => yarn::yarn(args, trail, project),
        "bun" => bun::bun(args, trail, project),
        "bunx" => prefix::package_runner(args, &["-p", "--package"], "bunx"),
        "deno" => deno::deno(args, trail, project),
        "node" => interpreter::node(words, trail, project),
        "ruby" | "jruby" => interpreter::ruby(words),
        program if is_python(program) => interpreter::python(words),
        "nodemon" => prefix::nodemon(args, trail),
        "env" => prefix::env(args, trail),
        "cross-env" | "cross-env-shell" => prefix::cross_env(args, trail),
        "dotenv" => prefix::dotenv(args, trail, project),
        "env-cmd" => prefix::env_cmd(args, trail, project),
        "sudo" | "doas" => prefix::sudo(args, trail),
        "sh" | "bash" | "dash" | "zsh" | "ash" => prefix::shell(args),
        "uvx" => wrapper::uvx(args),
        "pipx" => match args.split_first() {
            Some((first, rest)) if first.as_str() == "run" => wrapper::uvx(rest),
            _ => Step::ShortLived("`pipx` starts no server".to_owned()),
        },
        program @ ("nix" | "nix-shell") => wrapper::nix(program, args),
        "cargo" => interpreter::cargo(args),
        "make" | "gmake" => task_runner::make(args, trail, project),
        "just" => task_runner::just(args, trail, project),
        "task" | "go-task" => task_runner::task(args, trail, project),
        "composer" => task_runner::composer(args, trail, project),
        program => wrapper::plain_wrapper(program, args, trail),
    }
}

/// The nearest package at or above a directory.
pub(crate) fn nearest(dir: &Path, project: &dyn Project) -> Option<(PathBuf, Package)> {
    dir.ancestors()
        .take(64)
        .find_map(|dir| Some((dir.to_owned(), project.package(dir)?)))
}

/// The directory of the workspaces' root package at or above a directory, else of the nearest package.
fn workspace_root(dir: &Path, project: &dyn Project) -> PathBuf {
    let is_root = |dir: &&Path| {
        project
            .package(dir)
            .is_some_and(|package| package.has_workspaces)
    };
    match dir.ancestors().take(64).find(is_root) {
        Some(root) => root.to_owned(),
        None => nearest(dir, project).map_or_else(|| dir.to_owned(), |(dir, _)| dir),
    }
}

/// The script `name` of the package at or above the working directory.
fn script(name: &str, extra: Vec<Word>, trail: &Trail, project: &dyn Project) -> Option<Step> {
    let (dir, package) = nearest(&trail.cwd, project)?;
    let text = package.script(name)?.to_owned();
    Some(Step::Script {
        dir,
        name: name.to_owned(),
        text,
        extra,
    })
}

/// The words with the first one, a package such as `@scope/tool@latest`, replaced by its program.
fn as_program(words: &[Word]) -> Step {
    let Some((package, args)) = words.split_first() else {
        return Step::ShortLived("no command is given".to_owned());
    };
    let text = package.as_str();
    let is_path = text.starts_with(['.', '/']);
    let unversioned = match text.get(1..).and_then(|rest| rest.find('@')) {
        Some(at) if !is_path => &text[..=at],
        _ => text,
    };
    let program = program_name(unversioned);
    let mut all = vec![if program == text {
        package.clone()
    } else {
        Word::script(program)
    }];
    all.extend_from_slice(args);
    Step::Peel(all)
}

fn unknown(words: &[Word]) -> Step {
    Step::Unknown(format!("`{}` names no script that is known", shown(words)))
}

/// `dir` as seen from the working directory.
fn change_dir(trail: &mut Trail, dir: &str) {
    trail.cwd = lexically_joined(&trail.cwd, dir);
}

/// Joins and removes `.` and `..` by name, so that `cd ..` finds the parent's `package.json`.
pub(crate) fn lexically_joined(base: &Path, dir: &str) -> PathBuf {
    use std::path::Component;
    let mut joined = base.to_owned();
    for component in Path::new(dir).components() {
        match component {
            Component::ParentDir => {
                joined.pop();
            }
            Component::CurDir => {}
            component => joined.push(component),
        }
    }
    joined
}
