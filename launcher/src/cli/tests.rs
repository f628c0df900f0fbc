//! What is understood, what is refused and with which words, and the help of every command.

use std::ffi::OsString;

use clap::CommandFactory as _;

use super::*;

mod help;

fn command(words: &[&str]) -> Vec<OsString> {
    RunCli::try_parse_from([&["styxy run"], words].concat())
        .unwrap()
        .run
        .command
}

#[test]
fn the_definitions_are_sound() {
    Cli::command().debug_assert();
    RunCli::command().debug_assert();
}

#[test]
fn everything_after_the_command_name_is_the_commands_own() {
    assert_eq!(command(&["--", "npm", "run", "dev"]), ["npm", "run", "dev"]);
    assert_eq!(
        command(&["--", "npm", "run", "dev", "--", "--port", "1"]),
        ["npm", "run", "dev", "--", "--port", "1"]
    );
    assert_eq!(
        command(&["npm", "run", "dev", "--", "-q"]),
        ["npm", "run", "dev", "--", "-q"]
    );
    assert_eq!(
        command(&["-q", "vite", "--port", "1", "--quiet"]),
        ["vite", "--port", "1", "--quiet"]
    );
    assert_eq!(command(&["--", "--weird"]), ["--weird"]);
    assert_eq!(command(&["x", "--help"]), ["x", "--help"]);
}

#[test]
fn a_command_without_options_is_what_the_parser_makes_of_it() {
    let alone = |words: &[&str]| {
        RunArgs::of_command_alone(&words.iter().map(OsString::from).collect::<Vec<_>>())
    };
    for words in [
        ["--", "x"].as_slice(),
        &["x"],
        &["x", "--", "-q"],
        &["--", "x", "--", "y"],
        &["--", "--weird", "-q"],
        &["--", "--", "x"],
        &["--", ""],
        &["", "x"],
        &["x", "--help"],
        &["--", "--help"],
    ] {
        let parsed = RunCli::try_parse_from([&["styxy run"], words].concat()).unwrap();
        assert_eq!(alone(words), Some(parsed.run), "{words:?}");
    }
    for words in [[].as_slice(), &["--"], &["-q", "x"], &["-"], &["--help"]] {
        assert_eq!(alone(words), None, "{words:?}");
    }
}

#[test]
fn an_unknown_option_is_not_taken_for_the_command() {
    let error = RunCli::try_parse_from(["styxy run", "--nonsense", "--", "x"]).unwrap_err();
    assert_eq!(error.kind(), clap::error::ErrorKind::UnknownArgument);
}

#[test]
fn bad_values_are_told_with_the_value_and_the_remedy() {
    let error = |words: &[&str]| {
        let error =
            RunCli::try_parse_from([&["styxy run"], words, &["--", "x"]].concat()).unwrap_err();
        error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    for grace in ["-1", "86401", "NaN", "soon"] {
        let option = format!("--grace={grace}");
        assert_eq!(
            error(&[&option]),
            format!(
                "error: invalid value '{grace}' for '--grace <SECONDS>': not a number of seconds from 0 to 86400"
            )
        );
    }
    assert_eq!(
        error(&["--port", "0"]),
        "error: invalid value '0' for '--port <PORT>': not a port number from 1 to 65535"
    );
    assert_eq!(
        error(&["--port", "70000"]),
        "error: invalid value '70000' for '--port <PORT>': not a port number from 1 to 65535"
    );
    assert_eq!(
        error(&["--port", "80"]),
        "error: invalid value '80' for '--port <PORT>': ports below 1024 are not handed out; run the command without styxy to use one"
    );
    for (words, option) in [
        (["--type", "bad type!"], "--type <TYPE>"),
        (["--type", ""], "--type <TYPE>"),
    ] {
        assert_eq!(
            error(&words),
            format!(
                "error: invalid value '{}' for '{option}': a service type is 1 to 50 letters, digits and hyphens",
                words[1]
            )
        );
    }
}

#[test]
fn any_name_can_be_a_service_type() {
    let cli = RunCli::try_parse_from(["styxy run", "--type", "payments-2", "x"]).unwrap();
    let service_type = cli.run.service_type.unwrap();
    assert_eq!(service_type.as_str(), "payments-2");
    assert!(service_type.builtin().is_none());
}

/// The first line of what is said of words that are not understood.
fn complaint(words: &[&str]) -> String {
    let words = ["styxy"].iter().chain(words);
    let error = Cli::try_parse_from(words).unwrap_err();
    let text = error.to_string();
    text.lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned()
}

#[test]
fn words_that_are_none_of_ours_are_told_with_the_word() {
    for (words, said) in [
        (
            ["check", "abc"].as_slice(),
            "invalid value 'abc' for '<PORT>': not a port number from 1 to 65535",
        ),
        (
            &["whose", "0"],
            "invalid value '0' for '<PORT>': not a port number from 1 to 65535",
        ),
        (
            &["allocate", "dev", "-p", "abc"],
            "invalid value 'abc' for '--port <PORT>': not a port number from 1 to 65535",
        ),
        (
            &["allocate", "dev", "--preferred", "80"],
            "invalid value '80' for '--port <PORT>': ports below 1024 are not handed out; run the command without styxy to use one",
        ),
        (
            &["allocate", "bad type!"],
            "invalid value 'bad type!' for '[TYPE]': a service type is 1 to 50 letters, digits and hyphens",
        ),
        (
            &["allocate", "dev", "a b"],
            "invalid value 'a b' for '[NAME]': a name is 1 to 100 letters, digits, `-`, `_` and `.`",
        ),
        (
            &["allocate", "dev", "--instance", "a.b"],
            "invalid value 'a.b' for '--instance <ID>': an instance is 1 to 100 letters, digits, `-` and `_`",
        ),
        (
            &["allocate", "dev", "--ttl", "0"],
            "invalid value '0' for '--ttl <SECONDS>': not a number of seconds from 1 to 2592000 (30 days)",
        ),
        (
            &["allocate", "dev", "--pid", "0"],
            "invalid value '0' for '--pid <PID>': 0 is not in 1..=4294967295",
        ),
        (
            &["release", "12-34"],
            "invalid value '12-34' for '<LOCKID|PORT>...': neither a lock id (`styxy list -v` shows them) nor a port number from 1 to 65535",
        ),
        (
            &["suggest", "dev", "-c", "0"],
            "invalid value '0' for '--count <N>': 0 is not in 1..=100",
        ),
        (&["config", "frob"], "unrecognized subcommand 'frob'"),
        (&["alocate", "dev"], "unrecognized subcommand 'alocate'"),
    ] {
        assert_eq!(complaint(words), said, "{words:?}");
    }
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    for words in [
        ["allocate"].as_slice(),
        &["allocate", "dev", "-s", "api"],
        &["allocate", "dev", "web", "-n", "shop"],
        &["allocate", "dev", "--strict"],
        &["allocate", "dev", "--pid", "7", "--hold"],
        &["allocate", "dev", "--ttl", "7", "--hold"],
        &["allocate", "dev", "--ttl", "7", "--pid", "7"],
        &["allocate", "dev", "-q", "--json"],
        &["allocate", "dev", "--", "serve"],
        &["allocate", "dev", "--hold", "--json", "--", "serve"],
        &["release"],
    ] {
        let words = ["styxy"].iter().chain(words);
        let error = Cli::try_parse_from(words.clone()).expect_err("refused");
        assert_eq!(
            error.exit_code(),
            i32::from(crate::exit_codes::USAGE),
            "{words:?}"
        );
    }
}

#[test]
fn a_lease_is_named_by_id_or_by_port() {
    let target = |word: &str| values::target(word).unwrap();
    let id = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    assert_eq!(target(id), Target::LockId(id.to_owned()));
    assert_eq!(target("3000").to_string(), "3000");
    for word in [
        "../../../x",
        "6ba7b810-9dad-41d1-80b4-00c04fd430c",
        "6ba7b810-9dad-41d1-80b4/00c04fd430c8",
    ] {
        assert!(values::target(word).is_err(), "{word}");
    }
}

/// What `words` print, on a terminal of 100 columns.
fn help(words: &[&str]) -> String {
    let (command, name) = match words {
        ["run", ..] => (RunCli::command(), None),
        _ => (Cli::command(), Some("styxy")),
    };
    let words = name.iter().chain(words);
    let shown = command.term_width(100).try_get_matches_from(words);
    shown.unwrap_err().to_string()
}

#[test]
fn the_help_of_run_and_of_everything() {
    insta::assert_snapshot!(help(&["run", "-h"]), @r"
    Run a command on a port of its own

    Usage: styxy run [OPTIONS] <COMMAND>...

    Arguments:
      <COMMAND>...  The command and its arguments; everything after its name is the command's own

    Options:
      -p, --port <PORT>      Use this port if it is free (1024 to 65535)
          --strict           Fail with exit code 125 rather than use another port than the wanted one
      -t, --type <TYPE>      Treat the command as this kind of service, such as `dev`, `api` or
                             `storybook`
      -n, --name <NAME>      Name of the service; services of one package that run side by side need
                             different ones
          --grace <SECONDS>  How long the command's processes may keep the port when the run is asked to
                             end; then they are killed [default: 10]
          --exec             Become the command instead of standing in front of it
      -q, --quiet            Say nothing, not even which port it became
          --dry-run          Print what would be run, on which port, and why; run nothing
          --json             With --dry-run: print JSON
      -h, --help             Print help (see more with '--help')

    Examples:
      styxy run -- npm run storybook      the next free storybook port, as a flag of the tool
      styxy run --port 4000 -- vite       port 4000 if it is free, else another one
      styxy run --dry-run -- npm run dev  what would be run, on which port, and why

    Exit codes: the command's own; 2 wrong options, 123 the service ran elsewhere and has ended,
    125 `--strict` and the port is taken, 126 the command cannot be executed, 127 the command was
    not found.
    ");
    insta::assert_snapshot!(help(&["--help"]), @"
    Run development servers on ports of their own

    Usage: styxy <COMMAND>

    Servers:
      run        Run a command on a port of its own

    Leases:
      allocate   Lease a port
      release    Give leased ports back
      list       List the leased ports
      cleanup    End leases that nobody uses
      instances  List the registered instances (agents, sessions, editors)

    Ports:
      check      Tell whether a port is free, and who has it
      whose      Tell which process listens on a port, and what it belongs to
      scan       List the ports of a range that are leased or in use
      suggest    Name free ports for a kind of service

    Daemon:
      status     Tell how the daemon is and what it serves
      daemon     Start, stop or look at the daemon
      config     Show or change the configuration
      token      Manage the token of the HTTP API
      audit      Show what was changed, and when
      doctor     Find out what is wrong with styxy on this machine

    Options:
      -h, --help     Print help
      -V, --version  Print version

    `styxy help COMMAND` tells more. The daemon starts by itself when a command needs it.
    ");
}

#[test]
fn the_help_of_run_is_the_same_from_both_parsers() {
    let whole = Cli::command().term_width(100);
    let whole = whole.try_get_matches_from(["styxy", "run", "--help"]);
    assert_eq!(whole.unwrap_err().to_string(), help(&["run", "--help"]));
}

#[test]
fn every_exit_code_of_our_own_is_in_the_help() {
    use crate::exit_codes::{FOLLOWED, NOT_EXECUTABLE, NOT_FOUND, PORT_TAKEN, USAGE};
    let help = help(&["run", "--help"]);
    for code in [USAGE, FOLLOWED, PORT_TAKEN, NOT_EXECUTABLE, NOT_FOUND] {
        assert!(help.contains(&format!("{code} ")), "{code}: {help}");
    }
}

#[test]
fn the_overview_has_every_command_with_its_own_words() {
    let overview = help(&["--help"]);
    let mut cli = Cli::command();
    cli.build();
    for command in cli.get_subcommands().filter(|it| it.get_name() != "help") {
        let about = command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        let line = format!("  {:11}{about}\n", command.get_name());
        assert!(overview.contains(&line), "{line}");
    }
}
