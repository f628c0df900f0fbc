//! Wrappers that run the words after them: `env`, `cross-env`, `timeout`, `nohup`, `nodemon`, `sh -c` and their like.

use super::{Step, as_program, change_dir};
use crate::invocation::{Trail, Word, program_name};
use crate::options::Options;
use crate::words::{self, Line, assignment};

/// How much a plain wrapper takes before the command.
struct Plain {
    program: &'static str,
    /// Words before the wrapper's flags, such as `run` of `poetry run`.
    subcommand: &'static str,
    value_flags: &'static [&'static str],
    /// Words after its flags, such as the duration of `timeout`.
    takes: usize,
}

const fn wrapper(
    program: &'static str,
    subcommand: &'static str,
    value_flags: &'static [&'static str],
    takes: usize,
) -> Plain {
    Plain {
        program,
        subcommand,
        value_flags,
        takes,
    }
}

const PLAIN: [Plain; 17] = [
    wrapper("exec", "", &["-a"], 0),
    wrapper("command", "", &[], 0),
    wrapper("nohup", "", &[], 0),
    wrapper("time", "", &["-f", "--format", "-o", "--output"], 0),
    wrapper("timeout", "", &["-s", "--signal", "-k", "--kill-after"], 1),
    wrapper("nice", "", &["-n", "--adjustment"], 0),
    wrapper("ionice", "", &["-c", "--class", "-n", "--classdata"], 0),
    wrapper(
        "stdbuf",
        "",
        &["-i", "-o", "-e", "--input", "--output", "--error"],
        0,
    ),
    wrapper("dotenv", "", &["-e", "-c", "-v", "-p"], 0),
    wrapper(
        "env-cmd",
        "",
        &["-f", "--file", "-e", "--environments", "-r", "--rc-file"],
        0,
    ),
    wrapper("poetry", "run", &[], 0),
    wrapper("pipenv", "run", &[], 0),
    wrapper("pdm", "run", &["-p", "--project"], 0),
    wrapper("rye", "run", &[], 0),
    wrapper("hatch", "run", &[], 0),
    wrapper(
        "uv",
        "run",
        &[
            "--with",
            "--with-editable",
            "--with-requirements",
            "-p",
            "--python",
            "--extra",
            "--group",
            "--only-group",
            "--env-file",
            "--package",
            "--project",
            "--directory",
            "--index",
        ],
        0,
    ),
    wrapper("bundle", "exec", &[], 0),
];

/// A wrapper of the table, else the tool itself.
pub(super) fn plain(program: &str, args: &[Word]) -> Step {
    let Some(wrapper) = PLAIN.iter().find(|wrapper| wrapper.program == program) else {
        return Step::Tool;
    };
    let args = if wrapper.subcommand.is_empty() {
        args
    } else {
        match args.split_first() {
            Some((first, rest)) if first.as_str() == wrapper.subcommand => rest,
            Some((first, _)) if !first.is_flag() => {
                return Step::ShortLived(format!(
                    "`{program} {}` starts no server",
                    first.as_str()
                ));
            }
            _ => return Step::Tool,
        }
    };
    let options = Options::leading(args, |flag| wrapper.value_flags.contains(&flag));
    // `uv run -m module` and the like are not a command.
    if options.has(&["-m", "--module", "--help", "--version"]) {
        return Step::Tool;
    }
    match args.get(options.rest(args) + wrapper.takes..) {
        Some(rest) if !rest.is_empty() => Step::Peel(rest.to_vec()),
        _ => Step::Tool,
    }
}

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
