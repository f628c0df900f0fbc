//! Deno: `deno task dev`, `deno run server.ts`, `deno serve app.ts`.

use serde_json::Value;

use super::{Step, as_program, script};
use crate::Project;
use crate::invocation::{Trail, Word};
use crate::options::Options;

const VALUE_FLAGS: [&str; 8] = [
    "-c",
    "--config",
    "--cwd",
    "-f",
    "--filter",
    "--import-map",
    "--env-file",
    "-L",
];

pub(super) fn deno(args: &[Word], trail: &mut Trail, project: &dyn Project) -> Step {
    let options = Options::leading(args, |flag| VALUE_FLAGS.contains(&flag));
    let rest = &args[options.rest(args)..];
    let Some((command, after)) = rest.split_first() else {
        return Step::ShortLived("`deno` alone reads from the terminal".to_owned());
    };
    match command.as_str() {
        "task" => task(after, trail, project),
        // Deno's own server: its flags stand before the file.
        "serve" => Step::Tool,
        "run" => {
            let options = Options::leading(after, |flag| VALUE_FLAGS.contains(&flag));
            run(&after[options.rest(after)..])
        }
        "x" => as_program(after),
        own if is_file(own) || own.starts_with("npm:") || own.contains("://") => run(rest),
        own => Step::ShortLived(format!("`deno {own}` starts no server")),
    }
}

/// `npm:vite` is the program of a package; anything else a file.
fn run(words: &[Word]) -> Step {
    match words.split_first() {
        Some((first, args)) => match first.as_str().strip_prefix("npm:") {
            Some(package) => {
                let mut all = vec![Word::script(package)];
                all.extend_from_slice(args);
                as_program(&all)
            }
            None => Step::Tool,
        },
        None => Step::ShortLived("`deno run` needs a file".to_owned()),
    }
}

fn task(args: &[Word], trail: &mut Trail, project: &dyn Project) -> Step {
    let options = Options::leading(args, |flag| VALUE_FLAGS.contains(&flag));
    if options.has(&["-r", "--recursive", "-f", "--filter"]) {
        return Step::Several("deno may run the task in several packages".to_owned());
    }
    if let Some(dir) = options.value(&["--cwd"]) {
        super::change_dir(trail, dir);
    }
    let Some((name, extra)) = args[options.rest(args)..].split_first() else {
        return Step::ShortLived("deno lists the tasks".to_owned());
    };
    for dir in trail.cwd.ancestors().take(64) {
        let mut texts = ["deno.json", "deno.jsonc"]
            .iter()
            .filter_map(|file| project.text(&dir.join(file)));
        if let Some(text) = texts.find_map(|text| task_in(&text, name.as_str())) {
            return Step::Script {
                dir: dir.to_owned(),
                name: name.as_str().to_owned(),
                text,
                extra: extra.to_vec(),
            };
        }
    }
    script(name.as_str(), extra.to_vec(), trail, project).unwrap_or_else(|| super::unknown(args))
}

/// A task's command, as a text or in an object; what is no plain JSON is not read.
fn task_in(text: &str, name: &str) -> Option<String> {
    let file: Value = serde_json::from_str(text).ok()?;
    let task = file.get("tasks")?.get(name)?;
    let command = task.as_str().or_else(|| task.get("command")?.as_str())?;
    Some(command.to_owned())
}

fn is_file(text: &str) -> bool {
    let ending = text.rsplit_once('.').map(|(_, ending)| ending);
    matches!(ending, Some("ts" | "tsx" | "js" | "jsx" | "mjs" | "mts"))
}
