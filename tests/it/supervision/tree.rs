//! The end of the whole tree: what a wrapper does better than the bare command.

use super::process::{END, FENCE, Running, eventually, gone, log_before, send, state};
use super::{Front, Fronts, PROBE, file};

use nix::unistd::Pid;

/// A shell that starts a server as npm does: it does not pass signals on.
const SHELL: [&str; 4] = ["sh", "-c", "\"$@\"; exit", "sh"];

struct Server {
    run: Running,
    pid: Pid,
    log: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

/// Starts `before... PROBE` that listens on the port of its lease.
fn server(front: &Front<'_>, grace: &str, before: &[&str], options: &[&str]) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let log = file(&dir, "log");
    let front = front.clone().with(&["--grace", grace]);
    let log_option = format!("--log={log}");
    let command: Vec<&str> = before
        .iter()
        .chain(&[PROBE, "--listen", &log_option])
        .chain(options)
        .copied()
        .collect();
    let run = Running::start(front.command(&[], &command));
    let log = std::path::PathBuf::from(log);
    let ready = eventually("ready", || {
        std::fs::read_to_string(&log)
            .ok()
            .filter(|text| text.ends_with('\n'))
    });
    let pid = super::process::Ready::parse(ready.lines().next().unwrap()).pid;
    Server {
        run,
        pid,
        log,
        _dir: dir,
    }
}

#[test]
fn a_server_behind_a_shell_ends_with_it() {
    let fronts = Fronts::new();
    for front in fronts.wrapped() {
        for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
            let mut server = server(&front, "60", &SHELL, &["--default=1,2,3,15"]);
            server.run.signal(signal);
            let (_, by) = server.run.end();
            assert_eq!(by, Some(signal), "the shell died of it");
            // The run waits for the port, so by now it is free.
            assert!(
                matches!(state(server.pid), None | Some('Z')),
                "signal {signal}"
            );
        }
    }
}

#[test]
fn a_server_that_ignores_the_signal_is_killed_for_its_port() {
    let fronts = Fronts::new();
    for front in fronts.wrapped() {
        let mut server = server(&front, "0.1", &SHELL, &[]);
        server.run.signal(libc::SIGTERM);
        assert_eq!(server.run.end(), (None, Some(libc::SIGTERM)));
        assert!(matches!(state(server.pid), None | Some('Z')));
    }
}

#[test]
fn a_child_that_ignores_term_is_killed_for_its_port() {
    let fronts = Fronts::new();
    for front in fronts.wrapped() {
        let mut server = server(&front, "0.1", &[], &[]);
        server.run.signal(libc::SIGTERM);
        assert_eq!(server.run.end(), (None, Some(libc::SIGKILL)));
    }
}

#[test]
fn a_second_request_ends_the_wait() {
    let fronts = Fronts::new();
    for front in fronts.wrapped() {
        let mut server = server(&front, "86400", &SHELL, &[]);
        let shell = parent(server.pid).expect("the server has a parent");
        server.run.signal(libc::SIGTERM);
        // Reaped by the launcher, which therefore takes whatever comes next as a second request.
        eventually("the end of the shell", || {
            state(shell).is_none().then_some(())
        });
        server.run.signal(libc::SIGINT);
        assert_eq!(server.run.end(), (None, Some(libc::SIGTERM)));
        assert!(matches!(state(server.pid), None | Some('Z')));
    }
}

#[test]
fn a_server_without_the_port_gets_the_signal_and_is_left_to_it() {
    let fronts = Fronts::new();
    for front in fronts.wrapped() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let front = front.with(&["--grace=0.1"]);
        let log_option = format!("--log={}", log.display());
        let mut run =
            Running::start(front.command(&[], &[&SHELL[..], &[PROBE, &log_option]].concat()));
        let ready = log_line(&log);
        run.signal(libc::SIGTERM);
        assert_eq!(run.end(), (None, Some(libc::SIGTERM)));
        send(ready, FENCE);
        assert_eq!(
            log_before(&log, "got 64")[1..],
            ["got 15"],
            "once, and alive"
        );
        send(ready, END);
    }
}

#[test]
fn a_process_with_its_own_session_is_left_alone() {
    let fronts = Fronts::new();
    for front in fronts.wrapped() {
        let mut server = server(
            &front,
            "0.1",
            &[
                "sh",
                "-c",
                "setsid -f \"$@\"; read forever < /dev/zero",
                "sh",
            ],
            &[],
        );
        server.run.signal(libc::SIGTERM);
        assert_eq!(server.run.end(), (None, Some(libc::SIGTERM)));
        send(server.pid, FENCE);
        assert_eq!(
            log_before(&server.log, "got 64").len(),
            1,
            "nothing but its ready line"
        );
        send(server.pid, END);
        gone(server.pid);
    }
}

#[test]
fn a_stopped_descendant_is_woken_to_end() {
    let fronts = Fronts::new();
    for front in fronts.wrapped() {
        let mut server = server(&front, "60", &SHELL, &["--default=15"]);
        send(server.pid, libc::SIGSTOP);
        eventually("a stop", || (state(server.pid) == Some('T')).then_some(()));
        server.run.signal(libc::SIGTERM);
        assert_eq!(server.run.end(), (None, Some(libc::SIGTERM)));
        assert!(matches!(state(server.pid), None | Some('Z')));
    }
}

#[test]
fn a_child_that_takes_hup_for_reload_lives_on() {
    let fronts = Fronts::new();
    for front in fronts.wrapped() {
        let mut server = server(&front, "0.001", &[], &[]);
        server.run.signal(libc::SIGHUP);
        eventually("HUP", || {
            log_before(&server.log, "got 1").len().checked_sub(1)
        });
        // The grace period ends in the launcher; the fence goes through it, before or after.
        for _ in 0..3 {
            server.run.signal(FENCE);
        }
        eventually("fences", || {
            std::fs::read_to_string(&server.log)
                .ok()
                .filter(|log| log.contains("got 64"))
        });
        server.run.signal(END);
        assert_eq!(server.run.end(), (Some(0), None));
    }
}

#[test]
fn what_was_inherited_as_ignored_stops_no_tree() {
    let fronts = Fronts::new();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let log_option = format!("--log={}", log.display());
    let nohup = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"];
    fronts.compare("nohup", |front| {
        drop(std::fs::remove_file(&log));
        let shell = [
            "sh",
            "-c",
            "\"$@\" & wait; wait; exit 4",
            "sh",
            PROBE,
            &log_option,
        ];
        let mut run = Running::start(front.command(&nohup, &shell));
        let server = log_line(&log);
        run.signal(libc::SIGHUP);
        send(server, FENCE);
        let seen = log_before(&log, "got 64");
        send(server, END);
        (seen[1..].to_vec(), run.end())
    });
}

#[test]
fn orphans_are_reaped() {
    let fronts = Fronts::new();
    for front in fronts.wrapped() {
        // The shell's grandchild is orphaned at once and ends while the shell lives.
        let script =
            "(sh -c 'echo $$' & exec true) | { read pid; echo $pid; read forever < /dev/zero; }";
        let mut run = Running::start(front.command(&[], &["sh", "-c", script]));
        let orphan = Pid::from_raw(run.line().parse().unwrap());
        eventually("the orphan's end, zombie and all", || {
            state(orphan).is_none().then_some(())
        });
        run.signal_group(libc::SIGTERM);
        assert_eq!(run.end(), (None, Some(libc::SIGTERM)));
    }
}

#[test]
fn a_killed_launcher_takes_the_child_with_it() {
    let fronts = Fronts::new();
    for front in fronts.wrapped() {
        let mut run = Running::start(front.command(&[], &[PROBE]));
        let ready = run.ready();
        run.signal(libc::SIGKILL);
        assert_eq!(run.line(), "got 15");
        assert_eq!(run.end(), (None, Some(libc::SIGKILL)));
        send(ready.pid, END);
        gone(ready.pid);
    }
}

#[test]
fn a_killed_launcher_leaves_no_witness() {
    let fronts = Fronts::new();
    for front in fronts.wrapped() {
        let mut run = Running::start(front.command(&[], &[PROBE]));
        let ready = run.ready();
        run.signal(FENCE);
        assert_eq!(run.line(), "got 64", "the launcher is past its start");
        let children =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", ready.parent)).unwrap();
        let others: Vec<Pid> = children
            .split_ascii_whitespace()
            .map(|pid| Pid::from_raw(pid.parse().unwrap()))
            .collect();
        assert_eq!(others.len(), 2, "the child and the witness");
        run.signal(libc::SIGKILL);
        assert_eq!(run.end(), (None, Some(libc::SIGKILL)));
        send(ready.pid, END);
        others.into_iter().for_each(gone);
    }
}

fn log_line(log: &std::path::Path) -> Pid {
    let text = eventually("ready", || {
        std::fs::read_to_string(log)
            .ok()
            .filter(|text| text.ends_with('\n'))
    });
    super::process::Ready::parse(text.lines().next().unwrap()).pid
}

fn parent(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ")
        .next()?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()
        .map(Pid::from_raw)
}
