//! Signals sent by processes: to the command as its parent knows it, and to its process group.

use std::path::PathBuf;
use std::process::Command;

use nix::unistd::Pid;

use super::process::{END, FENCE, Running, children, eventually, send, state};
use super::{Front, Fronts, Kind, PROBE};

/// All that a process can take, but for the ones that tell about children.
pub(super) fn signals() -> impl Iterator<Item = i32> {
    let not = [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGCHLD,
        32,
        33,
        FENCE,
        END,
    ];
    (1..=64).filter(move |signal| !not.contains(signal))
}

/// Starts a probe, does something to it, and returns the signals that it saw.
fn seen(front: &Front, act: impl Fn(&Running)) -> Vec<String> {
    let mut probe = Running::start(front.command(&[], &[PROBE]));
    probe.ready();
    act(&probe);
    probe.signal(FENCE);
    let lines = probe.lines_before("got 64");
    probe.signal(END);
    assert_eq!(probe.end(), (Some(0), None));
    lines
}

#[test]
fn each_signal_to_the_command_reaches_the_child_once() {
    let fronts = Fronts::new();
    fronts.compare("every signal, one at a time", |front| {
        let mut probe = Running::start(front.command(&[], &[PROBE]));
        probe.ready();
        for signal in signals() {
            probe.signal(signal);
            probe.signal(FENCE);
            assert_eq!(probe.lines_before("got 64"), [format!("got {signal}")]);
        }
        probe.signal(END);
        probe.end()
    });
}

#[test]
fn each_signal_to_the_group_reaches_the_child_once() {
    let fronts = Fronts::new();
    fronts.compare("every signal, one at a time", |front| {
        let mut probe = Running::start(front.command(&[], &[PROBE]));
        probe.ready();
        for signal in signals() {
            probe.signal_group(signal);
            probe.signal(FENCE);
            assert_eq!(probe.lines_before("got 64"), [format!("got {signal}")]);
        }
        probe.signal(END);
        probe.end()
    });
}

#[test]
fn a_terminating_signal_to_the_group_is_never_doubled() {
    let fronts = Fronts::new();
    for front in fronts.wrapped() {
        for _ in 0..10 {
            for signal in [libc::SIGTERM, libc::SIGINT] {
                let lines = seen(&front, |probe| probe.signal_group(signal));
                assert_eq!(lines, [format!("got {signal}")]);
            }
        }
    }
}

#[test]
fn the_same_signal_twice_arrives_twice() {
    let fronts = Fronts::new();
    fronts.compare("TERM, TERM", |front| {
        let mut probe = Running::start(front.command(&[], &[PROBE]));
        probe.ready();
        for _ in 0..2 {
            probe.signal(libc::SIGTERM);
            assert_eq!(probe.line(), "got 15");
        }
        probe.signal_group(libc::SIGTERM);
        assert_eq!(probe.line(), "got 15");
        probe.signal(FENCE);
        assert_eq!(probe.lines_before("got 64"), Vec::<String>::new());
        probe.signal(END);
        probe.end()
    });
}

#[test]
fn a_signal_at_any_moment_of_the_start_ends_the_command() {
    let fronts = Fronts::new();
    for front in fronts.wrapped() {
        // No ready line on purpose: the signal falls into the start-up.
        for round in 0..20 {
            let mut command = Running::start(front.command(&[], &["sleep", "1000"]));
            for _ in 0..round * 10 {
                std::thread::yield_now();
            }
            command.signal(libc::SIGTERM);
            assert_eq!(command.end(), (None, Some(libc::SIGTERM)), "round {round}");
        }
    }
}

#[test]
fn a_signal_to_all_that_look_like_styxy_reaches_the_child() {
    let fronts = Fronts::new();
    for front in fronts.wrapped() {
        // No other command line has these digits, the child's neither.
        let mark = format!("--name=all-{}-{:?}", std::process::id(), front.kind);
        let mut probe = Running::start(front.with(&[&mark]).command(&[], &[PROBE]));
        let ready = probe.ready();
        let pkill = Command::new("pkill")
            .args(["-TERM", "-f", "--", &mark])
            .status();
        assert!(pkill.is_ok_and(|status| status.success()));
        assert_eq!(probe.line(), "got 15");
        // What looks at the executable, as `pidof` and `killall /path` do.
        let program = std::fs::read_link(exe(ready.parent)).unwrap();
        for other in children(ready.parent) {
            let theirs = std::fs::read_link(exe(other)).unwrap();
            assert_ne!(theirs, program, "process {other}");
        }
        probe.signal(FENCE);
        assert_eq!(probe.lines_before("got 64"), Vec::<String>::new());
        probe.signal(END);
        assert_eq!(probe.end(), (Some(0), None));
    }
}

#[test]
fn the_witness_takes_next_to_no_memory() {
    let fronts = Fronts::new();
    for front in fronts.wrapped() {
        let mut probe = Running::start(front.command(&[], &[PROBE]));
        let ready = probe.ready();
        let witness = children(ready.parent)
            .into_iter()
            .find(|child| *child != ready.pid)
            .unwrap();
        let memory = std::fs::read_to_string(format!("/proc/{witness}/smaps_rollup")).unwrap();
        let line = memory.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u32>().ok());
        assert!(
            kilobytes.is_some_and(|kilobytes| kilobytes <= 24),
            "{memory}"
        );
        probe.signal(END);
        assert_eq!(probe.end(), (Some(0), None));
    }
}

fn exe(pid: Pid) -> String {
    format!("/proc/{pid}/exe")
}

#[test]
fn what_the_child_sends_to_its_group_comes_once() {
    let fronts = Fronts::new();
    let script = "trap 'echo term' TERM; kill -TERM 0; kill -TERM 0; trap - TERM; echo end";
    fronts.compare("kill 0", |front| {
        let mut shell = Running::start(front.command(&[], &["sh", "-c", script]));
        let lines = shell.lines_before("end");
        (lines, shell.end())
    });
}

#[test]
fn a_stopped_command_is_woken_by_a_signal_to_it_alone() {
    let fronts = Fronts::new();
    fronts.compare("TSTP, CONT", |front| {
        let mut probe = Running::start(front.command(&[], &[PROBE, "--default=20"]));
        let ready = probe.ready();
        probe.signal(libc::SIGTSTP);
        for pid in [ready.pid, ready.job(front)] {
            eventually("a stop", || (state(pid) == Some('T')).then_some(()));
        }
        probe.signal(libc::SIGCONT);
        probe.signal(FENCE);
        let lines = probe.lines_before("got 64");
        probe.signal(END);
        (lines, probe.end())
    });
}

#[test]
fn a_stopped_group_is_woken_by_a_signal_to_the_group() {
    let fronts = Fronts::new();
    fronts.compare("STOP, CONT", |front| {
        let mut probe = Running::start(front.command(&[], &[PROBE]));
        let ready = probe.ready();
        for _ in 0..5 {
            probe.signal_group(libc::SIGSTOP);
            for pid in [ready.pid, ready.job(front)] {
                eventually("a stop", || (state(pid) == Some('T')).then_some(()));
            }
            probe.signal_group(libc::SIGCONT);
            probe.signal(FENCE);
            assert_eq!(probe.lines_before("got 64"), ["got 18"]);
        }
        probe.signal(END);
        probe.end()
    });
}

#[test]
fn a_child_that_stops_itself_stops_the_command() {
    let fronts = Fronts::new();
    fronts.compare("kill -STOP $$", |front| {
        let mut shell = Running::start(front.command(
            &[],
            &["sh", "-c", "echo ready $$ $PPID; kill -STOP $$; echo woken"],
        ));
        let ready = shell.ready();
        for pid in [ready.pid, ready.job(front)] {
            eventually("a stop", || (state(pid) == Some('T')).then_some(()));
        }
        send(ready.job(front), libc::SIGCONT);
        (shell.line(), shell.end())
    });
}

#[test]
fn what_comes_while_the_command_is_held_by_sigstop_comes_when_it_goes_on() {
    let fronts = Fronts::new();
    fronts.compare("STOP, TERM, USR1, CONT", |front| {
        let mut probe = Running::start(front.command(&[], &[PROBE]));
        let job = probe.ready().job(front);
        for _ in 0..3 {
            probe.signal(libc::SIGSTOP);
            eventually("a stop", || (state(job) == Some('T')).then_some(()));
            for signal in [libc::SIGTERM, libc::SIGUSR1, libc::SIGCONT] {
                probe.signal(signal);
            }
            // Pending signals are taken by number.
            for signal in [libc::SIGUSR1, libc::SIGTERM, libc::SIGCONT] {
                assert_eq!(probe.line(), format!("got {signal}"));
            }
        }
        probe.signal(END);
        probe.end()
    });
}

#[test]
fn at_rest_nothing_wakes_the_launcher() {
    let fronts = Fronts::new();
    let mut probe = Running::start(fronts.front(Kind::Managed).command(&[], &[PROBE]));
    let ready = probe.ready();
    let asleep = || {
        eventually("sleep", || {
            (state(ready.parent) == Some('S')).then(|| switches(ready.parent))
        })
    };
    eventually("the thread that watches the ports", || {
        (threads(ready.parent).len() == 2).then_some(())
    });
    // Through the launcher, so that it has gone past its start-up.
    probe.signal(FENCE);
    assert_eq!(probe.line(), "got 64");
    let before = asleep();
    // A window bounded by events: the child is made to work, past its launcher.
    for _ in 0..50 {
        send(ready.pid, FENCE);
        assert_eq!(probe.line(), "got 64");
    }
    assert_eq!(asleep(), before);
}

/// How often each thread of a process has gone to sleep.
fn switches(pid: Pid) -> Vec<u64> {
    let count = |thread: &PathBuf| {
        let status = std::fs::read_to_string(thread.join("status")).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse().ok())
            .expect("a count")
    };
    threads(pid).iter().map(count).collect()
}

fn threads(pid: Pid) -> Vec<PathBuf> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.map(|task| task.unwrap().path()).collect()
}
