//! Processes as `/proc` shows them.
//!
//! A pid alone names nobody for long; [`ProcessIdentity`] and the boot id together name one process for ever.
//! Whatever cannot be read (ended, not ours, hidden) is `None` or left out, never an error.

use std::collections::HashSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One process of this boot: no other process has had or will have the same two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its pid in our pid namespace.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_time: u64,
}

/// What `/proc/PID/stat` says that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Who it is.
    pub identity: ProcessIdentity,
    /// Its parent (field 4): a process that has lost its own is given to a subreaper or to process 1.
    pub parent: u32,
    /// Its process group (field 5).
    pub group: u32,
    /// Its session (field 6).
    pub session: u32,
    /// Whether it still runs: neither zombie nor dead.
    pub alive: bool,
}

impl Stat {
    /// Reads the state of the process that has this pid now.
    pub fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(pid, &text)
    }

    /// The second field is the program's name in parentheses and may itself hold spaces and parentheses,
    /// so fields are counted from the last `)`.
    fn parse(pid: u32, text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            identity: ProcessIdentity {
                pid,
                start_time: fields.get(19)?.parse().ok()?,
            },
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            alive: !matches!(*fields.first()?, "Z" | "X" | "x"),
        })
    }
}

/// The identity of the living process with this pid.
pub fn process_identity(pid: u32) -> Option<ProcessIdentity> {
    Stat::of(pid)
        .filter(|stat| stat.alive)
        .map(|stat| stat.identity)
}

/// The session that this process is in.
pub fn session_id(pid: u32) -> Option<u32> {
    Stat::of(pid).map(|stat| stat.session)
}

/// The user that this process runs as.
pub fn uid_of(pid: u32) -> Option<u32> {
    Some(fs::metadata(format!("/proc/{pid}")).ok()?.uid())
}

/// Its arguments, at most so many bytes of them. `None` for kernel threads and zombies. A process may write over
/// them: one that has given itself a title has a single argument with spaces in it.
pub fn arguments(pid: u32, limit: u64) -> Option<Vec<String>> {
    let mut bytes = Vec::new();
    let file = fs::File::open(format!("/proc/{pid}/cmdline")).ok()?;
    file.take(limit).read_to_end(&mut bytes).ok()?;
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return None;
    }
    let arguments = bytes.split(|byte| *byte == 0);
    Some(
        arguments
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect(),
    )
}

/// Its arguments, joined by spaces, at most 4 kB of them. `None` for kernel threads and zombies.
pub fn command_line(pid: u32) -> Option<String> {
    Some(arguments(pid, 4096)?.join(" "))
}

/// Name of its program as the kernel keeps it: at most 15 bytes, and the process may change it.
pub fn name(pid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/comm")).ok()?;
    let name = String::from_utf8_lossy(&bytes);
    Some(name.strip_suffix('\n').unwrap_or(&name).to_owned())
}

/// Its working directory, as the kernel writes it: one that was removed has ` (deleted)` behind its name.
pub fn directory(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Whether this path leads us to the working directory of the process. It does not where the directory was removed,
/// nor where the process is in a container and its files are others than ours.
pub fn is_directory_of(path: &Path, pid: u32) -> bool {
    let identity = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    let theirs = identity(Path::new(&format!("/proc/{pid}/cwd")));
    theirs.is_some() && theirs == identity(path)
}

/// The random name of this boot of the kernel. Empty where it cannot be read.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim_end().to_owned())
        .unwrap_or_default()
}

/// Whether this process counts pids as we do.
pub fn same_pid_namespace(pid: u32) -> bool {
    let theirs = fs::read_link(format!("/proc/{pid}/ns/pid"));
    let ours = fs::read_link("/proc/self/ns/pid");
    matches!((theirs, ours), (Ok(theirs), Ok(ours)) if theirs == ours)
}

/// Every process that can be seen. Walks `/proc`.
pub fn every_pid() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The environment that the process was started with, `NAME=value` texts that end in NUL. Empty if it cannot be
/// read, and for the moment of an exec.
pub fn environ(pid: u32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()
}

/// The memory map of the process, one mapping a line, the file's path last. Milliseconds for a big process.
pub fn maps(pid: u32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/maps")).unwrap_or_default()
}

/// Which processes have one of these sockets open, as (pid, inode). Looks `among` these pids, else at every
/// process. Walks `/proc/PID/fd`: only processes of our own user can be looked into.
pub fn holders(inodes: &[u32], among: Option<&[u32]>) -> Vec<(u32, u32)> {
    let wanted: HashSet<u32> = inodes.iter().copied().collect();
    let pids = among.map_or_else(every_pid, <[u32]>::to_vec);
    let mut found = Vec::new();
    for pid in pids {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        let mut inodes: Vec<u32> = entries
            .flatten()
            .filter_map(|entry| socket_inode(&fs::read_link(entry.path()).ok()?))
            .filter(|inode| wanted.contains(inode))
            .collect();
        inodes.sort_unstable();
        inodes.dedup();
        found.extend(inodes.into_iter().map(|inode| (pid, inode)));
    }
    found
}

fn socket_inode(target: &Path) -> Option<u32> {
    target
        .to_str()?
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_shifts_no_field() {
        let mut text = "12 (a) (b c) S 1 12 7".to_owned();
        for _ in 0..15 {
            text.push_str(" 0");
        }
        text.push_str(" 4711 0 0\n");
        let stat = Stat::parse(12, &text).unwrap();
        assert_eq!(stat.identity.start_time, 4711);
        assert_eq!((stat.parent, stat.group, stat.session), (1, 12, 7));
        assert!(stat.alive);
        for torn in ["", "12 (a", "12 (a) S 1 2 3"] {
            assert_eq!(Stat::parse(12, torn), None, "{torn:?}");
        }
    }

    #[test]
    fn a_child_is_described_until_it_is_gone() {
        let mut child = Command::new("cat")
            .arg("-")
            .env("STYXY_TEST_MARK", "mark-0001")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cat starts");
        let pid = child.id();
        assert_eq!(process_identity(pid), process_identity(pid));
        assert_eq!(uid_of(pid), Some(nix::unistd::geteuid().as_raw()));
        assert_eq!(session_id(pid), session_id(std::process::id()));
        assert!(same_pid_namespace(pid));
        assert!(every_pid().contains(&pid));
        // What it repeats shows that the program runs; `spawn` may return a moment before that.
        let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        writeln!(input, "ready").unwrap();
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        assert_eq!(command_line(pid).as_deref(), Some("cat -"));
        assert_eq!(arguments(pid, 4096).unwrap(), ["cat", "-"]);
        assert_eq!(arguments(pid, 2).unwrap(), ["ca"]);
        assert_eq!(name(pid).as_deref(), Some("cat"));
        let directory = directory(pid).unwrap();
        assert!(is_directory_of(&directory, pid));
        assert!(!is_directory_of(Path::new("/proc"), pid));
        let environ = environ(pid);
        let mut entries = environ.split(|byte| *byte == 0);
        assert!(entries.any(|entry| entry == b"STYXY_TEST_MARK=mark-0001"));
        assert!(String::from_utf8_lossy(&maps(pid)).contains("/cat\n"));
        child.kill().expect("it is ours");
        child.wait().expect("it ends");
        assert_eq!(process_identity(pid), None);
        assert_eq!(command_line(pid), None);
        assert!(!is_directory_of(&directory, pid));
        assert!(super::environ(pid).is_empty() && maps(pid).is_empty());
    }

    #[test]
    fn a_socket_is_found_at_the_process_that_has_it() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = styxy_protocol::Port::new(held.local_addr().unwrap().port()).unwrap();
        let inode = crate::kernel::listening_on(port).unwrap()[0].inode;
        let own = std::process::id();
        assert_eq!(holders(&[inode], Some(&[own])), [(own, inode)]);
        assert!(holders(&[inode], None).contains(&(own, inode)));
        assert_eq!(holders(&[0], Some(&[own])), []);
    }

    #[test]
    fn the_boot_has_a_name() {
        assert_eq!(boot_id().len(), 36);
    }
}
