//! What stands in front of a tool is taken off, and the port gets to the tool all the same.

use styxy_protocol::Port;
use styxy_recipes::{AskedFrom, Catalog, Detection, Outcome, Reach};

use crate::sandbox::{ROOT, Sandbox, argv};

/// A command in a project with these files, with port 4001: its outcome, its recipe, and the command line.
fn with_port(line: &str, files: &[(&str, &str)]) -> (Outcome, String, String) {
    let found = detected(line, files, &[]);
    let words: Vec<String> = found
        .inject(Port::new(4001).unwrap(), &argv(line))
        .argv
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    (found.outcome, found.recipe, words.join(" "))
}

fn detected(line: &str, files: &[(&str, &str)], env: &[(&str, &str)]) -> Detection {
    let mut sandbox = Sandbox::with_scripts(&[("dev", "vite"), ("task", "make dev")]);
    for (file, text) in files {
        let path = std::path::Path::new(ROOT).join(file);
        sandbox.files.insert(path.clone());
        sandbox.texts.insert(path, (*text).to_owned());
    }
    sandbox.env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    sandbox.detect(&Catalog::builtin(), &argv(line))
}

#[test]
fn the_words_of_a_wrapper_are_taken_off() {
    for wrapper in [
        "env A=1",
        "env -u A",
        "cross-env A=1",
        "cross-env-shell A=1",
        "dotenv",
        "dotenv -e .env.local --",
        "env-cmd -f .env.local",
        "dotenvx run --",
        "timeout 60",
        "timeout -k 5 60",
        "nohup",
        "time -p",
        "nice -n 5",
        "ionice -c 3",
        "setsid",
        "exec",
        "stdbuf -oL",
        "taskset -c 0,1",
        "xvfb-run -n 99",
        "dumb-init",
        "tini --",
        "sudo -E",
        "npx",
        "npx -y",
        "pnpx",
        "bunx",
        "bun x",
        "yarn dlx",
        "pnpm dlx",
        "pnpm exec",
        "uvx",
        "uv tool run",
        "uv run",
        "uv run --with x --",
        "pipx run",
        "poetry run",
        "pipenv run",
        "pdm run",
        "rye run",
        "hatch run",
        "pixi run",
        "conda run -n me",
        "bundle exec",
        "direnv exec .",
        "mise exec --",
        "mise x node@24 --",
        "asdf exec",
        "rbenv exec",
        "volta run --node 24",
        "nix develop -c",
        "nix develop .#web --command",
        "nix shell nixpkgs#nodejs -c",
        "doppler run --",
        "doppler run -p shop --",
        "infisical run --env=dev --",
        "op run --",
        "aws-vault exec me --",
        "chamber exec a b --",
        "watchexec -e ts --",
        "watchmedo auto-restart -d src --",
        "node node_modules/.bin/",
        "deno run -A npm:",
    ] {
        let space = if wrapper.ends_with(['/', ':']) {
            ""
        } else {
            " "
        };
        let line = format!("{wrapper}{space}vite --host");
        assert_eq!(
            with_port(&line, &[]),
            (
                Outcome::Service,
                "vite".to_owned(),
                format!("{line} --port 4001")
            )
        );
    }
}

#[test]
fn interpreters_run_tools() {
    for (line, recipe) in [
        ("uv run -m flask run", "flask"),
        ("python -m debugpy --listen 5678 -m flask run", "flask"),
        (
            "python3 -m debugpy --listen 0.0.0.0:5678 --wait-for-client .venv/bin/flask run",
            "flask",
        ),
        ("python .venv/bin/uvicorn app:app", "uvicorn"),
        ("ruby -S jekyll serve", "jekyll"),
        ("bundle exec ruby bin/bridgetown start", "bridgetown"),
        ("cargo watch -- trunk serve", "trunk"),
    ] {
        let (outcome, found, words) = with_port(line, &[]);
        assert_eq!(
            (outcome, found.as_str()),
            (Outcome::Service, recipe),
            "{line}"
        );
        assert!(
            words.starts_with(line) && words.ends_with(" 4001"),
            "{words}"
        );
    }
}

#[test]
fn texts_for_a_shell_are_understood_but_not_changed() {
    for line in [
        "sh -c 'vite --port 3000'",
        "bash -lc 'cd web && vite --port 3000'",
        "nix-shell --run 'vite --port 3000'",
        "npx -c 'vite --port 3000'",
        "cargo watch -s 'vite --port 3000'",
    ] {
        let found = detected(line, &[], &[]);
        let asked = found.asked_port.map(|asked| (asked.port.get(), asked.from));
        assert_eq!(found.recipe, "vite", "{line}");
        assert_eq!(asked, Some((3000, AskedFrom::Script)), "{line}");
        let injection = found.inject(Port::new(4001).unwrap(), &argv(line));
        assert_eq!((injection.argv, injection.reach), (argv(line), Reach::None));
    }
}

#[test]
fn targets_are_looked_up_when_they_are_simple() {
    let makefile = (
        "Makefile",
        "PORT ?= 3000\n.PHONY: dev\ndev: install\n\t@npx vite --port 3000\n\
         var:\n\tvite --port $(PORT)\nweb:\n\tnpm run dev\nbuild:\n\tgo build\nserve:\n\tnext dev\n",
    );
    let justfile = (
        "justfile",
        "dev:\n  npx vite --port 3000\narg port:\n  vite --port {{port}}\n",
    );
    let taskfile = (
        "Taskfile.yml",
        "version: '3'\ntasks:\n  dev:\n    cmds:\n      - npx vite --port 3000\n",
    );
    let files = [makefile, justfile, taskfile];
    for (line, recipe, name) in [
        ("make dev", "vite", "dev"),
        ("make", "vite", "dev"),
        ("make -j2 web", "vite", "dev"),
        ("just dev", "vite", "dev"),
        ("just", "vite", "dev"),
        ("task dev", "vite", "dev"),
        ("npm run task", "vite", "dev"),
        ("make var", "generic", "make-var"),
        ("make none", "generic", "make-none"),
        ("make dev web", "generic", "make-dev"),
        ("just arg 3000", "generic", "just-arg"),
    ] {
        let found = detected(line, &files, &[]);
        assert_eq!(
            (found.recipe.as_str(), found.service_name.as_str()),
            (recipe, name),
            "{line}: {:?}",
            found.why
        );
        let injection = found.inject(Port::new(4001).unwrap(), &argv(line));
        assert_eq!(injection.argv, argv(line));
    }
    for line in [
        "make build",
        "make -n dev",
        "just --list",
        "make none-test.test",
        "task test",
    ] {
        let outcome = detected(line, &files, &[]).outcome;
        let expected = if line == "make none-test.test" {
            Outcome::Generic
        } else {
            Outcome::ShortLived
        };
        assert_eq!(outcome, expected, "{line}");
    }
    // A variable of make's command line is one of the environment of what it runs.
    let line = "make PORT=5000 serve";
    let found = detected(line, &files, &[]);
    assert_eq!(found.recipe, "next");
    let injection = found.inject(Port::new(4001).unwrap(), &argv(line));
    assert_eq!(injection.argv, argv("make PORT=4001 serve"));
}

#[test]
fn files_of_variables_are_read_as_their_wrappers_do() {
    use AskedFrom::{Environment, File, Script};
    let files = [(".env", "PORT=5111\n"), (".env.local", "PORT=5222\nA=b\n")];
    let inherited = [("PORT", "4444")];
    for (line, env, expected, reach) in [
        (
            "dotenv -- next dev",
            &[][..],
            Some((5111, File)),
            Reach::Argument,
        ),
        (
            "dotenv -e .env.local next dev",
            &[],
            Some((5222, File)),
            Reach::Argument,
        ),
        (
            "dotenv -- node a.js",
            &[],
            Some((5111, File)),
            Reach::Environment,
        ),
        (
            "dotenv -- node a.js",
            &inherited,
            Some((4444, Environment)),
            Reach::Environment,
        ),
        // These set the variable whatever the environment says.
        (
            "dotenv -o -- node a.js",
            &inherited,
            Some((5111, Script)),
            Reach::None,
        ),
        (
            "env-cmd node a.js",
            &inherited,
            Some((5111, Script)),
            Reach::None,
        ),
        (
            "env-cmd -f .env.local node a.js",
            &[],
            Some((5222, Script)),
            Reach::None,
        ),
        (
            "env-cmd --no-override node a.js",
            &inherited,
            Some((4444, Environment)),
            Reach::Environment,
        ),
        (
            "node --env-file=.env.local a.js",
            &[],
            Some((5222, File)),
            Reach::Environment,
        ),
        (
            "sudo node a.js",
            &inherited,
            Some((5111, File)),
            Reach::None,
        ),
    ] {
        let found = detected(line, &files, env);
        let asked = found.asked_port.map(|asked| (asked.port.get(), asked.from));
        assert_eq!(asked, expected, "{line}");
        let injection = found.inject(Port::new(4001).unwrap(), &argv(line));
        assert_eq!(injection.reach, reach, "{line}");
    }
}

#[test]
fn a_program_of_the_project_is_no_tool_of_that_name() {
    for (line, recipe) in [
        ("./vite", "generic"),
        ("bin/serve", "generic"),
        ("./bin/vite --host", "generic"),
        ("scripts/serve", "generic"),
        ("bin/rails server", "rails"),
        ("./bin/puma", "puma"),
        ("node_modules/.bin/serve", "serve"),
        ("/usr/local/bin/serve", "serve"),
        (".venv/bin/flask run", "flask"),
    ] {
        assert_eq!(detected(line, &[], &[]).recipe, recipe, "{line}");
    }
}

#[test]
fn what_only_prints_is_no_server() {
    for line in [
        "env",
        "dotenv -p PORT",
        "sudo -l",
        "nix build",
        "uv sync",
        "poetry install",
        "bundle install",
        "composer install",
        "deno fmt",
        "deno test",
        "pipx list",
        "cargo watch",
        "make --help",
        "mvn install",
    ] {
        assert_eq!(
            detected(line, &[], &[]).outcome,
            Outcome::ShortLived,
            "{line}"
        );
    }
}
