//! What holds for every command, also for strange ones. Seeded, so that a failure repeats.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use styxy_protocol::Port;
use styxy_recipes::{Catalog, Outcome};

use crate::sandbox::{Sandbox, argv};

/// Words that mean something somewhere, so that random commands get deep into the engine.
const WORDS: [&str; 70] = [
    "npm",
    "pnpm",
    "yarn",
    "bun",
    "npx",
    "bunx",
    "run",
    "dev",
    "start",
    "loop",
    "a",
    "b",
    "--",
    "-w",
    "--filter",
    "env",
    "-i",
    "-u",
    "PORT=4000",
    "PORT=",
    "X=1",
    "cross-env",
    "sh",
    "-c",
    "vite --port 4000",
    "vite",
    "storybook",
    "next",
    "-p",
    "-p6006",
    "--port",
    "--port=",
    "--port=4000",
    "4000",
    "0",
    "80",
    "70000",
    "0.0.0.0:8000",
    "::",
    ":",
    "python3",
    "-m",
    "http.server",
    "manage.py",
    "runserver",
    "flask",
    "uvicorn",
    "node",
    "server.js",
    "nodemon",
    "--exec",
    "node x",
    "timeout",
    "5",
    "--help",
    "-",
    "",
    "exec",
    "x",
    "dlx",
    "workspace",
    "web",
    "--cwd",
    "..",
    "$PORT",
    "${PORT:-1}",
    "styxy",
    "\u{202e}",
    "@a/b@1",
    "make",
];

/// xorshift: enough to mix words.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn word(&mut self) -> OsString {
        match self.roll(12) {
            0 => OsString::from_vec(
                (0..self.roll(6))
                    .map(|_| u8::try_from(1 + self.roll(255)).unwrap())
                    .collect(),
            ),
            1 => {
                let mut bytes = WORDS[self.roll(WORDS.len())].as_bytes().to_vec();
                bytes.push(0xff);
                OsString::from_vec(bytes)
            }
            _ => WORDS[self.roll(WORDS.len())].into(),
        }
    }
}

fn project() -> Sandbox {
    Sandbox::with_scripts(&[
        ("dev", "vite"),
        ("start", "npm run dev"),
        ("loop", "npm run loop"),
        ("a", "npm run b && npm run b && npm run b"),
        ("b", "npm run a & npm run a"),
        ("web", "PORT=3000 next dev -p $PORT"),
        ("x", "echo \"unbalanced"),
    ])
}

/// Whether `new` is `old` with words inserted and port words changed at most.
fn differs_by_the_port_only(old: &[OsString], new: &[OsString], port: &str) -> bool {
    let rest = match (old.split_first(), new.split_first()) {
        (None, _) => return new.iter().all(|word| is_insertion(word, port)),
        (Some(_), None) => return false,
        (Some((a, old)), Some((b, new))) => {
            (a == b || holds_port(a, b, port)).then_some((old, new))
        }
    };
    rest.is_some_and(|(old, new)| differs_by_the_port_only(old, new, port))
        || new.first().is_some_and(|word| is_insertion(word, port))
            && differs_by_the_port_only(old, &new[1..], port)
}

fn is_insertion(word: &OsString, port: &str) -> bool {
    ["--", "-p", "--port", port]
        .iter()
        .any(|known| word == known)
}

/// Whether `new` is `old` with its digits at one place replaced by the port.
fn holds_port(old: &OsString, new: &OsString, port: &str) -> bool {
    let (Some(old), Some(new)) = (old.to_str(), new.to_str()) else {
        return false;
    };
    new.match_indices(port).any(|(at, _)| {
        let (before, after) = (&new[..at], &new[at + port.len()..]);
        let digits = old
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after));
        digits.is_some_and(|digits| {
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        })
    })
}

#[test]
fn injection_changes_nothing_but_the_port_whatever_the_command() {
    let catalog = Catalog::builtin();
    let project = project();
    let port = Port::new(23456).unwrap();
    let mut dice = Dice(0x5759_5859);
    let mut injected = 0;
    for _ in 0..20_000 {
        let argv: Vec<OsString> = (0..dice.roll(8)).map(|_| dice.word()).collect();
        let found = project.detect(&catalog, &argv);
        let injection = found.inject(port, &argv);
        assert!(
            differs_by_the_port_only(&argv, &injection.argv, "23456"),
            "{argv:?} became {:?}",
            injection.argv
        );
        if !matches!(found.outcome, Outcome::Service | Outcome::Generic) {
            assert_eq!(argv, injection.argv, "{:?}", found.why);
            assert_eq!(injection.env, []);
        }
        injected += usize::from(argv != injection.argv);
        for word in &argv {
            if word.to_str().is_none() {
                assert!(
                    injection
                        .argv
                        .iter()
                        .any(|kept| kept.as_bytes() == word.as_bytes())
                );
            }
        }
    }
    assert!(
        injected > 200,
        "only {injected} commands were changed: the words no longer reach the engine"
    );
}

#[test]
fn why_holds_no_control_characters_of_the_project() {
    let catalog = Catalog::builtin();
    let project = Sandbox::with_scripts(&[("dev", "vite --base '\u{1b}[31m\u{202e}\n'")]);
    let found = project.detect(&catalog, &["npm".into(), "run".into(), "dev".into()]);
    assert_eq!(found.outcome, Outcome::Service);
    let mut why = found.why.concat();
    for line in [
        "npm \u{1b}c",
        "npm run x -w \u{1b}c",
        "yarn workspace \u{202e} x",
        "vite \u{1b}c",
        "python -m \u{1b}c",
    ] {
        why += &project.detect(&catalog, &argv(line)).why.concat();
    }
    assert!(!why.contains(['\u{1b}', '\u{202e}', '\n']), "{why:?}");
}

#[test]
fn scripts_that_call_each_other_end() {
    let project = project();
    for name in ["loop", "a", "b"] {
        let found = project.detect(
            &Catalog::builtin(),
            &["npm".into(), "run".into(), name.into()],
        );
        assert_eq!(found.outcome, Outcome::Generic, "{name}: {:?}", found.why);
    }
}
