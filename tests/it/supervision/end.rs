//! How the command ends, and how it fails to begin.

use super::process::{Outcome, Running, outcome};
use super::{Front, Fronts, PROBE, file};

/// Runs by way of a shell, so that "bare" also has an exit code when the command does not start. Without core dumps, which only the bare
/// command is to write.
pub(super) fn by_shell(front: &Front, command: &[&str]) -> Outcome {
    let shell = ["sh", "-c", "ulimit -c 0; exec \"$@\"", "sh"];
    outcome(front.command(&shell, command), b"")
}

#[test]
fn exit_codes_are_the_childs() {
    let fronts = Fronts::new();
    for code in [0, 1, 2, 3, 64, 125, 126, 127, 128, 143, 254, 255] {
        let script = format!("echo out; echo err >&2; exit {code}");
        fronts.compare(&format!("code {code}"), |front| {
            let outcome = by_shell(front, &["sh", "-c", &script]);
            assert_eq!(outcome.code, Some(code));
            outcome
        });
    }
}

#[test]
fn death_by_signal_is_death_by_the_same_signal() {
    let fronts = Fronts::new();
    let mut signals = vec![
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGKILL,
        libc::SIGUSR1,
    ];
    signals.extend([
        libc::SIGSEGV,
        libc::SIGABRT,
        libc::SIGPIPE,
        libc::SIGALRM,
        libc::SIGTRAP,
        40,
    ]);
    for signal in signals {
        let script = format!("kill -{signal} $$");
        fronts.compare(&format!("signal {signal}"), |front| {
            let outcome = by_shell(front, &["sh", "-c", &script]);
            assert_eq!(outcome.signal, Some(signal));
            outcome
        });
    }
}

#[test]
fn a_command_that_does_not_exist_is_127() {
    let fronts = Fronts::new();
    for name in ["styxy-no-such-command", "/no/such/file", "./no-such-file"] {
        fronts.compare(name, |front| {
            let outcome = by_shell(front, &[name]);
            assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(127), ""));
            outcome.code
        });
    }
}

#[test]
fn a_file_that_is_not_executable_is_126() {
    let fronts = Fronts::new();
    for name in ["/etc/passwd", "/tmp"] {
        fronts.compare(name, |front| {
            let outcome = by_shell(front, &[name]);
            assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(126), ""));
            outcome.code
        });
    }
}

#[test]
fn a_script_without_an_interpreter_line_is_run_by_the_shell() {
    let fronts = Fronts::new();
    let dir = tempfile::tempdir().unwrap();
    let script = file(&dir, "script");
    program(&script, "755", "echo \"$@\"; exit 5\n");
    fronts.compare("script", |front| {
        let outcome = by_shell(front, &[&script, "a b", "", "*"]);
        assert_eq!(
            (outcome.code, outcome.stdout.as_str()),
            (Some(5), "a b  *\n")
        );
        outcome
    });
}

#[test]
fn the_command_is_looked_for_along_the_path() {
    let fronts = Fronts::new();
    let dir = tempfile::tempdir().unwrap();
    for (place, mode, body) in [
        ("first", "644", ""),
        ("second", "755", "#!/bin/sh\necho second\n"),
    ] {
        std::fs::create_dir(dir.path().join(place)).unwrap();
        program(&file(&dir, &format!("{place}/tool")), mode, body);
    }
    let path = format!(
        "PATH={}:{}:/usr/bin:/bin",
        file(&dir, "first"),
        file(&dir, "second")
    );
    fronts.compare("a file that is not executable is passed over", |front| {
        let found = outcome(front.command(&["env", &path], &["tool"]), b"");
        assert_eq!(found.stdout, "second\n");
        found
    });
    let path = format!("PATH={}", file(&dir, "first"));
    fronts.compare("unless there is no other", |front| {
        let found = outcome(front.command(&["/usr/bin/env", &path], &["tool"]), b"");
        assert_eq!(found.code, Some(126));
        found.code
    });
}

#[test]
fn bytes_pass_through_unchanged() {
    let fronts = Fronts::new();
    let input: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    fronts.compare("checksum of stdin", |front| {
        outcome(front.command(&[], &["cksum"]), &input)
    });
    fronts.compare("a megabyte of output", |front| {
        let outcome = outcome(
            front.command(
                &[],
                &[
                    "sh",
                    "-c",
                    "head -c 1000000 /dev/zero | tr '\\0' x; echo >&2 done",
                ],
            ),
            b"",
        );
        assert_eq!(
            (outcome.stdout.len(), outcome.stderr.as_str()),
            (1_000_000, "done\n")
        );
        outcome
    });
}

#[test]
fn arguments_are_the_childs_byte_for_byte() {
    let fronts = Fronts::new();
    fronts.compare("arguments", |front| {
        let outcome = outcome(
            front.command(
                &[],
                &["printf", "[%s]", "--", "--grace=1", "-h", "", "a\nb", "ü"],
            ),
            b"",
        );
        assert_eq!(outcome.stdout, "[--][--grace=1][-h][][a\nb][ü]");
        outcome
    });
}

#[test]
fn what_the_child_leaves_running_is_left_alone() {
    let fronts = Fronts::new();
    fronts.compare("leftovers", |front| {
        let mut shell =
            Running::start(front.command(&[], &["sh", "-c", "\"$1\" & read ready", "sh", PROBE]));
        let leftover = shell.ready();
        assert_eq!(
            shell.end(),
            (Some(1), None),
            "`read` found the end of its input"
        );
        super::process::send(leftover.pid, super::process::FENCE);
        assert_eq!(shell.line(), "got 64", "it lives and can still write");
        super::process::send(leftover.pid, super::process::END);
    });
}

/// Makes an executable file, by another process: a descriptor of our own would be copied into whatever another test forks just then,
/// and a file that anybody has open for writing cannot be executed.
fn program(path: &str, mode: &str, text: &str) {
    let mut install = std::process::Command::new("install");
    install.args(["-m", mode, "/dev/stdin", path]);
    let result = outcome(install, text.as_bytes());
    assert_eq!(result.code, Some(0), "{result:?}");
}
