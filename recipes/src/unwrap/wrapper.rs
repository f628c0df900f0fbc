//! Wrappers that take some words of their own and run the rest: `timeout 60 …`, `uv run …`, `aws-vault exec me -- …`.

use super::{Step, as_program};
use crate::invocation::{Trail, Word};
use crate::options::Options;

/// How much a wrapper takes before the command.
struct Wrapper {
    program: &'static str,
    /// Words of which one stands before the wrapper's flags, such as `run` of `poetry run`; none means that there is
    /// no such word.
    subcommands: &'static [&'static str],
    value_flags: &'static [&'static str],
    /// What stands after its flags, such as the duration of `timeout`.
    takes: Takes,
}

/// Words between a wrapper's flags and its command.
#[derive(Clone, Copy)]
enum Takes {
    /// So many; a `--` behind them is skipped.
    Words(usize),
    /// All up to `--`.
    UntilDashes,
}

const fn plain(program: &'static str, value_flags: &'static [&'static str]) -> Wrapper {
    taking(program, value_flags, 0)
}

const fn taking(
    program: &'static str,
    value_flags: &'static [&'static str],
    words: usize,
) -> Wrapper {
    Wrapper {
        program,
        subcommands: &[],
        value_flags,
        takes: Takes::Words(words),
    }
}

const fn runner(
    program: &'static str,
    subcommands: &'static [&'static str],
    value_flags: &'static [&'static str],
) -> Wrapper {
    Wrapper {
        program,
        subcommands,
        value_flags,
        takes: Takes::Words(0),
    }
}

impl Wrapper {
    const fn takes(mut self, takes: Takes) -> Self {
        self.takes = takes;
        self
    }
}

const UV_FLAGS: &[&str] = &[
    "--with",
    "--with-editable",
    "--with-requirements",
    "-p",
    "--python",
    "--extra",
    "--group",
    "--only-group",
    "--no-group",
    "--env-file",
    "--package",
    "--project",
    "--directory",
    "--index",
    "--from",
];

const WRAPPERS: &[Wrapper] = &[
    plain("exec", &["-a"]),
    plain("command", &[]),
    plain("nohup", &[]),
    plain("setsid", &[]),
    plain("unbuffer", &[]),
    plain("time", &["-f", "--format", "-o", "--output"]),
    taking("timeout", &["-s", "--signal", "-k", "--kill-after"], 1),
    plain("nice", &["-n", "--adjustment"]),
    plain("ionice", &["-c", "--class", "-n", "--classdata"]),
    taking("taskset", &[], 1),
    taking(
        "flock",
        &["-w", "--timeout", "-E", "--conflict-exit-code"],
        1,
    ),
    plain("caffeinate", &["-t", "-w"]),
    plain(
        "stdbuf",
        &["-i", "-o", "-e", "--input", "--output", "--error"],
    ),
    plain(
        "xvfb-run",
        &[
            "-n",
            "--server-num",
            "-s",
            "--server-args",
            "-e",
            "-f",
            "-w",
        ],
    ),
    plain("dbus-run-session", &["--config-file"]),
    plain("dumb-init", &["-r", "--rewrite"]),
    plain("tini", &["-e", "-p"]),
    plain("strace", &["-o", "-e", "-s", "-P", "-u"]),
    plain("ddtrace-run", &[]),
    plain(
        "opentelemetry-instrument",
        &["--traces_exporter", "--metrics_exporter", "--service_name"],
    ),
    plain(
        "watchexec",
        &[
            "-w",
            "--watch",
            "-e",
            "--exts",
            "-f",
            "--filter",
            "-i",
            "--ignore",
            "-s",
            "--signal",
            "-d",
            "--debounce",
        ],
    ),
    runner(
        "watchmedo",
        &["auto-restart"],
        &[
            "-d",
            "--directory",
            "-p",
            "--pattern",
            "--patterns",
            "-s",
            "--signal",
        ],
    ),
    // Versions of languages and environments of packages.
    runner("direnv", &["exec"], &[]).takes(Takes::Words(1)),
    runner("asdf", &["exec"], &[]),
    runner("rbenv", &["exec"], &[]),
    runner("pyenv", &["exec"], &[]),
    runner("nodenv", &["exec"], &[]),
    runner("fnm", &["exec"], &["--using"]),
    runner(
        "volta",
        &["run"],
        &["--node", "--npm", "--pnpm", "--yarn", "--env"],
    ),
    runner(
        "mise",
        &["exec", "x"],
        &["-C", "--cd", "-E", "--env", "-j", "--jobs"],
    )
    .takes(Takes::UntilDashes),
    runner("bundle", &["exec"], &[]),
    runner(
        "poetry",
        &["run"],
        &["-C", "--directory", "-P", "--project"],
    ),
    runner("pipenv", &["run"], &[]),
    runner("pdm", &["run"], &["-p", "--project"]),
    runner("rye", &["run"], &["--pyproject"]),
    runner("hatch", &["run"], &["-e", "--env"]),
    runner(
        "pixi",
        &["run"],
        &["-e", "--environment", "--manifest-path"],
    ),
    runner(
        "conda",
        &["run"],
        &["-n", "--name", "-p", "--prefix", "--cwd"],
    ),
    runner(
        "micromamba",
        &["run"],
        &["-n", "--name", "-p", "--prefix", "--cwd"],
    ),
    runner("uv", &["run"], UV_FLAGS),
    // Secrets.
    runner(
        "doppler",
        &["run"],
        &[
            "-p",
            "--project",
            "-c",
            "--config",
            "-t",
            "--token",
            "--scope",
            "--mount",
        ],
    ),
    runner(
        "infisical",
        &["run"],
        &["--env", "--path", "--projectId", "--token"],
    ),
    runner("op", &["run"], &["--env-file", "--account"]),
    runner(
        "dotenvx",
        &["run"],
        &["-f", "--env-file", "-e", "--env", "-fk"],
    ),
    runner("chamber", &["exec"], &[]).takes(Takes::UntilDashes),
    runner(
        "aws-vault",
        &["exec"],
        &["-d", "--duration", "-t", "--mfa-token"],
    )
    .takes(Takes::Words(1)),
    plain("envchain", &[]).takes(Takes::Words(1)),
];

/// A wrapper of the table, else the tool itself.
pub(super) fn plain_wrapper(program: &str, args: &[Word], trail: &mut Trail) -> Step {
    let Some(wrapper) = WRAPPERS.iter().find(|wrapper| wrapper.program == program) else {
        return Step::Tool;
    };
    let args = if wrapper.subcommands.is_empty() {
        args
    } else {
        match args.split_first() {
            Some((first, rest)) if wrapper.subcommands.contains(&first.as_str()) => rest,
            Some((first, _)) if !first.is_flag() => {
                return other_command(program, first.as_str(), args);
            }
            _ => return Step::Tool,
        }
    };
    let options = Options::leading(args, |flag| wrapper.value_flags.contains(&flag));
    if options.has(&["--help", "--version"]) {
        return Step::Tool;
    }
    for flag in options
        .flags
        .iter()
        .filter(|flag| flag.name == "--env-file")
    {
        let file = flag.value.map(|(_, _, file)| trail.cwd.join(file));
        trail.env_files.extend(file);
    }
    if program == "uv" && options.has(&["-m", "--module", "-s", "--script"]) {
        return python_of(args, &options);
    }
    let start = options.rest(args);
    let rest = match wrapper.takes {
        Takes::Words(words) => args.get(start + words..).map(without_dashes),
        Takes::UntilDashes => {
            let dashes = args.iter().position(|word| word.as_str() == "--");
            dashes.map(|at| &args[at + 1..])
        }
    };
    match rest {
        Some([first, ..]) if program == "uv" && is_python_file(first) => {
            let mut words = vec![Word::script("python")];
            words.extend_from_slice(rest.unwrap_or_default());
            Step::Peel(words)
        }
        Some(rest) if !rest.is_empty() => Step::Peel(rest.to_vec()),
        _ => Step::Tool,
    }
}

fn without_dashes(words: &[Word]) -> &[Word] {
    match words.split_first() {
        Some((first, rest)) if first.as_str() == "--" => rest,
        _ => words,
    }
}

/// What a runner does with another word than `run`.
fn other_command(program: &str, command: &str, args: &[Word]) -> Step {
    match (program, command, args.get(1).map(Word::as_str)) {
        ("uv", "tool", Some("run")) => uvx(&args[2..]),
        // Tasks of the project, which nobody here can read.
        ("mise" | "pixi" | "conda" | "dotenvx" | "op" | "hatch", _, _) => Step::Tool,
        _ => Step::ShortLived(format!("`{program} {command}` starts no server")),
    }
}

/// `uv run -m MODULE`: the same for Python.
fn python_of(args: &[Word], options: &Options<'_>) -> Step {
    let of_python = |name: &str| matches!(name, "-m" | "--module" | "-s" | "--script");
    let Some(flag) = options.flags.iter().find(|flag| of_python(flag.name)) else {
        return Step::Tool;
    };
    let mut words = vec![Word::script("python")];
    if matches!(flag.name, "-m" | "--module") {
        words.push(Word::script("-m"));
    }
    words.extend_from_slice(&args[flag.at + 1..]);
    Step::Peel(words)
}

fn is_python_file(word: &Word) -> bool {
    let text = word.as_str();
    text.rsplit_once('.')
        .is_some_and(|(_, ending)| matches!(ending, "py" | "pyw"))
}

/// `uvx [--from PACKAGE] TOOL` and `pipx run`.
pub(super) fn uvx(args: &[Word]) -> Step {
    let options = Options::leading(args, |flag| UV_FLAGS.contains(&flag) || flag == "--spec");
    if options.has(&["--help", "--version"]) {
        return Step::ShortLived("`uvx` prints help".to_owned());
    }
    as_program(&args[options.rest(args)..])
}

/// `nix develop … -c COMMAND` and `nix shell`; `nix-shell --run TEXT`.
pub(super) fn nix(program: &str, args: &[Word]) -> Step {
    let command = |names: &[&str]| args.iter().position(|word| names.contains(&word.as_str()));
    match (program, args.first().map(Word::as_str)) {
        ("nix-shell", _) => {
            match command(&["--run", "--command"]).and_then(|at| args.get(at + 1)) {
                Some(text) => Step::Shell(text.as_str().to_owned()),
                None => Step::Unknown("`nix-shell` starts a shell".to_owned()),
            }
        }
        (_, Some("develop" | "shell" | "dev-shell")) => {
            match command(&["-c", "--command"]).map(|at| &args[at + 1..]) {
                Some(rest) if !rest.is_empty() => Step::Peel(rest.to_vec()),
                _ => Step::Unknown("`nix` starts a shell".to_owned()),
            }
        }
        (_, Some("run")) => Step::Unknown("`nix run` runs what a flake says".to_owned()),
        _ => Step::ShortLived("`nix` starts no server".to_owned()),
    }
}
