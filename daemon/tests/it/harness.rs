//! A daemon in a directory of its own, a client that speaks HTTP by hand, and processes that end with the test.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use styxy_daemon::{BrokenConfig, Build, Config, DaemonError, Ended, LogTarget, Paths, run_until};
use styxy_protocol::Port;
use styxy_protocol::api::PROTOCOL;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// How long anything may take before a test gives up; far more than it ever should.
const DEADLINE: Duration = Duration::from_secs(20);

/// A running daemon. Stops when dropped.
pub(crate) struct Daemon {
    pub(crate) paths: Paths,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<Ended, DaemonError>>>,
}

/// Where a daemon lives; outlives the daemon so that another one can take over.
pub(crate) fn home() -> (TempDir, Paths) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let paths = Paths {
        runtime_dir: dir.path().join("run"),
        state_dir: dir.path().join("state"),
    };
    (dir, paths)
}

impl Daemon {
    /// Starts a daemon there and waits until it answers.
    pub(crate) fn start(paths: &Paths) -> Self {
        Self::start_with(config(paths))
    }

    pub(crate) fn start_with(config: Config) -> Self {
        let paths = config.paths.clone();
        let (stop_tx, stop_rx) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            run_until(config, async {
                stop_rx.await.ok();
            })
        });
        let daemon = Self {
            paths,
            stop: Some(stop_tx),
            thread: Some(thread),
        };
        eventually("the daemon answers", || {
            UnixStream::connect(daemon.paths.socket()).is_ok()
                || daemon.thread.as_ref().is_some_and(JoinHandle::is_finished)
        });
        daemon
    }

    /// Stops it and says how it ended.
    pub(crate) fn stop(mut self) -> Ended {
        self.stop.take().map(|stop| stop.send(()).ok());
        self.wait()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self) -> Ended {
        let thread = self.thread.take().expect("joined once");
        thread.join().expect("no panic").expect("no error")
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None)
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string).unwrap_or_default();
        self.send_raw(method, path, body.as_bytes())
    }

    pub(crate) fn send_raw(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: styxy\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.exchange(&[head.as_bytes(), body].concat())
    }

    /// Sends these bytes on a connection of their own and reads the answer.
    pub(crate) fn exchange(&self, request: &[u8]) -> Answer {
        let mut stream = UnixStream::connect(self.paths.socket()).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
        // A daemon that has seen enough may answer and close before everything is sent.
        stream.write_all(request).ok();
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
        }
        Answer::read(&answer)
    }

    pub(crate) fn allocate(&self, request: &Value) -> Value {
        let answer = self.send("POST", "/allocate", Some(request));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    pub(crate) fn release(&self, lock_id: &str) -> Answer {
        self.send("DELETE", &format!("/allocate/{lock_id}"), None)
    }

    /// Every lease.
    pub(crate) fn leases(&self) -> Vec<Value> {
        let body = self.get("/allocations").body;
        body["allocations"].as_array().expect("a list").clone()
    }

    pub(crate) fn session_dir(&self, lock_id: &str) -> PathBuf {
        self.paths.sessions().join(lock_id)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()).ok());
        self.thread.take().map(JoinHandle::join);
    }
}

pub(crate) fn config(paths: &Paths) -> Config {
    Config {
        paths: paths.clone(),
        build: Build {
            version: "0.0.0-test",
            protocol: PROTOCOL,
        },
        idle_exit: None,
        broken_config: BrokenConfig::ServeTheRest,
        log: LogTarget::Discard,
        classify: Box::new(|_, _| None),
        on_ready: Box::new(|| {}),
    }
}

/// An HTTP answer with a JSON body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        let status = head.split(' ').nth(1).expect("a status line");
        Self {
            status: status.parse().expect("a number"),
            body: serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}")),
        }
    }
}

pub(crate) fn lock_id(body: &Value) -> &str {
    body["lock_id"].as_str().expect("a lease id")
}

/// A request for a port of this type that hangs on no process.
pub(crate) fn ask(service_type: &str) -> Value {
    json!({ "service_type": service_type })
}

/// Waits until `holds`, and fails the test if it never does.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "a deadline across processes")]
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "not in time: {what}");
        #[expect(
            clippy::disallowed_methods,
            reason = "polling with a deadline across processes"
        )]
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A child that is killed when the test ends.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// A process that does nothing until it is ended.
    pub(crate) fn idle() -> Self {
        Self::of_lease(None, &["sleep", "600"], Stdio::null())
    }

    /// A process that carries a lease's id and does nothing until it is ended.
    pub(crate) fn of_lease(lock_id: Option<&str>, argv: &[&str], stdin: impl Into<Stdio>) -> Self {
        let mut command = Command::new(argv[0]);
        command.args(&argv[1..]).stdin(stdin).stdout(Stdio::piped());
        command.envs(lock_id.map(|id| ("STYXY_LEASE", id)));
        Self(command.spawn().expect("it starts"))
    }

    /// A process that carries a lease's id and listens.
    pub(crate) fn listener(lock_id: &str, argv: &[&str], socket: TcpListener) -> Self {
        let process = Self::of_lease(Some(lock_id), argv, OwnedFd::from(socket));
        let pid = process.pid();
        // The program runs, with its new environment, once its first argument is its name.
        eventually("the program runs", || {
            let line = styxy_daemon::kernel::command_line(pid);
            line.is_some_and(|line| line.starts_with("sleep"))
                && String::from_utf8_lossy(&styxy_daemon::kernel::environ(pid)).contains(lock_id)
        });
        process
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits for a line on its stdout.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        let output = self.0.stdout.take().expect("read once");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("readable");
        line
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }

    /// The signal it dies of.
    pub(crate) fn death(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt as _;
        self.0.wait().expect("it ends").signal()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A free port that no other test gets and that the kernel gives to nobody: below the ephemeral range and
/// outside every service type's.
pub(crate) fn fresh_port() -> Port {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Runs that are started one after the other are far apart.
    let start = std::process::id().wrapping_mul(251) % 8000;
    let start = u16::try_from(start).expect("small");
    loop {
        let number = 12_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 8000;
        let port = Port::new(number).expect("not 0");
        if styxy_daemon::kernel::port_is_free(port) {
            return port;
        }
    }
}

/// A listener on such a port.
pub(crate) fn low_listener() -> (TcpListener, Port) {
    let port = fresh_port();
    (bind(port), port)
}

pub(crate) fn bind(port: Port) -> TcpListener {
    TcpListener::bind(("127.0.0.1", port.get())).expect("nobody else has it")
}

pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::symlink_metadata(path).expect("it exists");
    metadata.permissions().mode() & 0o777
}
