//! The network of a sandbox: a network namespace of its own, so that every test has all 65535 ports to itself.
//!
//! A process (`inside keep`) holds the namespace; programs are started in it through `inside enter`, and the test
//! itself acts there with sockets that the keeper makes and sends over (a socket belongs to the namespace that it was
//! made in). Where the kernel refuses namespaces, sandboxes share the machine's network and run one after the other.

use std::ffi::OsString;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::say;

/// What a keeper sends once its namespace is there; anything else is the reason why it is not.
pub const READY: &[u8] = b"ready";

/// One byte to a keeper; the answer is one byte that carries a descriptor.
#[derive(Clone, Copy)]
pub enum Request {
    /// A TCP socket of IPv4.
    Ipv4Socket = b'4' as isize,
    /// A TCP socket of IPv6.
    Ipv6Socket = b'6' as isize,
}

impl Request {
    /// The request that this byte stands for.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Ipv4Socket, Self::Ipv6Socket]
            .into_iter()
            .find(|request| *request as u8 == byte)
    }
}

/// Held while a sandbox uses the machine's own network.
static MACHINE_NETWORK: Mutex<()> = Mutex::new(());

/// The machine's shortcoming is told once, not once for each test.
static SAID: Once = Once::new();

/// Where a sandbox's ports are.
pub(crate) enum Network {
    /// A namespace of its own.
    Own(Keeper),
    /// The machine's, for as long as nobody else has it.
    Machine(#[expect(dead_code, reason = "held, not read")] MutexGuard<'static, ()>),
}

/// The process that holds a namespace, and its socket.
pub(crate) struct Keeper {
    inside: PathBuf,
    process: Child,
    channel: Mutex<UnixStream>,
    identity: PathBuf,
}

impl Network {
    /// A namespace of its own if the kernel allows it, else the machine's network once it is free.
    pub(crate) fn new(inside: &Path) -> Self {
        match Keeper::start(inside) {
            Ok(keeper) => Self::Own(keeper),
            Err(reason) => {
                SAID.call_once(|| {
                    say(&format!(
                        "NOTE: no network namespace ({reason}): tests share the machine's ports and run one at a time"
                    ));
                });
                let guard = MACHINE_NETWORK.lock();
                Self::Machine(guard.unwrap_or_else(PoisonError::into_inner))
            }
        }
    }

    /// The program and the arguments that go before a command so that it runs in this network.
    pub(crate) fn entry(&self, inside: &Path, terminal: Option<&Path>) -> Vec<OsString> {
        let mut entry: Vec<OsString> = vec![inside.into(), "enter".into()];
        if let Self::Own(keeper) = self {
            let namespaces = format!("/proc/{}/ns", keeper.process.id());
            if !nix::unistd::geteuid().is_root() {
                entry.extend(["--user".into(), format!("{namespaces}/user").into()]);
            }
            entry.extend(["--net".into(), format!("{namespaces}/net").into()]);
        }
        if let Some(path) = terminal {
            entry.extend(["--terminal".into(), path.into()]);
        }
        entry.push("--".into());
        entry
    }

    /// A new TCP socket in this network, not bound.
    pub(crate) fn socket(&self, request: Request) -> io::Result<OwnedFd> {
        match self {
            Self::Own(keeper) => keeper.socket(request),
            Self::Machine(_) => {
                let family = match request {
                    Request::Ipv4Socket => AddressFamily::Inet,
                    Request::Ipv6Socket => AddressFamily::Inet6,
                };
                Ok(socket(
                    family,
                    SockType::Stream,
                    SockFlag::SOCK_CLOEXEC,
                    None,
                )?)
            }
        }
    }

    /// Whether process `pid` lives in this network; `None` where the network cannot tell.
    pub(crate) fn contains(&self, pid: i32) -> Option<bool> {
        match self {
            Self::Machine(_) => None,
            Self::Own(keeper) if pid == keeper.process.id().cast_signed() => Some(false),
            Self::Own(keeper) => Some(
                std::fs::read_link(format!("/proc/{pid}/ns/net"))
                    .is_ok_and(|link| link == keeper.identity),
            ),
        }
    }
}

impl Keeper {
    fn start(inside: &Path) -> Result<Self, String> {
        let (ours, theirs) = UnixStream::pair().map_err(|e| e.to_string())?;
        let process = Command::new(inside)
            .arg("keep")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|e| format!("{}: {e}", inside.display()))?;
        let mut keeper = Self {
            inside: inside.to_owned(),
            identity: PathBuf::new(),
            channel: Mutex::new(ours),
            process,
        };
        let mut answer = vec![0; 200];
        let channel = keeper
            .channel
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let length = channel.read(&mut answer).map_err(|e| e.to_string())?;
        if answer[..length] != *READY {
            return Err(String::from_utf8_lossy(&answer[..length]).into_owned());
        }
        keeper.identity = std::fs::read_link(format!("/proc/{}/ns/net", keeper.process.id()))
            .map_err(|e| e.to_string())?;
        Ok(keeper)
    }

    fn socket(&self, request: Request) -> io::Result<OwnedFd> {
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        channel.write_all(&[request as u8])?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        recvmsg(
            &*channel,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
                && let Some(descriptor) = descriptors.next()
            {
                return Ok(descriptor);
            }
        }
        Err(io::Error::other(format!(
            "{} sent no socket",
            self.inside.display()
        )))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Ours, not yet waited for: the pid cannot be anybody else's.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
