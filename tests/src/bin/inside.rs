//! `inside`: the part of the test harness that lives in a sandbox's network namespace.
//!
//! `inside keep` makes the namespace, brings its loopback interface up and then makes one socket in it for each
//! request on its standard input. `inside enter` goes into such a namespace and becomes another program.
//! Invariant: the user inside is the user outside, with the same privileges; only the network is another.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{self as nix_socket, AddressFamily, MsgFlags, SockFlag, SockType};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, getegid, geteuid, setsid};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use styxy_tests::namespace::{READY, Request};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((verb, [])) if verb == "keep" => keep(),
        Some((verb, rest)) if verb == "enter" => enter(rest),
        _ => Err(
            "usage: inside keep | inside enter [--user F] [--net F] [--terminal F] -- PROGRAM ..."
                .into(),
        ),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A keeper's stdin is the harness's end too; `enter` has only its stderr.
            writeln!(io::stderr(), "inside: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

/// Makes the namespace and serves [`Request`]s until the harness closes its end.
fn keep() -> Result<(), Box<dyn Error>> {
    let stdin = io::stdin();
    let channel = stdin.as_fd().try_clone_to_owned()?;
    if let Err(error) = make_namespace() {
        File::from(channel).write_all(error.to_string().as_bytes())?;
        return Ok(());
    }
    File::from(channel.try_clone()?).write_all(READY)?;
    let mut requests = File::from(channel.try_clone()?);
    let mut request = [0];
    while requests.read(&mut request)? == 1 {
        let family = match Request::from_byte(request[0]) {
            Some(Request::Ipv4Socket) => AddressFamily::Inet,
            Some(Request::Ipv6Socket) => AddressFamily::Inet6,
            None => return Err(format!("no such request: {}", request[0]).into()),
        };
        let socket = nix_socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        send_descriptor(&channel, &socket)?;
    }
    Ok(())
}

fn make_namespace() -> Result<(), Box<dyn Error>> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| format!("unshare(CLONE_NEWNET): {e}"))?;
    } else {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
            .map_err(|e| format!("unshare(CLONE_NEWUSER|CLONE_NEWNET): {e}"))?;
        // user_namespaces(7): the group map of an unprivileged user needs setgroups switched off first.
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    }
    loopback_up().map_err(|e| format!("bringing `lo` up: {e}").into())
}

/// Asks the kernel by rtnetlink(7) to bring interface 1, which is always `lo`, up.
fn loopback_up() -> Result<(), Box<dyn Error>> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    const IFF_UP: u32 = 1;
    const LENGTH: u32 = 32;
    let mut message = Vec::new();
    // struct nlmsghdr: length, type, flags, sequence, sender
    message.extend(LENGTH.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend([0; 8]);
    // struct ifinfomsg: family and padding, type, index, flags, mask of the flags that change
    message.extend([0; 4]);
    message.extend(1_u32.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());

    let netlink = nix_socket::socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        nix_socket::SockProtocol::NetlinkRoute,
    )?;
    nix_socket::send(raw(&netlink), &message, MsgFlags::empty())?;
    let mut answer = [0; 256];
    let length = nix_socket::recv(raw(&netlink), &mut answer, MsgFlags::empty())?;
    // struct nlmsgerr follows the header: 0 is the acknowledgement, else a negative errno.
    let code: [u8; 4] = answer[16..20].try_into()?;
    match i32::from_ne_bytes(code) {
        0 if length >= 20 => Ok(()),
        code => Err(io::Error::from_raw_os_error(-code).into()),
    }
}

fn raw(descriptor: &OwnedFd) -> std::os::fd::RawFd {
    std::os::fd::AsRawFd::as_raw_fd(descriptor)
}

fn send_descriptor(channel: &OwnedFd, descriptor: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    sendmsg(
        channel,
        &[io::IoSlice::new(b"s")],
        &mut control,
        SendFlags::empty(),
    )?;
    Ok(())
}

/// Enters the namespaces and the terminal that the options name, then becomes the program.
fn enter(arguments: &[OsString]) -> Result<(), Box<dyn Error>> {
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        if option == "--" {
            break;
        }
        let path = rest.next().ok_or("an option without a path")?;
        match option.to_str().unwrap_or_default() {
            "--user" => setns(File::open(path)?, CloneFlags::CLONE_NEWUSER)?,
            "--net" => setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?,
            "--terminal" => take_terminal(path)?,
            _ => return Err(format!("no such option: {}", option.display()).into()),
        }
    }
    let program = rest.next().ok_or("no program")?;
    let error = Command::new(program).args(rest).exec();
    Err(format!("{}: {error}", program.display()).into())
}

/// Starts a session whose controlling terminal is the one at `path`, with stdin, stdout and stderr on it.
fn take_terminal(path: &OsStr) -> Result<(), Box<dyn Error>> {
    setsid()?;
    // A session leader without a terminal gets the first one that it opens, without any ioctl.
    let terminal = File::options().read(true).write(true).open(path)?;
    dup2_stdin(&terminal)?;
    dup2_stdout(&terminal)?;
    dup2_stderr(&terminal)?;
    Ok(())
}
