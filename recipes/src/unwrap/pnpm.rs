//! pnpm: everything after the script's name goes to the script, a `--` too.

use super::{Step, as_program, change_dir, nearest, script, unknown};
use crate::Project;
use crate::invocation::{Trail, Word};
use crate::options::Options;

const VALUE_FLAGS: [&str; 10] = [
    "-C",
    "--dir",
    "-F",
    "--filter",
    "--filter-prod",
    "--loglevel",
    "--reporter",
    "--workspace-concurrency",
    "--package",
    "--config",
];

/// Commands of pnpm, and of npm that it hands on. `start`, `test` and unknown words are scripts.
const OWN_COMMANDS: [&str; 62] = [
    "add",
    "install",
    "i",
    "ci",
    "remove",
    "rm",
    "uninstall",
    "un",
    "update",
    "up",
    "upgrade",
    "link",
    "ln",
    "unlink",
    "import",
    "rebuild",
    "rb",
    "prune",
    "fetch",
    "audit",
    "list",
    "ls",
    "ll",
    "la",
    "outdated",
    "why",
    "licenses",
    "publish",
    "pack",
    "deploy",
    "dedupe",
    "doctor",
    "store",
    "root",
    "bin",
    "setup",
    "init",
    "create",
    "config",
    "c",
    "env",
    "patch",
    "patch-commit",
    "self-update",
    "approve-builds",
    "cache",
    "help",
    "access",
    "bugs",
    "docs",
    "info",
    "login",
    "logout",
    "owner",
    "ping",
    "pkg",
    "repo",
    "search",
    "show",
    "version",
    "view",
    "whoami",
];

pub(super) fn pnpm(args: &[Word], trail: &mut Trail, project: &dyn Project) -> Step {
    let options = Options::leading(args, |flag| VALUE_FLAGS.contains(&flag));
    let rest = &args[options.rest(args)..];
    let Some((command, after)) = rest.split_first() else {
        return Step::ShortLived("pnpm without a command prints help".to_owned());
    };
    if let Some(step) = choose_package(&options, trail, project) {
        return step;
    }
    match command.as_str() {
        "run" | "run-script" => {
            let options = Options::leading(after, |flag| VALUE_FLAGS.contains(&flag));
            if let Some(step) = choose_package(&options, trail, project) {
                return step;
            }
            match after[options.rest(after)..].split_first() {
                Some((name, extra)) => script(name.as_str(), extra.to_vec(), trail, project)
                    .unwrap_or_else(|| unknown(args)),
                None => Step::ShortLived("pnpm lists the scripts".to_owned()),
            }
        }
        "exec" | "dlx" => {
            let options = Options::leading(after, |flag| VALUE_FLAGS.contains(&flag));
            if options.has(&["-c", "--shell-mode"]) {
                return Step::Unknown("pnpm hands the command to a shell".to_owned());
            }
            as_program(&after[options.rest(after)..])
        }
        own if OWN_COMMANDS.contains(&own) => {
            Step::ShortLived(format!("`pnpm {own}` starts no server"))
        }
        // A script, else a program of the package.
        name => {
            let name = if name == "t" { "test" } else { name };
            script(name, after.to_vec(), trail, project).unwrap_or_else(|| as_program(rest))
        }
    }
}

const FILTERS: [&str; 3] = ["-F", "--filter", "--filter-prod"];

/// Goes where `-C` and `--filter` point; a step if that is not one directory.
fn choose_package(options: &Options<'_>, trail: &mut Trail, project: &dyn Project) -> Option<Step> {
    if let Some(dir) = options.value(&["-C", "--dir"]) {
        change_dir(trail, dir);
    }
    if options.has(&["-r", "--recursive", "--parallel"]) {
        return Some(Step::Several(
            "pnpm runs the script in every package".to_owned(),
        ));
    }
    if options.has(&["-w", "--workspace-root"]) {
        trail.cwd = workspace_root(trail, project);
    }
    let filter = options.value(&FILTERS)?;
    let given = options
        .flags
        .iter()
        .filter(|flag| FILTERS.contains(&flag.name))
        .count();
    if given > 1 || filter.contains(['*', '!', '[', '{']) || filter.contains("...") {
        return Some(Step::Several(
            "the filter of pnpm may choose several packages".to_owned(),
        ));
    }
    let root = workspace_root(trail, project);
    match project.workspace_package(&root, filter) {
        Some(dir) => {
            trail
                .why
                .push(format!("package `{filter}` is in `{}`", dir.display()));
            trail.cwd = dir;
            None
        }
        None => Some(Step::Unknown(format!(
            "there is no package `{filter}` in the workspace"
        ))),
    }
}

fn workspace_root(trail: &Trail, project: &dyn Project) -> std::path::PathBuf {
    let mut dirs = trail.cwd.ancestors().take(64);
    dirs.find(|dir| project.exists(&dir.join("pnpm-workspace.yaml")))
        .map(std::path::Path::to_owned)
        .or_else(|| nearest(&trail.cwd, project).map(|(dir, _)| dir))
        .unwrap_or_else(|| trail.cwd.clone())
}
