//! Bun as package manager and as runtime: `bun run dev`, `bun dev`, `bun server.ts`, `bun x tool`.

use super::{Step, as_program, change_dir, script};
use crate::Project;
use crate::invocation::{Trail, Word};
use crate::options::Options;

const VALUE_FLAGS: [&str; 14] = [
    "--cwd",
    "-F",
    "--filter",
    "--env-file",
    "-r",
    "--preload",
    "--require",
    "--import",
    "-c",
    "--config",
    "-e",
    "--eval",
    "-p",
    "--print",
];

/// Commands of Bun that are neither scripts nor servers.
const OWN_COMMANDS: [&str; 24] = [
    "install", "i", "add", "a", "remove", "rm", "update", "outdated", "link", "unlink", "publish",
    "patch", "pm", "build", "init", "create", "c", "upgrade", "test", "repl", "audit", "info",
    "why", "ci",
];

pub(super) fn bun(args: &[Word], trail: &mut Trail, project: &dyn Project) -> Step {
    let options = Options::leading(args, |flag| VALUE_FLAGS.contains(&flag));
    if let Some(step) = look_around(&options, trail) {
        return step;
    }
    let rest = &args[options.rest(args)..];
    let Some((command, after)) = rest.split_first() else {
        return Step::ShortLived("`bun` alone prints help".to_owned());
    };
    match command.as_str() {
        "run" => {
            let options = Options::leading(after, |flag| VALUE_FLAGS.contains(&flag));
            if let Some(step) = look_around(&options, trail) {
                return step;
            }
            run(&after[options.rest(after)..], trail, project)
        }
        "x" => super::prefix::package_runner(after, &["-p", "--package"], "bun x"),
        "exec" => match after.first() {
            Some(text) => Step::Shell(text.as_str().to_owned()),
            None => Step::ShortLived("no command is given".to_owned()),
        },
        own if OWN_COMMANDS.contains(&own) => {
            Step::ShortLived(format!("`bun {own}` starts no server"))
        }
        _ => run(rest, trail, project),
    }
}

/// What flags before the command say; a step if it is not one script.
fn look_around(options: &Options<'_>, trail: &mut Trail) -> Option<Step> {
    if let Some(dir) = options.value(&["--cwd"]) {
        change_dir(trail, dir);
    }
    if options.has(&["-F", "--filter", "--workspaces"]) {
        return Some(Step::Several(
            "bun may run the script in several packages".to_owned(),
        ));
    }
    options
        .has(&["-e", "--eval", "-p", "--print"])
        .then(|| Step::Unknown("bun runs a text, not a file".to_owned()))
}

/// A script, else a file, else a program of the package.
fn run(words: &[Word], trail: &mut Trail, project: &dyn Project) -> Step {
    let Some((name, extra)) = words.split_first() else {
        return Step::ShortLived("bun lists the scripts".to_owned());
    };
    if let Some(step) = script(name.as_str(), extra.to_vec(), trail, project) {
        // Seen with 1.4: in its scripts `npm run x` is `bun run x`.
        trail.tail.within_bun = true;
        return step;
    }
    let text = name.as_str();
    let is_file = [
        ".ts", ".tsx", ".js", ".jsx", ".mjs", ".cjs", ".mts", ".html",
    ]
    .iter()
    .any(|ending| text.ends_with(ending));
    if is_file || project.exists(&trail.cwd.join(text)) {
        return Step::Tool;
    }
    as_program(words)
}
