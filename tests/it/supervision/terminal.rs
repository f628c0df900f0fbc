//! At a terminal, with bash as the shell that does job control: keys, window size, jobs in the background, hang-up.
//!
//! The transcript of the terminal is compared as well, so what the shell says about its jobs has to be the same.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::unistd::Pid;

use super::process::{
    END, FENCE, Lines, Ready, eventually, gone, log_before, send, state, wait_with_deadline,
};
use super::{Front, Fronts, PROBE};

pub(super) const CTRL_C: &str = "\x03";
pub(super) const CTRL_Z: &str = "\x1a";
const CTRL_BACKSLASH: &str = "\x1c";

/// Before a command that is to lead the session of its terminal.
const OWN_SESSION: [&str; 2] = ["setsid", "--ctty"];

/// A terminal, and the leader of its session.
pub(super) struct Terminal {
    pub(super) leader: Leader,
    pub(super) keyboard: File,
    pub(super) screen: Lines,
    /// Keeps the terminal alive and is its handle for `stty`.
    pub(super) line: OwnedFd,
}

impl Terminal {
    /// Starts a command that takes the terminal for its session's (`setsid --ctty`).
    pub(super) fn start(mut command: Command) -> Self {
        let (master, slave) = pty();
        // Before there is a shell, which keeps the settings that it finds.
        stty(&slave, &["-echo", "rows", "24", "cols", "80"]);
        let line = || Stdio::from(slave.try_clone().expect("a descriptor can be had"));
        let leader = command
            .env("PS1", "")
            .stdin(line())
            .stdout(line())
            .stderr(line())
            .spawn()
            .expect("setsid can be started");
        let keyboard = File::from(master.try_clone().expect("a descriptor can be had"));
        let screen = Lines::new(master);
        Self {
            leader: Leader(leader),
            keyboard,
            screen,
            line: slave,
        }
    }

    /// Starts bash, in which `run ...` is the command with the front before it.
    pub(super) fn shell(front: &Front) -> Self {
        let bash = ["bash", "--norc", "--noprofile", "--noediting", "-i"];
        let words = OWN_SESSION.iter().chain(&bash).map(OsString::from);
        let mut terminal = Self::start(front.around(words));
        let front: Vec<String> = front
            .argv()
            .iter()
            .map(|word| format!("'{}'", word.display()))
            .collect();
        terminal.type_in("ulimit -c 0; echo in''put\n");
        terminal.screen.until("input");
        terminal.type_in(&format!("front=({}); probe='{PROBE}'\n", front.join(" ")));
        terminal
    }

    pub(super) fn type_in(&mut self, keys: &str) {
        self.keyboard
            .write_all(keys.as_bytes())
            .expect("the terminal takes keys");
    }

    pub(super) fn ready(&mut self) -> Ready {
        self.screen.until("ready ");
        Ready::parse(&format!("ready {}", self.screen.line()))
    }

    /// Asks the shell for the status of the last command; the text up to it is what was on the screen.
    pub(super) fn status(&mut self) -> (String, String) {
        self.type_in("echo status''=$?\n");
        (self.screen.until("status="), self.screen.line())
    }
}

fn stty(line: &OwnedFd, settings: &[&str]) {
    let line = line.try_clone().expect("a descriptor can be had");
    let status = Command::new("stty")
        .args(settings)
        .stdin(Stdio::from(line))
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "stty {settings:?}"
    );
}

/// A terminal: its master and its line. Close-on-exec from the beginning, because other tests fork at any moment, and
/// a terminal hangs up only when the last copy of its master is closed.
fn pty() -> (OwnedFd, OwnedFd) {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .expect("a terminal can be had");
    grantpt(&master).expect("it is ours");
    unlockpt(&master).expect("it is ours");
    let name = ptsname_r(&master).expect("it has a name");
    let mut line = File::options();
    let line = line
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(name);
    let master = master
        .as_fd()
        .try_clone_to_owned()
        .expect("a descriptor can be had");
    (master, line.expect("it can be opened").into())
}

/// Ended with the test.
pub(super) struct Leader(pub(super) Child);

impl Drop for Leader {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What the probe has said on the screen, up to the fence.
pub(super) fn seen(terminal: &mut Terminal, job: Pid) -> String {
    send(job, FENCE);
    terminal.screen.until("got 64")
}

#[test]
fn ctrl_c_reaches_the_child_once_and_again() {
    let fronts = Fronts::new();
    fronts.compare("^C ^C", |front| {
        let mut terminal = Terminal::shell(front);
        terminal.type_in("\"${front[@]}\" $probe\n");
        let job = terminal.ready().job(front);
        terminal.type_in(CTRL_C);
        terminal.screen.until("got 2");
        let first = seen(&mut terminal, job);
        terminal.type_in(CTRL_C);
        terminal.screen.until("got 2");
        let second = seen(&mut terminal, job);
        send(job, END);
        (first, second, terminal.status())
    });
}

#[test]
fn a_key_that_ends_the_child_ends_the_command() {
    let fronts = Fronts::new();
    for (key, signal) in [(CTRL_C, 2), (CTRL_BACKSLASH, 3)] {
        fronts.compare(&format!("signal {signal}"), |front| {
            let mut terminal = Terminal::shell(front);
            terminal.type_in(&format!("\"${{front[@]}}\" $probe --default={signal}\n"));
            terminal.ready();
            terminal.type_in(key);
            let (screen, status) = terminal.status();
            assert_eq!(status, (128 + signal).to_string());
            (screen, status)
        });
    }
}

#[test]
fn ctrl_c_ends_a_loop_of_the_shell() {
    let fronts = Fronts::new();
    fronts.compare("loop", |front| {
        let mut terminal = Terminal::shell(front);
        terminal.type_in("for i in 1 2 3; do \"${front[@]}\" $probe --default=2; done\n");
        terminal.ready();
        terminal.type_in(CTRL_C);
        terminal.status()
    });
}

#[test]
fn ctrl_z_stops_the_job_and_fg_takes_it_back() {
    let fronts = Fronts::new();
    fronts.compare("^Z fg", |front| {
        let mut terminal = Terminal::shell(front);
        terminal.type_in("\"${front[@]}\" $probe --default=20 --stdin\n");
        let ready = terminal.ready();
        let mut screens = Vec::new();
        for _ in 0..3 {
            terminal.type_in(CTRL_Z);
            // Before that the next line could still be read by the probe.
            terminal.screen.until("Stopped");
            screens.push(terminal.status());
            for pid in [ready.pid, ready.job(front)] {
                eventually("a stop", || (state(pid) == Some('T')).then_some(()));
            }
            terminal.type_in("fg\n");
            screens.push((terminal.screen.until("got 18"), String::new()));
            terminal.type_in("hello\n");
            screens.push((terminal.screen.until("read hello"), String::new()));
            screens.push((seen(&mut terminal, ready.job(front)), String::new()));
        }
        send(ready.job(front), END);
        // As long as one of its threads lives it may read the next line, and a zombie may still have some.
        eventually("the end of the probe", || {
            state(ready.pid).is_none().then_some(())
        });
        screens.push(terminal.status());
        screens
    });
}

#[test]
fn a_stopped_job_can_go_on_in_the_background_and_be_ended() {
    let fronts = Fronts::new();
    fronts.compare("^Z bg kill", |front| {
        let mut terminal = Terminal::shell(front);
        terminal.type_in("\"${front[@]}\" $probe --default=15,20\n");
        let ready = terminal.ready();
        terminal.type_in(CTRL_Z);
        let stopped = terminal.status();
        terminal.type_in("bg\n");
        let running = terminal.screen.until("got 18");
        terminal.type_in("kill %1; wait %1; echo status=$?\n");
        let ended = (terminal.screen.until("status="), terminal.screen.line());
        gone(ready.pid);
        (stopped, running, ended)
    });
}

#[test]
fn a_job_in_the_background_that_reads_is_stopped() {
    let fronts = Fronts::new();
    fronts.compare("SIGTTIN", |front| {
        let mut terminal = Terminal::shell(front);
        terminal.type_in("\"${front[@]}\" cat &\n");
        // bash tells by itself only before it prompts.
        let stopped = "until jobs %1 | grep Stopped; do sleep 0.01; done";
        terminal.type_in(&format!("{stopped}; fg; echo ended=$?\n"));
        terminal.screen.until("Stopped");
        let line = terminal.screen.line();
        terminal.type_in("hello\n\x04");
        let screen = terminal.screen.until("ended=");
        // bash repeats its news at a moment of its own choice.
        let rest: Vec<&str> = screen
            .lines()
            .filter(|line| !line.is_empty() && !line.contains("Stopped"))
            .collect();
        (line, rest.join("\n"), terminal.screen.line())
    });
}

#[test]
fn a_new_window_size_is_told_once() {
    let fronts = Fronts::new();
    fronts.compare("SIGWINCH", |front| {
        let mut terminal = Terminal::shell(front);
        terminal.type_in("\"${front[@]}\" $probe\n");
        let job = terminal.ready().job(front);
        stty(&terminal.line, &["rows", "50"]);
        terminal.screen.until("got 28");
        let rest = seen(&mut terminal, job);
        send(job, END);
        (rest, terminal.status())
    });
}

#[test]
fn a_hang_up_ends_the_shell_and_reaches_its_job() {
    let fronts = Fronts::new();
    fronts.compare("SIGHUP by way of bash", |front| {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut terminal = Terminal::shell(front);
        terminal.type_in(&format!(
            "\"${{front[@]}}\" $probe --log={}\n",
            log.display()
        ));
        let ready = ready_in(&log);
        let mut shell = hang_up(terminal);
        let status = wait_with_deadline(&mut shell.0);
        // bash tells its jobs, and when it is gone so does the kernel: twice or once, depending on who is faster.
        send(ready.job(front), FENCE);
        let mut seen = log_before(&log, "got 64")[1..].to_vec();
        seen.dedup();
        send(ready.job(front), END);
        gone(ready.pid);
        gone(ready.job(front));
        (status.code(), status.signal(), seen)
    });
}

#[test]
fn a_hang_up_of_the_session_leader_reaches_the_child() {
    let fronts = Fronts::new();
    fronts.compare("SIGHUP to the leader", |front| {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let log_option = format!("--log={}", log.display());
        let terminal = Terminal::start(front.command(&OWN_SESSION, &[PROBE, &log_option]));
        let ready = ready_in(&log);
        let mut leader = hang_up(terminal);
        // The last copy of the master may be in a process that another test is just starting.
        log_before(&log, "got 1");
        send(ready.job(front), FENCE);
        let seen = log_before(&log, "got 64")[1..].to_vec();
        assert_eq!(
            seen,
            ["got 1", "got 18"],
            "the kernel sends SIGHUP and SIGCONT"
        );
        send(ready.job(front), END);
        let status = wait_with_deadline(&mut leader.0);
        (status.code(), status.signal())
    });
}

/// Closes the terminal under its programs. The leader is handed out, to be waited for.
pub(super) fn hang_up(terminal: Terminal) -> Leader {
    terminal.leader
}

pub(super) fn ready_in(log: &Path) -> Ready {
    let text = eventually("ready", || {
        std::fs::read_to_string(log)
            .ok()
            .filter(|text| text.ends_with('\n'))
    });
    Ready::parse(text.lines().next().unwrap())
}
