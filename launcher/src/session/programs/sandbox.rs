//! What a test of a real program needs: a runtime directory of its own, ports, an interpreter.

use std::fs;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn6, bind, setsockopt, socket, sockopt,
};
use styxy_protocol::Port;

use super::super::{Pin, Session, SessionPlan, image_available};

/// Before every script: one function that binds and says where, one that runs a script in a child.
const PRELUDE: &str = r"
import ctypes, errno, os, socket, struct, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
def bind(address, port, kind=socket.SOCK_STREAM, reuse=1, v6only=0, quiet=0):
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    s = socket.socket(family, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    try:
        s.bind((address, port))
        if kind == socket.SOCK_STREAM: s.listen()
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
        return None
    if not quiet: print(s.getsockname()[1], flush=True)
    return s
def child(script):
    subprocess.run([sys.executable, '-c', prelude + script, prelude], check=True)
prelude = sys.argv[1]
";

/// A runtime directory and some spare ports.
pub(super) struct Sandbox {
    root: tempfile::TempDir,
    spares: Vec<u16>,
    sessions: AtomicU32,
}

impl Sandbox {
    /// `None` where there is no library to test.
    pub(super) fn new(spares: usize) -> Option<Self> {
        if !image_available() {
            eprintln!("skipped: there is no preload library for this system");
            return None;
        }
        Some(Self {
            root: tempfile::tempdir().expect("a temporary directory"),
            spares: (0..spares).map(|_| free_port()).collect(),
            sessions: AtomicU32::new(0),
        })
    }

    pub(super) fn spare(&self, index: usize) -> u16 {
        self.spares[index]
    }

    pub(super) fn is_spare(&self, port: u16) -> bool {
        self.spares.contains(&port)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(super) fn plan(&self) -> SessionPlan {
        SessionPlan {
            pinned: Vec::new(),
            spares: self.spares.iter().map(|&port| port_of(port)).collect(),
            strict: true,
        }
    }

    pub(super) fn session(&self) -> Session {
        self.session_with(&self.plan())
    }

    pub(super) fn session_with(&self, plan: &SessionPlan) -> Session {
        let id = self.sessions.fetch_add(1, Ordering::Relaxed).to_string();
        Session::create(self.root.path(), &id, plan).expect("a session")
    }

    /// The files of a session in another directory, to be damaged there.
    pub(super) fn copy_of(&self, session: &Session) -> PathBuf {
        let copy = self.path("copy");
        fs::create_dir(&copy).unwrap();
        for name in ["styxy.so", "tab"] {
            fs::copy(session.directory().join(name), copy.join(name)).unwrap();
        }
        copy
    }

    pub(super) fn python(&self, session: &Session, script: &str) -> Command {
        self.python_from(session.directory(), script)
    }

    pub(super) fn python_from(&self, session: &Path, script: &str) -> Command {
        let mut command = self.bare_python(script);
        hook(&mut command, session);
        command
    }

    pub(super) fn bare_python(&self, script: &str) -> Command {
        let mut command = program(python());
        command
            .arg("-c")
            .arg(format!("{PRELUDE}{script}"))
            .arg(PRELUDE)
            .current_dir(self.root.path());
        command
    }

    /// Compiles a C program; `None` where there is no compiler.
    pub(super) fn compile_c(&self, source: &str) -> Option<PathBuf> {
        let Some(compiler) = find("cc") else {
            eprintln!("skipped: there is no C compiler");
            return None;
        };
        let (file, binary) = (self.path("program.c"), self.path("program"));
        fs::write(&file, source).unwrap();
        let mut command = program(&compiler);
        command.arg("-o").arg(&binary).arg(&file);
        assert_eq!(lines(command), [""; 0]);
        Some(binary)
    }
}

/// A program with an environment that the machine does not shine through.
pub(super) fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::null());
    command
}

/// Lets a program load the library that lies in a directory.
pub(super) fn hook(command: &mut Command, session: &Path) {
    command.env("LD_PRELOAD", session.join("styxy.so"));
}

/// Runs a program to its end, which must be a good one, and returns the lines that it printed.
pub(super) fn lines(mut command: Command) -> Vec<String> {
    let output = command.output().expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stderr}", output.status);
    assert_eq!(stderr, "", "nothing on stderr");
    let stdout = String::from_utf8(output.stdout).expect("text");
    stdout.lines().map(str::to_owned).collect()
}

/// The interpreter itself rather than a script that chooses one.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let output = Command::new("python3")
            .args(["-c", "import sys; print(sys.executable)"])
            .output()
            .expect("python3 is needed for the tests");
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    })
}

/// A program on the path.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    which::which(name).ok()
}

/// Listens on a free port as a stranger would.
pub(super) fn hold(address: &str) -> (TcpListener, u16) {
    let port = free_port();
    let listener = TcpListener::bind((address, port)).expect("the port was free a moment ago");
    (listener, port)
}

/// What the launcher does with a leased port: bound on both families, not listening.
pub(super) fn soft_hold(port: u16) -> OwnedFd {
    let (family, kind) = (AddressFamily::Inet6, SockType::Stream);
    let hold = socket(family, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&hold, sockopt::ReuseAddr, &true).unwrap();
    setsockopt(&hold, sockopt::Ipv6V6Only, &false).unwrap();
    let any = std::net::SocketAddrV6::new(std::net::Ipv6Addr::UNSPECIFIED, port, 0, 0);
    bind(hold.as_raw_fd(), &SockaddrIn6::from(any)).unwrap();
    hold
}

pub(super) fn pin(requested: u16, real: u16) -> Pin {
    Pin {
        requested: port_of(requested),
        real: port_of(real),
    }
}

pub(super) fn has_ipv6() -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("skipped: there is no IPv6");
    }
    has
}

/// A port that nobody uses on any address, and that no other test of this process gets.
pub(super) fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 9_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side start far apart.
    let start = std::process::id().wrapping_mul(97);
    loop {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = start.wrapping_add(step) % u32::from(COUNT);
        let port = FIRST + u16::try_from(offset).unwrap();
        let any = if TcpListener::bind("[::1]:0").is_ok() {
            "::"
        } else {
            "0.0.0.0"
        };
        if TcpListener::bind((any, port)).is_ok() {
            return port;
        }
    }
}

fn port_of(number: u16) -> Port {
    Port::new(number).expect("not 0")
}
