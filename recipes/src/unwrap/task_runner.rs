//! Targets of `make`, `just`, `task` and `composer`, looked up in their files when they are simple.
//!
//! Nothing is expanded. A target with variables, parameters or text that only its tool understands stays unknown.

mod rule;

use std::path::{Path, PathBuf};

use self::rule::{Rule, composer_script};
use super::{Step, change_dir};
use crate::Project;
use crate::invocation::{Trail, Word, is_chore, shown};
use crate::options::Options;
use crate::words::assignment;

/// `make [NAME=VALUE]… TARGET`.
pub(super) fn make(args: &[Word], trail: &mut Trail, project: &dyn Project) -> Step {
    let options = Options::all(args, |flag| {
        matches!(
            flag,
            "-C" | "--directory" | "-f" | "--file" | "--makefile" | "-j" | "--jobs" | "-o" | "-W"
        )
    });
    if options.has(&[
        "-n",
        "--just-print",
        "--dry-run",
        "-q",
        "--question",
        "--version",
        "--help",
    ]) {
        return Step::ShortLived("`make` runs nothing".to_owned());
    }
    if let Some(dir) = options.value(&["-C", "--directory"]) {
        change_dir(trail, dir);
    }
    let mut targets = Vec::new();
    for &at in &options.positionals {
        match assignment(args[at].as_str()) {
            // A variable of the command line is in the environment of what the target runs.
            Some((name, value)) => trail.assign(name, value, args[at].origin),
            None => targets.push(args[at].as_str()),
        }
    }
    let file = match options.value(&["-f", "--file", "--makefile"]) {
        Some(file) => Some(trail.cwd.join(file)),
        None => first_file(
            &trail.cwd,
            &["GNUmakefile", "makefile", "Makefile"],
            project,
        ),
    };
    let target = match targets.as_slice() {
        [] => None,
        [target] => Some(*target),
        _ => return Step::Tool,
    };
    let text = file.and_then(|file| project.text(&file));
    let rule = text.and_then(|text| Rule::of_makefile(&text, target));
    found("make", target, rule, trail.cwd.clone(), trail)
}

/// `just RECIPE`.
pub(super) fn just(args: &[Word], trail: &mut Trail, project: &dyn Project) -> Step {
    const FILES: [&str; 3] = ["justfile", "Justfile", ".justfile"];
    let options = Options::all(args, |_| false);
    if options.has(&[
        "-l",
        "--list",
        "-n",
        "--dry-run",
        "--show",
        "-s",
        "--version",
        "--help",
    ]) {
        return Step::ShortLived("`just` runs nothing".to_owned());
    }
    let target = match options.positionals.as_slice() {
        [] => None,
        [at] => Some(args[*at].as_str()),
        _ => return Step::Tool,
    };
    if !options.flags.is_empty() {
        return Step::Tool;
    }
    let mut dirs = trail.cwd.ancestors().take(64);
    let file = dirs.find_map(|dir| first_file(dir, &FILES, project));
    let text = file.as_ref().and_then(|file| project.text(file));
    if text
        .as_ref()
        .is_some_and(|text| text.contains("set dotenv-load"))
    {
        trail.env_files.push(trail.cwd.join(".env"));
    }
    let rule = text.and_then(|text| Rule::of_justfile(&text, target));
    let dir = file.and_then(|file| file.parent().map(Path::to_owned));
    let dir = dir.unwrap_or_else(|| trail.cwd.clone());
    found("just", target, rule, dir, trail)
}

/// `task NAME` of go-task.
pub(super) fn task(args: &[Word], trail: &mut Trail, project: &dyn Project) -> Step {
    const FILES: [&str; 4] = [
        "Taskfile.yml",
        "taskfile.yml",
        "Taskfile.yaml",
        "taskfile.yaml",
    ];
    let [name] = args else {
        return Step::Tool;
    };
    if name.is_flag() {
        return Step::Tool;
    }
    let file = first_file(&trail.cwd, &FILES, project);
    let text = file.and_then(|file| project.text(&file));
    let rule = text.and_then(|text| Rule::of_taskfile(&text, name.as_str()));
    found("task", Some(name.as_str()), rule, trail.cwd.clone(), trail)
}

/// `composer run-script NAME` and `composer NAME`.
pub(super) fn composer(args: &[Word], trail: &mut Trail, project: &dyn Project) -> Step {
    let options = Options::leading(args, |flag| {
        matches!(flag, "-d" | "--working-dir" | "--timeout")
    });
    if let Some(dir) = options.value(&["-d", "--working-dir"]) {
        change_dir(trail, dir);
    }
    let rest = &args[options.rest(args)..];
    let rest = match rest.first().map(Word::as_str) {
        Some("run" | "run-script") => {
            let rest = &rest[1..];
            let flags = Options::leading(rest, |flag| flag == "--timeout").rest(rest);
            &rest[flags..]
        }
        _ => rest,
    };
    let Some((name, extra)) = rest.split_first() else {
        return Step::ShortLived("`composer` without a command prints help".to_owned());
    };
    let text = project.text(&trail.cwd.join("composer.json"));
    let Some(commands) = text.and_then(|text| composer_script(&text, name.as_str())) else {
        return Step::ShortLived(format!("`composer {}` starts no server", name.as_str()));
    };
    let dashes = extra.iter().position(|word| word.as_str() == "--");
    if commands.len() == 1 {
        trail.tail.needs_dashes(dashes.is_some());
    } else {
        trail
            .tail
            .close("composer appends words to each command of a script");
    }
    let extra = dashes.map_or(&[][..], |at| &extra[at + 1..]);
    Step::Script {
        dir: trail.cwd.clone(),
        name: name.as_str().to_owned(),
        text: commands.join(" && "),
        extra: extra.to_vec(),
    }
}

fn first_file(dir: &Path, names: &[&str], project: &dyn Project) -> Option<PathBuf> {
    names
        .iter()
        .map(|name| dir.join(name))
        .find(|path| project.exists(path))
}

/// What a target runs, else what its name says.
fn found(
    program: &str,
    target: Option<&str>,
    rule: Option<Rule>,
    dir: PathBuf,
    trail: &mut Trail,
) -> Step {
    if let Some(rule) = rule {
        trail.tail.close("a target hands no words on");
        return Step::Script {
            dir,
            name: rule.name,
            text: rule.text,
            extra: Vec::new(),
        };
    }
    match target {
        Some(target) if is_chore(target) => Step::ShortLived(format!(
            "a target called `{}` is no server",
            shown(&[Word::script(target)])
        )),
        _ => {
            trail
                .why
                .push(format!("what `{program}` runs is not told by its file"));
            Step::Tool
        }
    }
}
