//! What kind of service a running process is, by its arguments.
//!
//! A process does not look like the command that started it: scripts stand behind their interpreter, package managers
//! have gone, and some have written a title over their arguments. Recipes are asked first, then a table of
//! programs that need no recipe. Only whole words and the names of files that are run count: what stands anywhere else in
//! a path says nothing.

mod known;

use std::path::{Path, PathBuf};

use styxy_protocol::ServiceType;

use crate::invocation::{Trail, Word, program_name};
use crate::matching::{self, Matched, Surroundings};
use crate::options::Options;
use crate::tool::Tool;
use crate::unwrap::{self, Step, node_takes_value};
use crate::words::{self, Line};
use crate::{Catalog, Package, Project};

/// Steps after which a process counts as unknown; real ones take fewer than five.
const FUEL: u32 = 16;

/// The kind of service that the process with these arguments is; `None` where they do not say. `cwd` is its working
/// directory: without one, nothing of the project is looked at.
pub fn service_type_of_process(
    catalog: &Catalog,
    argv: &[String],
    cwd: Option<&Path>,
    project: &dyn Project,
) -> Option<ServiceType> {
    let project = if cwd.is_some() { project } else { &Nowhere };
    let mut trail = Trail::new(cwd.unwrap_or(Path::new("/")).to_owned());
    let mut words = words_of(argv);
    for _ in 0..FUEL {
        words = match unwrap::step(&words, &mut trail, project) {
            Step::Peel(inner) => inner,
            Step::Script {
                dir, text, extra, ..
            } => {
                trail.cwd = dir;
                let mut inner = last_command(&text, &mut trail)?;
                inner.extend(extra);
                inner
            }
            Step::Shell(text) => last_command(&text, &mut trail)?,
            Step::Tool => match by_recipe(catalog, &words, &trail, project) {
                Some(service_type) => return Some(service_type),
                None => match run_by_interpreter(&words) {
                    Some(inner) => inner,
                    None => break,
                },
            },
            Step::ShortLived(_) | Step::Several(_) | Step::Unknown(_) => break,
        };
    }
    known::service_type(&words)
}

/// The arguments, or the words of the title that the process has written over them: `nginx: master process …`. A
/// single argument with blanks may also be the path of a program that was given none.
fn words_of(argv: &[String]) -> Vec<Word> {
    match argv {
        [title] if title.contains(' ') && !title.starts_with(['/', '.']) => {
            let mut words = title.split_whitespace();
            let program = words.next().map(|word| word.trim_end_matches(':'));
            program.into_iter().chain(words).map(Word::script).collect()
        }
        argv => argv.iter().map(Word::script).collect(),
    }
}

/// The last command of a text for a shell: what comes before it has ended, or is not what the shell waits for.
fn last_command(text: &str, trail: &mut Trail) -> Option<Vec<Word>> {
    let Line::Commands(commands) = words::split(text) else {
        return None;
    };
    let last = commands.iter().rfind(|simple| !simple.words.is_empty())?;
    Some(trail.enter(last))
}

fn by_recipe(
    catalog: &Catalog,
    words: &[Word],
    trail: &Trail,
    project: &dyn Project,
) -> Option<ServiceType> {
    let tool = Tool::parse(words)?;
    let around = Surroundings {
        package: &|| unwrap::nearest(&trail.cwd, project).map(|(_, package)| package),
        script: None,
        manifest: &|_| false,
        is_chore: false,
    };
    match matching::best(catalog, &tool, &around) {
        Matched::Service(recipe, _) => Some(recipe.service_type.clone()),
        Matched::ShortLived(..) | Matched::Several(_) | Matched::Nothing => None,
    }
}

/// The tool that an interpreter runs, in front of its arguments: `rails server` of `ruby bin/rails server`. `None` for
/// anything else, somebody's own script too.
fn run_by_interpreter(words: &[Word]) -> Option<Vec<Word>> {
    let (first, args) = words.split_first()?;
    let program = program_name(first.as_str());
    let version = |rest: &str| rest.bytes().all(|it| it.is_ascii_digit() || it == b'.');
    let is = |name: &str| program.strip_prefix(name).is_some_and(version);
    if unwrap::is_python(program) {
        let tool = Tool::parse(words)?;
        return Some(with_args(tool.module?, tool.args));
    }
    if is("java") {
        return main_of_java(args);
    }
    let takes_value = |flag: &str| match program {
        "ruby" | "jruby" => matches!(flag, "-I" | "-r" | "-C" | "-e"),
        "php" => matches!(flag, "-c" | "-d" | "-t" | "-S" | "-r" | "-z"),
        _ => node_takes_value(flag),
    };
    let options = Options::leading(args, takes_value);
    if options.has(&["-e", "--eval", "-r", "--print", "-S"]) && program != "ruby" {
        return None;
    }
    let at = options.rest(args);
    let file = args.get(at)?.as_str();
    let rest = &args[at + 1..];
    let name = program_name(file);
    let is_installed = !name.contains('.') && is_in_bin(file);
    let is_known = is("ruby") || is("php") || is("node") || matches!(program, "jruby" | "bun");
    // The framework's own entry into a project has no ending either.
    (is_known && (is_installed || name == "artisan")).then(|| with_args(name, rest))
}

/// The main class, or the name of the archive without version and ending.
fn main_of_java(args: &[Word]) -> Option<Vec<Word>> {
    let takes_value = |flag: &str| {
        matches!(
            flag,
            "-cp" | "-classpath" | "--class-path" | "-p" | "--module-path" | "-jar"
        )
    };
    let options = Options::leading(args, takes_value);
    if let Some((at, _, archive)) = options
        .flags
        .iter()
        .find(|flag| flag.name == "-jar")
        .and_then(|flag| flag.value)
    {
        let name = program_name(archive);
        let name = name.strip_suffix(".jar").unwrap_or(name);
        let is_version = |(at, _): &(usize, &str)| {
            name[at + 1..]
                .trim_start_matches('v')
                .starts_with(|c: char| c.is_ascii_digit())
        };
        let end = name.match_indices('-').find(is_version);
        let end = end.map_or(name.len(), |(at, _)| at);
        return Some(with_args(&name[..end], &args[at + 1..]));
    }
    let at = options.rest(args);
    Some(with_args(args.get(at)?.as_str(), &args[at + 1..]))
}

fn with_args(program: &str, args: &[Word]) -> Vec<Word> {
    let mut words = vec![Word::script(program)];
    words.extend_from_slice(args);
    words
}

/// Whether a path leads to where tools are installed.
fn is_in_bin(path: &str) -> bool {
    matches!(path.rsplit('/').nth(1), Some("bin" | ".bin" | "sbin"))
}

/// No project at all.
struct Nowhere;

impl Project for Nowhere {
    fn package(&self, _: &Path) -> Option<Package> {
        None
    }

    fn exists(&self, _: &Path) -> bool {
        false
    }

    fn text(&self, _: &Path) -> Option<String> {
        None
    }

    fn workspace_package(&self, _: &Path, _: &str) -> Option<PathBuf> {
        None
    }
}

#[cfg(test)]
mod tests;
