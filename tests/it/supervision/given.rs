//! What the command is given: signal dispositions and mask, descriptors, limits.

use super::process::{Outcome, outcome};
use super::{Front, Fronts, Kind, file};

/// Puts a process into a state that only a parent can give, then becomes the command.
const GIVE: &str = r"
import os, resource, signal, sys
for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
    signal.signal(number, signal.SIG_DFL)
for word in sys.argv[1].split():
    what, value = word.split('=')
    value = int(value)
    if what == 'ignore':
        signal.signal(value, signal.SIG_IGN)
    elif what == 'block':
        signal.pthread_sigmask(signal.SIG_BLOCK, [value])
    elif what == 'close':
        os.close(value)
    elif what == 'open':
        os.dup2(os.open('/dev/null', os.O_RDONLY), value)
    elif what == 'umask':
        os.umask(value)
    elif what == 'nice':
        os.nice(value)
    elif what == 'files':
        resource.setrlimit(resource.RLIMIT_NOFILE, (value, value))
os.execvp(sys.argv[2], sys.argv[2:])
";

fn given(state: &str, front: &Front, command: &[&str]) -> Outcome {
    outcome(
        front.command(&["python3", "-S", "-E", "-c", GIVE, state], command),
        b"",
    )
}

/// Copies its own signal state to a file. Not a Rust program, whose runtime would change what it is to show.
fn signal_state(state: &str, front: &Front) -> String {
    let dir = tempfile::tempdir().unwrap();
    let copy = file(&dir, "status");
    let copied = given(state, front, &["cp", "/proc/self/status", &copy]);
    assert_eq!(copied.code, Some(0), "{copied:?}");
    let status = std::fs::read_to_string(copy).unwrap();
    let wanted = [
        "SigPnd",
        "ShdPnd",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "Umask",
        "NoNewPrivs",
        "Seccomp:",
        "CapEff",
        "CapInh",
        "CapAmb",
    ];
    let lines = status
        .lines()
        .filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The line of a signal set in which exactly these signals are.
fn set_line(name: &str, signals: &[i32]) -> String {
    // Rust's own way to start a process (in this test) leaves glibc's two signals ignored.
    let own: &[i32] = if name == "SigIgn" { &[32, 33] } else { &[] };
    let bits = signals
        .iter()
        .chain(own)
        .fold(0_u64, |bits, signal| bits | 1 << (signal - 1));
    format!("{name}:\t{bits:016x}\n")
}

#[test]
fn the_default_dispositions_are_given_on() {
    let fronts = Fronts::new();
    fronts.compare("nothing ignored, SIGPIPE neither", |front| {
        let state = signal_state("", front);
        assert!(state.contains(&set_line("SigIgn", &[])), "{state}");
        state
    });
}

#[test]
fn ignored_signals_stay_ignored() {
    let fronts = Fronts::new();
    for signal in [
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGHUP,
        libc::SIGPIPE,
        libc::SIGCHLD,
        libc::SIGTSTP,
        44,
    ] {
        fronts.compare(&format!("signal {signal} ignored"), |front| {
            let state = signal_state(&format!("ignore={signal}"), front);
            assert!(state.contains(&set_line("SigIgn", &[signal])), "{state}");
            state
        });
    }
}

#[test]
fn the_signal_mask_is_given_on() {
    let fronts = Fronts::new();
    fronts.compare("blocked signals", |front| {
        let state = signal_state("block=2 block=10 block=15 block=32 block=64", front);
        // 32 is glibc's own and no program can block it by glibc's calls.
        assert!(
            state.contains(&set_line("SigBlk", &[2, 10, 15, 64])),
            "{state}"
        );
        state
    });
}

#[test]
fn an_ignored_sigchld_does_not_hide_the_exit_code() {
    let fronts = Fronts::new();
    fronts.compare("exit code", |front| {
        given("ignore=17", front, &["sh", "-c", "exit 9"])
    });
    fronts.compare("signal", |front| {
        given("ignore=17", front, &["sh", "-c", "kill -9 $$"])
    });
}

#[test]
fn the_child_dies_of_a_broken_pipe_only_where_it_would() {
    let fronts = Fronts::new();
    // `yes` into a closed pipe: death by SIGPIPE, or an error message if that is ignored.
    for (state, message) in [("", false), ("ignore=13", true)] {
        fronts.compare(state, |front| {
            let outcome = given(
                state,
                front,
                &["bash", "-c", "yes | head -n 1; exit ${PIPESTATUS[0]}"],
            );
            assert_eq!(!outcome.stderr.is_empty(), message, "{outcome:?}");
            outcome
        });
    }
}

#[test]
fn closed_standard_descriptors_stay_closed() {
    let fronts = Fronts::new();
    for state in [
        "close=0",
        "close=1",
        "close=2",
        "close=0 close=1",
        "close=1 close=2",
        "close=0 close=1 close=2",
    ] {
        fronts.compare(state, |front| {
            let dir = tempfile::tempdir().unwrap();
            let list = file(&dir, "list");
            // `find` opens the list before the directory, so both take the lowest free numbers, which shows what was free.
            let outcome = given(
                state,
                front,
                &[
                    "find",
                    "/proc/self/fd",
                    "-type",
                    "l",
                    "-fprintf",
                    &list,
                    "%f\n",
                ],
            );
            let list = std::fs::read_to_string(list).unwrap();
            assert!(!list.is_empty());
            (outcome.code, outcome.signal, outcome.stdout, list)
        });
    }
}

#[test]
fn other_descriptors_are_inherited_and_none_is_added() {
    let fronts = Fronts::new();
    fronts.compare("descriptors", |front| {
        let outcome = given("open=7 open=250", front, &["ls", "/proc/self/fd"]);
        assert!(
            outcome.stdout.contains("\n250\n") && outcome.stdout.ends_with("\n7\n"),
            "{outcome:?}"
        );
        outcome
    });
}

#[test]
fn limits_umask_and_niceness_are_untouched() {
    let fronts = Fronts::new();
    fronts.compare("state", |front| {
        given(
            "umask=63 nice=3 files=777",
            front,
            &["sh", "-c", "umask; nice; ulimit -a; ulimit -aH"],
        )
    });
}

#[test]
fn what_is_preloaded_already_stays() {
    let fronts = Fronts::new();
    let mine = ["env", "LD_PRELOAD=libm.so.6", "NODE_OPTIONS=--title=mine"];
    let show = ["sh", "-c", "echo \"$NODE_OPTIONS $LD_PRELOAD\""];
    for front in fronts.wrapped() {
        let shown = outcome(front.command(&mine, &show), b"").stdout;
        let ours = shown.strip_prefix("--title=mine libm.so.6:");
        assert!(
            ours.is_some_and(|ours| ours.ends_with("/styxy.so\n")),
            "{shown}"
        );
    }
}

#[test]
fn a_command_runs_in_a_directory_that_is_gone() {
    let fronts = Fronts::new();
    let leave = "mkdir gone && cd gone && rmdir ../gone && exec \"$@\"";
    fronts.compare("nowhere", |front| {
        let before = ["sh", "-c", leave, "sh"];
        let outcome = outcome(
            front.command(&before, &["sh", "-c", "echo here; exit 3"]),
            b"",
        );
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(3), "here\n"));
        outcome
    });
}

#[test]
fn the_fronts_are_what_they_are_called() {
    let fronts = Fronts::new();
    let show = [
        "sh",
        "-c",
        "echo ${STYXY_LEASE:+lease} ${LD_PRELOAD:+library}",
    ];
    let shown = |kind| outcome(fronts.front(kind).command(&[], &show), b"").stdout;
    assert_eq!(shown(Kind::Alone), "lease library\n");
    assert!(fronts.sandbox.daemons().is_empty());
    assert_eq!(shown(Kind::Managed), "lease library\n");
    assert_eq!(fronts.sandbox.daemons().len(), 1);
    assert_eq!(shown(Kind::Bare), "\n");
}

#[test]
fn a_command_runs_without_a_descriptor_to_spare() {
    let fronts = Fronts::new();
    fronts.compare("five descriptors", |front| {
        given("files=5", front, &["echo", "hello"])
    });
    fronts.compare("four descriptors", |front| {
        given("files=4", front, &["sh", "-c", "exit 3"])
    });
    fronts.compare("sixty-four descriptors", |front| {
        given("files=64", front, &["sh", "-c", "exit 3"])
    });
}
