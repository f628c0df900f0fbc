//! npm and npx. npm itself takes every flag before `--`, wherever it stands; what follows `--` goes to the script.

use super::{Step, as_program, change_dir, script, unknown, workspace_root};
use crate::Project;
use crate::invocation::{Trail, Word};
use crate::options::Options;

const VALUE_FLAGS: [&str; 13] = [
    "-w",
    "--workspace",
    "-C",
    "--prefix",
    "--loglevel",
    "--registry",
    "--cache",
    "--userconfig",
    "--script-shell",
    "-c",
    "--call",
    "-p",
    "--package",
];

pub(super) fn npm(args: &[Word], trail: &mut Trail, project: &dyn Project) -> Step {
    let options = Options::all(args, |flag| VALUE_FLAGS.contains(&flag));
    let Some(&command_at) = options.positionals.first() else {
        return Step::ShortLived("npm without a command prints help".to_owned());
    };
    if let Some(dir) = options.value(&["-C", "--prefix"]) {
        change_dir(trail, dir);
    }
    let command = args[command_at].as_str();
    let mut named = options.positionals[1..].iter().map(|&at| args[at].clone());
    let after: &[Word] = options.end.map_or(&[], |end| &args[end + 1..]);
    let name = match command {
        "run" | "run-script" | "rum" | "urn" => match named.next() {
            Some(name) => name.as_str().to_owned(),
            None => return Step::ShortLived("npm lists the scripts".to_owned()),
        },
        "start" | "stop" | "restart" | "test" => command.to_owned(),
        "t" | "tst" => "test".to_owned(),
        "exec" | "x" => {
            if let Some(text) = options.value(&["-c", "--call"]) {
                return Step::Shell(text.to_owned());
            }
            let mut words: Vec<Word> = named.collect();
            words.extend_from_slice(after);
            trail.tail.needs_dashes(options.end.is_some());
            return as_program(&words);
        }
        _ => return Step::ShortLived(format!("`npm {command}` starts no server")),
    };
    if options.has(&["--workspaces", "--ws", "-ws"]) {
        return Step::Several("npm runs the script in every workspace".to_owned());
    }
    if let Some(step) = enter_workspace(&options, trail, project) {
        return step;
    }
    let mut extra: Vec<Word> = named.collect();
    extra.extend_from_slice(after);
    trail.tail.needs_dashes(options.end.is_some());
    match script(&name, extra.clone(), trail, project) {
        Some(step) => step,
        // npm's own default for a package without the script.
        None if name == "start" && project.exists(&trail.cwd.join("server.js")) => {
            let mut words = vec![Word::script("node"), Word::script("server.js")];
            words.append(&mut extra);
            Step::Peel(words)
        }
        None => unknown(args),
    }
}

/// Goes to the workspace that `-w` names; a step if that is not one directory.
fn enter_workspace(
    options: &Options<'_>,
    trail: &mut Trail,
    project: &dyn Project,
) -> Option<Step> {
    const NAMES: [&str; 2] = ["-w", "--workspace"];
    let given = options
        .flags
        .iter()
        .filter(|flag| NAMES.contains(&flag.name))
        .count();
    let workspace = options.value(&NAMES)?;
    if given > 1 {
        return Some(Step::Several(
            "npm runs the script in several workspaces".to_owned(),
        ));
    }
    let root = workspace_root(&trail.cwd, project);
    match project.workspace_package(&root, workspace) {
        Some(dir) => {
            trail
                .why
                .push(format!("workspace `{workspace}` is in `{}`", dir.display()));
            trail.cwd = dir;
            None
        }
        None => Some(Step::Unknown(format!(
            "there is no workspace `{workspace}`"
        ))),
    }
}

/// npx passes on everything after the name of the package.
pub(super) fn npx(args: &[Word], trail: &mut Trail) -> Step {
    let options = Options::leading(args, |flag| VALUE_FLAGS.contains(&flag));
    if let Some(text) = options.value(&["-c", "--call"]) {
        return Step::Shell(text.to_owned());
    }
    if options.has(&["-w", "--workspace", "--workspaces", "-ws"]) {
        trail.tail.close("npx runs it in a workspace");
    }
    as_program(&args[options.rest(args)..])
}
