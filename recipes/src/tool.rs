//! The program at the end of the way: its name, what it runs if it is an interpreter, and its arguments.

use crate::invocation::{Word, program_name};
use crate::options::Options;
use crate::unwrap::{
    is_python, node_takes_value, php_takes_value, python_takes_value, ruby_takes_value, runs_files,
};

/// A tool with its arguments.
#[derive(Debug)]
pub(crate) struct Tool<'a> {
    /// Name of the program; `python` for every version of it.
    pub(crate) program: &'a str,
    /// What `python -m` runs.
    pub(crate) module: Option<&'a str>,
    /// Name of the file that is run, without directory.
    pub(crate) file: Option<&'a str>,
    /// What follows: for an interpreter, what follows the module or file.
    pub(crate) args: &'a [Word],
    /// It lies in the project's own `bin`, where a package manager of Node installs nothing.
    pub(crate) in_project_bin: bool,
}

impl<'a> Tool<'a> {
    /// Reads a command that starts with a program; `None` if there is none.
    pub(crate) fn parse(words: &'a [Word]) -> Option<Self> {
        let (first, args) = words.split_first()?;
        let text = first.as_str();
        let program = program_name(text);
        if is_python(program) {
            return Some(Self::python(args));
        }
        let is_deno_serve = program == "deno" && {
            let start = Options::leading(args, |_| false).rest(args);
            args.get(start).is_some_and(|word| word.as_str() == "serve")
        };
        match program {
            "php" => return Some(Self::of_file("php", args, php_takes_value, &["-S", "-r"])),
            "ruby" | "jruby" => {
                return Some(Self::of_file(
                    "ruby",
                    args,
                    ruby_takes_value,
                    &["-e", "-run"],
                ));
            }
            "java" => return Some(Self::java(args)),
            _ if is_deno_serve => {}
            _ if runs_files(program) => return Some(Self::runtime(program, args)),
            _ => {}
        }
        // A program by path is a tool only where tools are installed; `./vite` is somebody's own script.
        let installed = !text.contains('/')
            || matches!(
                text.rsplit('/').nth(1),
                Some("bin" | ".bin" | "sbin" | "Scripts")
            );
        Some(Self {
            program: if installed { program } else { text },
            module: None,
            file: Some(program),
            args,
            in_project_bin: matches!(text.strip_prefix("./").unwrap_or(text).split_once('/'), Some(("bin", rest)) if !rest.contains('/')),
        })
    }

    /// An interpreter whose flags stand before its file. With one of the flags `alone` it runs no file.
    fn of_file(
        program: &'a str,
        args: &'a [Word],
        takes_value: fn(&str) -> bool,
        alone: &[&str],
    ) -> Self {
        let options = Options::leading(args, takes_value);
        let at = options.rest(args);
        let file = args.get(at).filter(|_| !options.has(alone));
        Self {
            program,
            module: None,
            file: file.map(|file| program_name(file.as_str())),
            args: file.map_or(args, |_| &args[at + 1..]),
            in_project_bin: false,
        }
    }

    /// `java [-Dname=value]… -jar FILE …`: the flags before the file are the ones that matter.
    fn java(args: &'a [Word]) -> Self {
        let options = Options::leading(args, |flag| matches!(flag, "-jar" | "-cp" | "-classpath"));
        Self {
            program: "java",
            module: None,
            file: options.value(&["-jar"]).map(program_name),
            args,
            in_project_bin: false,
        }
    }

    fn python(args: &'a [Word]) -> Self {
        let options = Options::leading(args, python_takes_value);
        let runs = options
            .flags
            .iter()
            .find(|flag| matches!(flag.name, "-m" | "-c"));
        let (module, file, at) = match runs.map(|flag| (flag.name, flag.value)) {
            // Everything after the module is the module's, flags too.
            Some(("-m", Some((at, _, module)))) => (Some(module), None, at + 1),
            Some(_) => (None, None, args.len()),
            None => {
                let at = options.rest(args);
                (None, args.get(at), at + 1)
            }
        };
        Self {
            program: "python",
            module,
            file: file.map(|file| program_name(file.as_str())),
            args: args.get(at..).unwrap_or(&[]),
            in_project_bin: false,
        }
    }

    fn runtime(program: &'a str, args: &'a [Word]) -> Self {
        // `tsx watch FILE`, `bun --hot run FILE`
        let flags = Options::leading(args, node_takes_value).rest(args);
        let args = match args.get(flags).map(Word::as_str) {
            Some("watch" | "run") => &args[flags + 1..],
            _ => args,
        };
        let options = Options::leading(args, node_takes_value);
        let runs_text = options.has(&["-e", "--eval", "-p", "--print"]);
        let at = if runs_text {
            args.len()
        } else {
            options.rest(args)
        };
        Self {
            program,
            module: None,
            file: args.get(at).map(|file| program_name(file.as_str())),
            args: args.get(at + 1..).unwrap_or(&[]),
            in_project_bin: false,
        }
    }

    /// The words by which recipes for it are found.
    pub(crate) fn triggers(&self) -> Vec<String> {
        let mut words = vec![self.program.to_owned()];
        words.extend(self.module.map(|module| format!("-m {module}")));
        words.extend(self.file.map(|file| format!("./{file}")));
        words
    }

    /// What people call it: the module or file without ending, else the program.
    pub(crate) fn name(&self) -> &str {
        let file = self
            .file
            .map(|file| file.rsplit_once('.').map_or(file, |(stem, _)| stem));
        self.module
            .or(file)
            .filter(|name| !name.is_empty())
            .unwrap_or(self.program)
    }

    /// Name of the service that it is when neither a script nor a recipe names it. A file run by an
    /// interpreter goes by its own name, another program with its first word: `make dev` is `make-dev`.
    pub(crate) fn service_name(&self) -> String {
        let is_file = runs_files(self.program) || self.program == "python";
        let is_plain = |word: &&str| {
            let mut bytes = word.bytes();
            bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_:".contains(&byte))
        };
        match self.args.first().map(Word::as_str).filter(is_plain) {
            Some(word) if !is_file => format!("{}-{word}", self.name()),
            _ => self.name().to_owned(),
        }
    }
}
