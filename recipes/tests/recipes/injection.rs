//! Where a wish stands and how far an injection gets, beyond what examples in recipe files can say.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use styxy_protocol::Port;
use styxy_recipes::{AskedFrom, Catalog, Detection, Intercept, Outcome, Reach};

use crate::sandbox::{Sandbox, argv};

fn detected(line: &str, scripts: &[(&str, &str)], env: &[(&str, &str)]) -> Detection {
    let mut sandbox = Sandbox::with_scripts(scripts);
    sandbox.env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    sandbox.detect(&Catalog::builtin(), &argv(line))
}

fn port() -> Port {
    Port::new(4001).unwrap()
}

#[test]
fn a_wish_is_found_where_it_stands_and_the_nearest_to_the_tool_counts() {
    use AskedFrom::{Argument, Assignment, Environment, Script};
    let env = [("PORT", "4444")];
    for (line, script, number, from) in [
        ("npx next dev -p 4000", "", 4000, Argument),
        ("npm run dev -- -p 4000", "next dev -p 5000", 4000, Argument),
        ("npm run dev", "next dev -p 5000", 5000, Script),
        ("env PORT=4000 npm run dev", "next dev", 4000, Assignment),
        (
            "env PORT=4000 npm run dev",
            "PORT=5000 next dev",
            5000,
            Script,
        ),
        (
            "cross-env PORT=4000 PORT=4001 next dev",
            "",
            4001,
            Assignment,
        ),
        ("npm run dev", "next dev", 4444, Environment),
        ("make dev", "", 4444, Environment),
    ] {
        let asked = detected(line, &[("dev", script)], &env).asked_port.unwrap();
        assert_eq!(
            (asked.port.get(), asked.from),
            (number, from),
            "{line} with {script}"
        );
    }
    for line in [
        "env -i make dev",
        "env -u PORT make dev",
        "npx vite",
        "git status",
    ] {
        assert_eq!(detected(line, &[], &env).asked_port, None, "{line}");
    }
}

#[test]
fn reach_tells_how_far_the_port_gets() {
    for (line, script, reach) in [
        ("npx vite", "", Reach::Argument),
        ("npm run dev", "vite --port 1234", Reach::Argument),
        ("sh -c vite", "", Reach::None),
        ("npm run dev", "vite & true", Reach::None),
        ("npm run dev", "next dev & true", Reach::Environment),
        ("npm run dev", "PORT=3000 node app.js", Reach::None),
        (
            "npm run dev",
            "PORT=${PORT:-3000} node app.js",
            Reach::Environment,
        ),
        ("env PORT=3000 node app.js", "", Reach::Environment),
        ("env -i node app.js", "", Reach::None),
        ("make dev", "", Reach::Environment),
        ("npm run dev", "python3 -m http.server 9000", Reach::None),
        ("npm run dev", "node a.js & node b.js", Reach::None),
        ("npm run dev", "next dev | pino-pretty", Reach::Environment),
        ("git status", "", Reach::None),
    ] {
        let found = detected(line, &[("dev", script)], &[]);
        assert_eq!(
            found.inject(port(), &argv(line)).reach,
            reach,
            "{line} with {script}: {:?}",
            found.why
        );
    }
}

#[test]
fn two_services_at_once_get_no_port_to_fight_over() {
    for script in [
        "node a.js & node b.js",
        "node a.js & node b.js & wait",
        "concurrently a b",
    ] {
        let found = detected("npm run dev", &[("dev", script)], &[]);
        let injection = found.inject(port(), &argv("npm run dev"));
        assert_eq!(
            (injection.argv, injection.env),
            (argv("npm run dev"), vec![]),
            "{script}"
        );
        assert_eq!(found.intercept, Intercept::Preload);
    }
}

#[test]
fn a_strict_flag_is_for_those_who_insist() {
    let command = argv("vite");
    let found = detected("vite", &[], &[]);
    assert_eq!(
        found.inject(port(), &command).argv,
        argv("vite --port 4001")
    );
    assert_eq!(
        found.inject_strict(port(), &command).argv,
        argv("vite --port 4001 --strictPort")
    );
}

#[test]
fn a_command_that_was_not_detected_is_left_alone() {
    let found = detected("vite --port 4000", &[], &[]);
    for other in ["", "vite", "vite --port 4000 --host"] {
        let injection = found.inject(port(), &argv(other));
        assert_eq!(
            (injection.argv, injection.reach),
            (argv(other), Reach::None)
        );
    }
}

#[test]
fn bytes_that_are_not_utf8_pass_unchanged() {
    let strange = OsString::from_vec(b"\xff-\xfe".to_vec());
    let command = vec![
        "vite".into(),
        strange.clone(),
        "--port".into(),
        "4000".into(),
    ];
    let found = Sandbox::default().detect(&Catalog::builtin(), &command);
    let given = found.inject(port(), &command).argv;
    assert_eq!(
        given,
        ["vite".into(), strange, "--port".into(), "4001".into()] as [OsString; 4]
    );
}

#[test]
fn a_tool_that_takes_the_port_anyway_is_told_nothing_unless_the_user_insists() {
    let vite = Port::new(5173).unwrap();
    let wanted = Port::new(4000).unwrap();
    for (script, port, gives, reach) in [
        ("vite", vite, "npm run dev", Reach::Unneeded),
        ("vite --port 4000", wanted, "npm run dev", Reach::Unneeded),
        (
            "vite --port 4000",
            vite,
            "npm run dev -- --port 5173",
            Reach::Argument,
        ),
    ] {
        let found = detected("npm run dev", &[("dev", script)], &[]);
        let injection = found.inject(port, &argv("npm run dev"));
        assert_eq!(
            (injection.argv, injection.reach),
            (argv(gives), reach),
            "{script}"
        );
    }
    let found = detected("npm run dev", &[("dev", "vite")], &[]);
    let injection = found.inject_always(vite, &argv("npm run dev"));
    assert_eq!(injection.argv, argv("npm run dev -- --port 5173"));
    let storybook = detected("npm run dev", &[("dev", "storybook dev")], &[]);
    let port = storybook.default_port.unwrap();
    let injection = storybook.inject(port, &argv("npm run dev"));
    assert_eq!(
        injection.argv,
        argv("npm run dev -- -p 6006"),
        "by itself it takes a random port"
    );
}

#[test]
fn what_looks_like_no_server_gets_a_port_when_the_user_says_that_it_is_one() {
    for line in ["sleep 1000", "vite build", "python3 -m http.server 80"] {
        let found = detected(line, &[], &[]).as_service(&argv(line));
        let injection = found.inject_always(port(), &argv(line));
        assert_eq!(found.outcome, Outcome::Generic, "{line}");
        assert_eq!(injection.argv, argv(line));
        assert_eq!(
            injection.env,
            [("PORT".to_owned(), port().to_string().into())]
        );
        assert_eq!(injection.reach, Reach::Environment, "{line}");
    }
}
