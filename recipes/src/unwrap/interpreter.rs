//! Node and Python when what they run is a tool of its own: `node node_modules/.bin/vite`, `python .venv/bin/flask`.

use super::{Step, script, unknown};
use crate::Project;
use crate::invocation::{Trail, Word, program_name};
use crate::options::Options;

/// Flags of Node with a value in the next word.
const NODE_VALUE_FLAGS: [&str; 14] = [
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
    const PROGRAMS: [&str; 9] = [
        "node",
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

pub(super) fn python(words: &[Word]) -> Step {
    let args = &words[1..];
    let options = Options::leading(args, python_takes_value);
    // In order: what follows `-m MODULE` belongs to the module, its `--help` too.
    for flag in &options.flags {
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
    let is_installed = !program_name(text).contains('.') && text.rsplit('/').nth(1) == Some("bin");
    if is_installed {
        let mut all = vec![Word::script(program_name(text))];
        all.extend_from_slice(&args[at + 1..]);
        return Step::Peel(all);
    }
    Step::Tool
}
