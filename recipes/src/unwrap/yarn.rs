//! Yarn 1 and later. Everything after the script's name goes to the script; Yarn 1 drops a first `--`.

use super::{Step, as_program, change_dir, nearest, script, unknown, workspace_root};
use crate::Project;
use crate::invocation::{Trail, Word};
use crate::options::Options;

const VALUE_FLAGS: [&str; 4] = ["--cwd", "--use-yarnrc", "--cache-folder", "--registry"];

/// Commands of Yarn that are no scripts.
const OWN_COMMANDS: [&str; 32] = [
    "add",
    "install",
    "remove",
    "upgrade",
    "up",
    "upgrade-interactive",
    "init",
    "create",
    "link",
    "unlink",
    "pack",
    "publish",
    "audit",
    "cache",
    "config",
    "info",
    "list",
    "outdated",
    "why",
    "version",
    "versions",
    "login",
    "logout",
    "set",
    "plugin",
    "rebuild",
    "dedupe",
    "patch",
    "global",
    "autoclean",
    "constraints",
    "help",
];

pub(super) fn yarn(args: &[Word], trail: &mut Trail, project: &dyn Project) -> Step {
    let options = Options::leading(args, |flag| VALUE_FLAGS.contains(&flag));
    if let Some(dir) = options.value(&["--cwd"]) {
        change_dir(trail, dir);
    }
    let rest = &args[options.rest(args)..];
    let Some((command, after)) = rest.split_first() else {
        return Step::ShortLived("`yarn` alone installs".to_owned());
    };
    match command.as_str() {
        "run" => {
            let options = Options::leading(after, |flag| VALUE_FLAGS.contains(&flag));
            match after[options.rest(after)..].split_first() {
                Some((name, extra)) => run(name, extra, trail, project).unwrap_or_else(|| {
                    let words = &after[options.rest(after)..];
                    as_program(words)
                }),
                None => Step::ShortLived("yarn lists the scripts".to_owned()),
            }
        }
        "dlx" | "exec" => {
            let options = Options::leading(after, |flag| matches!(flag, "-p" | "--package"));
            if command.as_str() == "exec" && options.end.is_none() {
                trail
                    .tail
                    .close("Yarn 1 keeps flags of `yarn exec` to itself");
            }
            as_program(&after[options.rest(after)..])
        }
        "node" => {
            let mut words = vec![Word::script("node")];
            words.extend_from_slice(after);
            Step::Peel(words)
        }
        "workspace" => match after.split_first() {
            Some((name, inner)) => workspace(name.as_str(), inner, trail, project),
            None => unknown(args),
        },
        "workspaces" => Step::Several("yarn runs the script in every workspace".to_owned()),
        own if OWN_COMMANDS.contains(&own) => {
            Step::ShortLived(format!("`yarn {own}` starts no server"))
        }
        // A script, else a program of the package.
        _ => run(command, after, trail, project).unwrap_or_else(|| as_program(rest)),
    }
}

fn run(name: &Word, extra: &[Word], trail: &mut Trail, project: &dyn Project) -> Option<Step> {
    let (_, package) = nearest(&trail.cwd, project)?;
    let keeps_dashes = package
        .package_manager
        .is_some_and(|manager| manager.starts_with("yarn@") && !manager.starts_with("yarn@1"));
    let extra = match extra.split_first() {
        Some((first, rest)) if first.as_str() == "--" && !keeps_dashes => rest,
        _ => extra,
    };
    trail.tail.drops_dashes = true;
    script(name.as_str(), extra.to_vec(), trail, project)
}

/// `yarn workspace NAME …` is `yarn …` in that package.
fn workspace(name: &str, inner: &[Word], trail: &mut Trail, project: &dyn Project) -> Step {
    let root = workspace_root(&trail.cwd, project);
    match project.workspace_package(&root, name) {
        Some(dir) => {
            trail
                .why
                .push(format!("workspace `{name}` is in `{}`", dir.display()));
            trail.cwd = dir;
            let mut words = vec![Word::script("yarn")];
            words.extend_from_slice(inner);
            Step::Peel(words)
        }
        None => Step::Unknown(format!("there is no workspace `{name}`")),
    }
}
