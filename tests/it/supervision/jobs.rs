//! In the company of other programs: pipelines, `nohup`, `setsid`, `script`, tmux, and a terminal that has its own ideas.

use std::process::Command;

use nix::unistd::Pid;
use styxy_tests::{Missing, available};

use super::process::{END, FENCE, eventually, gone, log_before, outcome, send, wait_with_deadline};
use super::terminal::{CTRL_C, Terminal, hang_up, ready_in, seen};
use super::{Front, Fronts, PROBE};

/// Whether a program that not every machine has can be run.
fn has(program: &str, version: &str) -> bool {
    let answer = Command::new(program).arg(version).output();
    available(answer.map_err(Missing::from)).is_some()
}

#[test]
fn in_a_pipeline_it_is_the_command() {
    let fronts = Fronts::new();
    for (script, command) in [
        ("yes | \"$@\" | cat", ["head", "-n", "1"].as_slice()),
        ("\"$@\" | head -n 1", &["yes"]),
        ("seq 100000 | \"$@\" | cksum", &["cat"]),
    ] {
        let script = format!("{script}; echo \"${{PIPESTATUS[*]}}\"");
        fronts.compare(&script, |front| {
            let outcome = outcome(
                front.command(&["bash", "-c", &script, "bash"], command),
                b"",
            );
            assert_eq!(outcome.code, Some(0), "{outcome:?}");
            outcome
        });
    }
}

#[test]
fn two_of_them_in_a_pipeline_are_one_job() {
    let fronts = Fronts::new();
    fronts.compare("^C, then TERM to the job", |front| {
        let dir = tempfile::tempdir().unwrap();
        let logs = ["one", "other"].map(|name| dir.path().join(name));
        let mut terminal = Terminal::shell(front);
        let [one, other] = logs.each_ref().map(|log| log.display());
        terminal.type_in(&format!(
            "\"${{front[@]}}\" $probe --log={one} | \"${{front[@]}}\" $probe --log={other}\n"
        ));
        let jobs = logs.each_ref().map(|log| ready_in(log).job(front));
        terminal.type_in(CTRL_C);
        for log in &logs {
            log_before(log, "got 2");
        }
        let group = nix::unistd::getpgid(Some(jobs[0])).unwrap();
        send(Pid::from_raw(-group.as_raw()), libc::SIGTERM);
        for job in jobs {
            send(job, FENCE);
        }
        let seen = logs
            .each_ref()
            .map(|log| log_before(log, "got 64")[1..].to_vec());
        for job in jobs {
            send(job, END);
        }
        (seen, terminal.status())
    });
}

#[test]
fn under_nohup_it_outlives_the_terminal() {
    let fronts = Fronts::new();
    fronts.compare("nohup", |front| {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut terminal = Terminal::shell(front);
        // The shell says something about its job at a moment of its own choice.
        terminal.type_in(&format!(
            "nohup \"${{front[@]}}\" $probe --default=1 --log={} > /dev/null 2>&1 &\n",
            log.display()
        ));
        let ready = ready_in(&log);
        let mut shell = hang_up(terminal);
        let status = wait_with_deadline(&mut shell.0);
        send(ready.job(front), FENCE);
        let seen = log_before(&log, "got 64")[1..].to_vec();
        send(ready.job(front), END);
        gone(ready.pid);
        gone(ready.job(front));
        (status.to_string(), seen)
    });
}

#[test]
fn in_a_session_of_its_own_it_hears_no_keys_and_no_hang_up() {
    let fronts = Fronts::new();
    fronts.compare("setsid", |front| {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut terminal = Terminal::shell(front);
        terminal.type_in(&format!(
            "setsid \"${{front[@]}}\" $probe --log={} &\n",
            log.display()
        ));
        let ready = ready_in(&log);
        // In the foreground there is somebody whom the key does reach.
        terminal.type_in("$probe --default=2\n");
        terminal.ready();
        terminal.type_in(CTRL_C);
        let (_, status) = terminal.status();
        let mut shell = hang_up(terminal);
        wait_with_deadline(&mut shell.0);
        send(ready.job(front), FENCE);
        let seen = log_before(&log, "got 64")[1..].to_vec();
        assert_eq!(seen, Vec::<String>::new());
        send(ready.job(front), END);
        gone(ready.pid);
        gone(ready.job(front));
        status
    });
}

#[test]
fn a_job_in_the_background_that_writes_is_stopped_where_the_terminal_says_so() {
    let fronts = Fronts::new();
    fronts.compare("SIGTTOU", |front| {
        let mut terminal = Terminal::shell(front);
        terminal.type_in("stty tostop; \"${front[@]}\" sh -c 'echo written; exit 5' &\n");
        // The news goes through a pipe, so that it is not taken for the job's own words.
        let stopped = "until jobs %1 | grep -q Stopped; do sleep 0.01; done";
        terminal.type_in(&format!("{stopped}; stty -tostop; echo is''held\n"));
        assert!(!terminal.screen.until("isheld").contains("\nwritten"));
        terminal.type_in("fg; echo ended=$?\n");
        terminal.screen.until("\nwritten");
        terminal.screen.until("ended=");
        terminal.screen.line()
    });
}

#[test]
fn in_the_foreground_it_reads_the_terminal() {
    let fronts = Fronts::new();
    fronts.compare("read", |front| {
        let mut terminal = Terminal::shell(front);
        let read = "\"${front[@]}\" sh -c 'echo type''now; read line; echo \"<$line>\"; cat'\n";
        terminal.type_in(read);
        terminal.screen.until("typenow");
        terminal.type_in("hello\n");
        let first = terminal.screen.until("<hello>");
        terminal.type_in("there\n\x04");
        (first, terminal.status())
    });
}

#[test]
fn in_a_recorded_session_it_is_the_command() {
    if !has("script", "--version") {
        return;
    }
    let fronts = Fronts::new();
    fronts.compare("script", |front| {
        let words = front.argv();
        let front_words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        let line = format!(
            "{} sh -c 'tty -s && stty size; exit 7'",
            front_words.join(" ")
        );
        let recorded = ["script", "-qec", &line, "/dev/null"].map(Into::into);
        let outcome = outcome(front.around(recorded), b"");
        assert_eq!(outcome.code, Some(7), "{outcome:?}");
        outcome
    });
    fronts.compare("^C in script", |front| {
        let mut terminal = Terminal::shell(front);
        let run = "script -qec \"${front[*]} $probe --default=3\" /dev/null; echo ended''=$?\n";
        terminal.type_in(run);
        let job = terminal.ready().job(front);
        terminal.type_in(CTRL_C);
        terminal.screen.until("got 2");
        let rest = seen(&mut terminal, job);
        send(job, libc::SIGQUIT);
        terminal.screen.until("ended=");
        (rest, terminal.screen.line())
    });
}

/// A tmux server of its own with one window, in which the command runs.
struct Tmux<'a> {
    front: &'a Front<'a>,
    socket: String,
}

impl<'a> Tmux<'a> {
    fn start(front: &'a Front<'a>, socket: String, command: &[&str]) -> Self {
        let tmux = Self { front, socket };
        let words = front.argv().into_iter();
        let words = words.chain(command.iter().map(Into::into));
        let new = [
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
        ];
        let all = tmux.words(&new).chain(words).collect::<Vec<_>>();
        let done = outcome(front.around(all), b"");
        assert_eq!(done.code, Some(0), "{done:?}");
        tmux
    }

    fn words(&self, words: &[&str]) -> impl Iterator<Item = std::ffi::OsString> + use<> {
        let all = [&["tmux", "-S", &self.socket], words].concat();
        all.into_iter()
            .map(Into::into)
            .collect::<Vec<_>>()
            .into_iter()
    }

    fn tell(&self, words: &[&str]) {
        let done = outcome(self.front.around(self.words(words)), b"");
        assert_eq!(done.code, Some(0), "{words:?}: {done:?}");
    }
}

#[test]
fn under_tmux_keys_sizes_and_the_end_reach_the_child() {
    if !has("tmux", "-V") {
        return;
    }
    let fronts = Fronts::new();
    fronts.compare("tmux", |front| {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let log_option = format!("--log={}", log.display());
        let socket = super::file(&dir, "socket");
        let tmux = Tmux::start(front, socket, &[PROBE, &log_option]);
        let ready = ready_in(&log);
        for (keys, signal) in [("C-c", 2), ("C-\\", 3), ("C-z", 20)] {
            tmux.tell(&["send-keys", keys]);
            log_before(&log, &format!("got {signal}"));
        }
        tmux.tell(&["resize-window", "-x", "100"]);
        log_before(&log, "got 28");
        tmux.tell(&["kill-session"]);
        log_before(&log, "got 1");
        eventually("the fence", || {
            send(ready.job(front), FENCE);
            Some(())
        });
        let mut seen = log_before(&log, "got 64")[1..].to_vec();
        // tmux and the kernel both tell it of the end, and the two may come as one.
        seen.dedup();
        seen.retain(|line| line != "got 18");
        send(ready.job(front), END);
        gone(ready.pid);
        gone(ready.job(front));
        seen
    });
}
