//! Node and Python when what they run is a tool of its own: `node node_modules/.bin/vite`, `python .venv/bin/flask`.

use super::{Step, script, unknown};
use crate::Project;
use crate::invocation::{Trail, Word, program_name};
use crate::options::Options;

/// Flags of Node with a value in the next word.
const NODE_VALUE_FLAGS: [&str; 16] = [
    "-r",
    "--require",
    "--import",
    "--loader",
    "--experimental-loader",
    "-C",
    "--conditions",
    "--title",
    "-e",
    "--eval",
    "-p",
    "--print",
    "--watch-path",
    "--run",
    "--env-file",
    "--env-file-if-exists",
];

pub(crate) fn is_python(program: &str) -> bool {
    let rest = program
        .strip_prefix("python")
        .or_else(|| program.strip_prefix("pypy"));
    program == "py"
        || rest.is_some_and(|rest| {
            rest.bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.')
        })
}

/// Programs that run the file that they are given, as `node FILE` does.
pub(crate) fn runs_files(program: &str) -> bool {
    const PROGRAMS: [&str; 13] = [
        "node",
        "php",
        "ruby",
        "jruby",
        "java",
        "bun",
        "tsx",
        "ts-node",
        "ts-node-dev",
        "tsnd",
        "babel-node",
        "swc-node",
        "deno",
    ];
    PROGRAMS.contains(&program)
}

pub(crate) fn node_takes_value(flag: &str) -> bool {
    NODE_VALUE_FLAGS.contains(&flag)
}

pub(crate) fn python_takes_value(flag: &str) -> bool {
    matches!(flag, "-W" | "-X" | "-m" | "-c" | "--check-hash-based-pycs")
}

pub(crate) fn php_takes_value(flag: &str) -> bool {
    matches!(
        flag,
        "-d" | "-c" | "-S" | "-t" | "-f" | "-r" | "-z" | "-B" | "-R" | "-F" | "-E"
    )
}

pub(crate) fn ruby_takes_value(flag: &str) -> bool {
    matches!(flag, "-e" | "-I" | "-r" | "-C" | "-E")
}

pub(super) fn node(words: &[Word], trail: &mut Trail, project: &dyn Project) -> Step {
    let args = &words[1..];
    let options = Options::leading(args, node_takes_value);
    if let Some(name) = options.value(&["--run"]) {
        trail.tail.needs_dashes(options.end.is_some());
        let extra = options.end.map_or(&[][..], |end| &args[end + 1..]);
        return script(name, extra.to_vec(), trail, project).unwrap_or_else(|| unknown(words));
    }
    if options.has(&["-v", "--version", "-h", "--help", "--test", "-c", "--check"]) {
        return Step::ShortLived("node starts no server".to_owned());
    }
    for flag in options
        .flags
        .iter()
        .filter(|flag| flag.name.starts_with("--env-file"))
    {
        let file = flag.value.map(|(_, _, file)| trail.cwd.join(file));
        trail.env_files.extend(file);
    }
    if options.has(&["-e", "--eval", "-p", "--print"]) {
        return Step::Tool;
    }
    let at = options.rest(args);
    let Some(file) = args.get(at) else {
        return Step::ShortLived("`node` without a file reads from the terminal".to_owned());
    };
    match tool_of(file.as_str()) {
        Some(tool) => {
            let mut all = vec![Word::script(tool)];
            all.extend_from_slice(&args[at + 1..]);
            Step::Peel(all)
        }
        None => Step::Tool,
    }
}

/// The tool that a file of an installed package is: its program, else its package.
fn tool_of(file: &str) -> Option<&str> {
    let (_, inside) = file.rsplit_once("node_modules/")?;
    if let Some(program) = inside.strip_prefix(".bin/") {
        return Some(program_name(program));
    }
    let slashes = if inside.starts_with('@') { 2 } else { 1 };
    let (end, _) = inside.match_indices('/').nth(slashes - 1)?;
    Some(&inside[..end])
}

/// `ruby bin/rails server`, `ruby -S puma`.
pub(super) fn ruby(words: &[Word]) -> Step {
    let args = &words[1..];
    let options = Options::leading(args, ruby_takes_value);
    if options.has(&["-v", "--version", "-h", "--help", "-c"]) {
        return Step::ShortLived("ruby starts no server".to_owned());
    }
    match args
        .get(options.rest(args)..)
        .and_then(<[Word]>::split_first)
    {
        Some((file, rest)) if options.has(&["-S"]) || is_installed(file.as_str()) => {
            let mut all = vec![Word::script(program_name(file.as_str()))];
            all.extend_from_slice(rest);
            Step::Peel(all)
        }
        _ => Step::Tool,
    }
}

/// `cargo watch -x 'run --bin api'` runs `cargo run --bin api`; `cargo watch -- COMMAND` and `-s TEXT` the like.
pub(super) fn cargo(args: &[Word]) -> Step {
    let is_watch = args.first().is_some_and(|word| word.as_str() == "watch");
    if !is_watch {
        return Step::Tool;
    }
    let args = &args[1..];
    let options = Options::all(args, |flag| {
        matches!(
            flag,
            "-x" | "--exec"
                | "-s"
                | "--shell"
                | "-w"
                | "--watch"
                | "-i"
                | "--ignore"
                | "-d"
                | "--delay"
                | "-C"
                | "--workdir"
        )
    });
    if let Some(text) = options.value(&["-x", "--exec"]) {
        return Step::Shell(format!("cargo {text}"));
    }
    if let Some(text) = options.value(&["-s", "--shell"]) {
        return Step::Shell(text.to_owned());
    }
    match options.end.map(|end| &args[end + 1..]) {
        Some(rest) if !rest.is_empty() => Step::Peel(rest.to_vec()),
        _ => Step::ShortLived("`cargo watch` checks".to_owned()),
    }
}

/// Whether a file without ending lies where tools are installed.
fn is_installed(file: &str) -> bool {
    !program_name(file).contains('.') && file.rsplit('/').nth(1) == Some("bin")
}

pub(super) fn python(words: &[Word]) -> Step {
    let args = &words[1..];
    let options = Options::leading(args, python_takes_value);
    // In order: what follows `-m MODULE` belongs to the module, its `--help` too.
    for flag in &options.flags {
        if let ("-m", Some((at, _, "debugpy"))) = (flag.name, flag.value) {
            return debugged(&args[at + 1..]);
        }
        match flag.name {
            "-m" | "-c" => return Step::Tool,
            "-V" | "--version" | "-h" | "--help" => {
                return Step::ShortLived("python starts no server".to_owned());
            }
            _ => {}
        }
    }
    let at = options.rest(args);
    let Some(file) = args.get(at) else {
        return Step::ShortLived("`python` without a file reads from the terminal".to_owned());
    };
    let text = file.as_str();
    if is_installed(text) {
        let mut all = vec![Word::script(program_name(text))];
        all.extend_from_slice(&args[at + 1..]);
        return Step::Peel(all);
    }
    Step::Tool
}

/// `python -m debugpy --listen 5678 -m flask run` runs what follows the debugger's flags.
fn debugged(args: &[Word]) -> Step {
    let options = Options::leading(args, |flag| {
        matches!(flag, "--listen" | "--connect" | "--log-to" | "--pid")
    });
    let module = options.flags.iter().find(|flag| flag.name == "-m");
    let start = module.map_or_else(|| options.rest(args), |flag| flag.at);
    match args.get(start..) {
        Some(rest) if !rest.is_empty() => {
            let mut words = vec![Word::script("python")];
            words.extend_from_slice(rest);
            Step::Peel(words)
        }
        _ => Step::Tool,
    }
}
