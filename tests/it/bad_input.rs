//! What people type wrong and what is broken in their files: a clear message, a documented exit code, and wherever the
//! command can run without it, the command runs.

use std::fs;

use nix::sys::signal::Signal;
use styxy_tests::Deadline;

use crate::sandbox;

/// Exit code of a command line that was not understood.
const USAGE: i32 = 2;

#[test]
fn wrong_options_are_refused_before_anything_runs() {
    let sandbox = sandbox();
    for (arguments, word) in [
        (
            ["run", "--type", "bad type!", "--", "echo", "ran"].as_slice(),
            "bad type!",
        ),
        (&["run", "--type", "", "--", "echo", "ran"], "type"),
        (&["run", "--port", "0", "--", "echo", "ran"], "0"),
        (&["run", "--port", "80", "--", "echo", "ran"], "80"),
        (&["run", "--port", "70000", "--", "echo", "ran"], "70000"),
        (&["run", "--port", "http", "--", "echo", "ran"], "http"),
        (&["run", "--port=-1", "--", "echo", "ran"], "-1"),
        (&["run", "--nonsense", "--", "echo", "ran"], "--nonsense"),
        (&["run", "--json", "--", "echo", "ran"], "--dry-run"),
        (&["run"], "COMMAND"),
        (&["run", "--"], "COMMAND"),
        (&["frobnicate"], "frobnicate"),
        (&[], "styxy"),
    ] {
        let refused = sandbox.styxy(arguments).run().exited(USAGE);
        assert_eq!(refused.stdout, "", "{arguments:?}");
        assert!(
            refused.stderr.contains(word),
            "{arguments:?}: {}",
            refused.stderr
        );
    }
    assert!(sandbox.processes().is_empty(), "no daemon was started");
}

#[test]
fn help_is_no_error() {
    let sandbox = sandbox();
    for arguments in [
        ["--help"].as_slice(),
        &["run", "--help"],
        &["list", "--help"],
        &["--version"],
    ] {
        let help = sandbox.styxy(arguments).run().success();
        assert!(help.stdout.contains("styxy"), "{arguments:?}");
        assert_eq!(help.stderr, "", "{arguments:?}");
    }
}

#[test]
fn a_broken_recipe_is_shown_where_it_is_broken_and_left_out() {
    let sandbox = sandbox();
    let recipes = sandbox.home().join(".styxy/recipes");
    fs::create_dir_all(&recipes).expect("mkdir");
    fs::write(recipes.join("mine.toml"), "name = \"mine\"\ntype = = 3\n").expect("write");
    let ended = sandbox
        .managed(["sh", "-c", "echo ran; exit 3"])
        .run()
        .exited(3);
    assert_eq!(ended.stdout, "ran\n");
    let place = format!("{}:2:", recipes.join("mine.toml").display());
    let first = ended.stderr.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("styxy: ") && first.contains(&place),
        "{ended:?}"
    );
    assert!(
        ended.stderr.contains('^') && ended.stderr.contains("type = = 3"),
        "{ended:?}"
    );
}

#[test]
fn a_broken_package_json_counts_as_none() {
    for text in [
        "{ \"scripts\": ",
        "[]",
        "\u{feff}{}",
        "",
        "{\"scripts\": {\"dev\": 7}}",
    ] {
        let sandbox = sandbox();
        let project = sandbox.project("broken");
        fs::write(project.join("package.json"), text).expect("write");
        let call = sandbox
            .managed(["python3", "-m", "http.server", "8000"])
            .in_dir(&project);
        let run = call.spawn();
        sandbox.page(8000, "/", "package.json", Deadline::short());
        run.signal(Signal::SIGTERM);
        let ended = run.end(Deadline::short());
        assert!(ended.notices().len() <= 1, "{text:?}: {ended:#?}");
    }
}

#[test]
fn a_script_that_does_not_exist_fails_as_npm_says() {
    let sandbox = sandbox();
    let npm = ["npm", "run", "nothing"];
    if sandbox.command(["npm", "--version"]).run().code() != 0 {
        styxy_tests::say(
            "SKIPPED: bad_input::a_script_that_does_not_exist_fails_as_npm_says: no npm",
        );
        return;
    }
    let project = sandbox.project("empty");
    fs::write(project.join("package.json"), "{\"name\": \"empty\"}").expect("write");
    let bare = sandbox.command(npm).in_dir(&project).run();
    let managed = sandbox.managed(npm).in_dir(&project).run();
    assert_eq!(managed.status, bare.status);
    assert!(managed.stderr.contains("Missing script"), "{managed:?}");
}

#[test]
fn a_broken_configuration_stops_a_daemon_that_is_started_by_name_and_no_command() {
    let sandbox = sandbox();
    let home = sandbox.home().join(".styxy");
    let file = home.join("config.toml");
    fs::create_dir_all(home).expect("mkdir");
    fs::write(&file, "[daemon]\nlisten_prot = 9876\n").expect("write");
    let told = format!(
        "styxy: {}:2:1: unknown key `daemon.listen_prot`; known are `listen_port`\n\
         2 | listen_prot = 9876\n  | ^^^^^^^^^^^\n",
        file.display()
    );
    for start in [&["daemon", "start"][..], &["daemon", "start", "-d"]] {
        let ended = sandbox.styxy(start).run().exited(78);
        assert_eq!(ended.stderr, told);
        assert!(sandbox.daemons().is_empty());
    }
    let server = ["python3", "-m", "http.server", "8000"];
    let run = sandbox.managed(server).spawn();
    sandbox.page(8000, "/", "Directory listing", Deadline::short());
    let list = sandbox.styxy(["list"]).run().success();
    assert!(list.stdout.contains("8000"), "a daemon serves: {list:?}");
    run.signal(Signal::SIGTERM);
    run.exit_status(Deadline::short());
    sandbox.styxy(["daemon", "stop"]).run().success();
}
