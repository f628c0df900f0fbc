//! Wrappers with rules of their own: `env`, `cross-env`, `dotenv`, `env-cmd`, `sudo`, `nodemon`, `sh -c`.

use super::{Step, as_program, change_dir, lexically_joined};
use crate::Project;
use crate::invocation::{Origin, Trail, Word, program_name};
use crate::options::Options;
use crate::words::{self, Line, assignment};

/// `bunx`, `pnpx` and others that fetch a package and run its program.
pub(super) fn package_runner(args: &[Word], value_flags: &[&str], runner: &str) -> Step {
    let options = Options::leading(args, |flag| value_flags.contains(&flag));
    let rest = &args[options.rest(args)..];
    if rest.is_empty() {
        return Step::ShortLived(format!("`{runner}` without a command prints help"));
    }
    as_program(rest)
}

/// `env [-i] [-u NAME] [-C DIR] [NAME=VALUE]… COMMAND`.
pub(super) fn env(args: &[Word], trail: &mut Trail) -> Step {
    let options = Options::leading(args, |flag| {
        matches!(
            flag,
            "-u" | "--unset" | "-C" | "--chdir" | "-S" | "--split-string"
        )
    });
    if options
        .flags
        .iter()
        .any(|flag| flag.name.starts_with("-S") || flag.name == "--split-string")
    {
        return Step::Unknown("`env -S` splits a text by rules of its own".to_owned());
    }
    for flag in &options.flags {
        match (flag.name, flag.value) {
            ("-u" | "--unset", Some((_, _, name))) => trail.env_unset.push(name.to_owned()),
            ("-C" | "--chdir", Some((_, _, dir))) => change_dir(trail, dir),
            ("-i" | "--ignore-environment", _) => trail.env_cleared = true,
            (name, None) => trail
                .env_unset
                .extend(name.strip_prefix("-u").map(str::to_owned)),
            _ => {}
        }
    }
    let mut rest = &args[options.rest(args)..];
    if rest.first().is_some_and(|word| word.as_str() == "-") {
        trail.env_cleared = true;
        rest = &rest[1..];
    }
    after_assignments(rest, trail).map_or_else(
        || Step::ShortLived("`env` without a command prints the environment".to_owned()),
        Step::Peel,
    )
}

/// `cross-env NAME=VALUE… COMMAND`.
pub(super) fn cross_env(args: &[Word], trail: &mut Trail) -> Step {
    after_assignments(args, trail).map_or_else(
        || Step::ShortLived("`cross-env` without a command ends at once".to_owned()),
        Step::Peel,
    )
}

/// `dotenv [-e FILE]… [-v NAME=VALUE]… [--] COMMAND` sets the variables of its files that are not set, with `-o` all.
pub(super) fn dotenv(args: &[Word], trail: &mut Trail, project: &dyn Project) -> Step {
    const FILES: [&str; 5] = ["-e", "-f", "--file", "--env-file", "--env"];
    let options = Options::leading(args, |flag| {
        FILES.contains(&flag) || matches!(flag, "-c" | "-v" | "-p" | "--convention")
    });
    if options.has(&["-p", "--help", "--version"]) {
        return Step::ShortLived("`dotenv` prints".to_owned());
    }
    let given = options
        .flags
        .iter()
        .filter(|flag| FILES.contains(&flag.name));
    let mut files: Vec<&str> = given
        .filter_map(|flag| flag.value.map(|(_, _, file)| file))
        .collect();
    if files.is_empty() {
        files.push(".env");
    }
    // The first file that has a variable counts, and the last one of the trail.
    for file in files.into_iter().rev() {
        set_by_file(
            file,
            options.has(&["-o", "--override", "--overload"]),
            trail,
            project,
        );
    }
    for flag in options.flags.iter().filter(|flag| flag.name == "-v") {
        if let Some((at, 0, text)) = flag.value
            && let Some((name, value)) = assignment(text)
        {
            trail.assign(name, value, args[at].origin);
        }
    }
    behind(args, &options, "dotenv")
}

/// `env-cmd [-f FILE] COMMAND` sets all variables of its file, unless `--no-override` is given.
pub(super) fn env_cmd(args: &[Word], trail: &mut Trail, project: &dyn Project) -> Step {
    let options = Options::leading(args, |flag| {
        matches!(
            flag,
            "-f" | "--file" | "-e" | "--environments" | "-r" | "--rc-file"
        )
    });
    if !options.has(&["-e", "--environments", "-r", "--rc-file"]) {
        let file = options.value(&["-f", "--file"]).unwrap_or(".env");
        set_by_file(file, !options.has(&["--no-override"]), trail, project);
    }
    behind(args, &options, "env-cmd")
}

fn behind(args: &[Word], options: &Options<'_>, wrapper: &str) -> Step {
    match &args[options.rest(args)..] {
        [] => Step::ShortLived(format!("`{wrapper}` without a command ends at once")),
        rest => Step::Peel(rest.to_vec()),
    }
}

fn set_by_file(file: &str, overrides: bool, trail: &mut Trail, project: &dyn Project) {
    let path = lexically_joined(&trail.cwd, file);
    if !overrides {
        trail.env_files.push(path);
        return;
    }
    for line in project.text(&path).unwrap_or_default().lines() {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line);
        if let Some((name, value)) = assignment(line) {
            let value = value.trim().trim_matches(['"', '\'', '`']);
            trail.assign(name, value, Origin::Script);
        }
    }
}

/// `sudo [-E] [-u USER] [NAME=VALUE]… COMMAND`: the environment does not get through, unless `-E` is given.
pub(super) fn sudo(args: &[Word], trail: &mut Trail) -> Step {
    let options = Options::leading(args, |flag| {
        matches!(
            flag,
            "-u" | "--user"
                | "-g"
                | "--group"
                | "-h"
                | "--host"
                | "-p"
                | "-D"
                | "--chdir"
                | "-C"
                | "-T"
        )
    });
    if options.has(&[
        "-e",
        "--edit",
        "-l",
        "--list",
        "-v",
        "-k",
        "-V",
        "--version",
        "--help",
    ]) {
        return Step::ShortLived("`sudo` runs nothing".to_owned());
    }
    if let Some(dir) = options.value(&["-D", "--chdir"]) {
        change_dir(trail, dir);
    }
    trail.env_cleared |= !options.has(&["-E", "--preserve-env"]);
    after_assignments(&args[options.rest(args)..], trail).map_or_else(
        || Step::Unknown("`sudo` starts a shell".to_owned()),
        Step::Peel,
    )
}

fn after_assignments(words: &[Word], trail: &mut Trail) -> Option<Vec<Word>> {
    let is_assignment = |word: &Word| word.text.as_encoded_bytes().contains(&b'=');
    let at = words.iter().position(|word| !is_assignment(word))?;
    for word in &words[..at] {
        if let Some((name, value)) = assignment(word.as_str()) {
            trail.assign(name, value, word.origin);
        }
    }
    Some(words[at..].to_vec())
}

/// `sh -c TEXT`. A script file or an interactive shell is unknown.
pub(super) fn shell(args: &[Word]) -> Step {
    let mut at = 0;
    while let Some(word) = args.get(at).filter(|word| word.is_flag()) {
        let text = word.as_str();
        at += 1;
        if matches!(text, "-o" | "-O" | "--rcfile" | "--init-file") {
            at += 1;
        } else if !text.starts_with("--") && text.ends_with('c') {
            return match args.get(at) {
                Some(text) => Step::Shell(text.as_str().to_owned()),
                None => Step::Tool,
            };
        }
    }
    Step::Tool
}

/// nodemon runs a file with the program for its ending, or the command of `--exec`, and restarts it.
pub(super) fn nodemon(args: &[Word], trail: &mut Trail) -> Step {
    let options = Options::leading(args, |flag| {
        matches!(
            flag,
            "-w" | "--watch"
                | "-e"
                | "--ext"
                | "-i"
                | "--ignore"
                | "-x"
                | "--exec"
                | "-d"
                | "--delay"
                | "--config"
                | "--cwd"
                | "-s"
                | "--signal"
                | "-r"
                | "--require"
        )
    });
    if options.has(&["-h", "--help", "-v", "--version"]) {
        return Step::ShortLived("nodemon starts nothing".to_owned());
    }
    if let Some(dir) = options.value(&["--cwd"]) {
        change_dir(trail, dir);
    }
    let rest = &args[options.rest(args)..];
    if let Some(text) = options.value(&["-x", "--exec"]) {
        return match words::split(text) {
            Line::Commands(commands) if commands.len() == 1 => {
                let mut words = trail.enter(&commands[0]);
                words.extend_from_slice(rest);
                Step::Peel(words)
            }
            _ => Step::Unknown("nodemon runs a compound command".to_owned()),
        };
    }
    let Some(file) = rest.first() else {
        return Step::Unknown("nodemon runs the package's main file".to_owned());
    };
    let program = match program_name(file.as_str())
        .rsplit_once('.')
        .map(|(_, ending)| ending)
    {
        Some("py") => "python3",
        Some("ts" | "tsx" | "mts") => "ts-node",
        Some("rb") => "ruby",
        _ => "node",
    };
    let mut words = vec![Word::script(program)];
    words.extend_from_slice(rest);
    Step::Peel(words)
}
