//! `styxy daemon logs`: what daemons in the background have written, and go on writing.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::cli::LogsArgs;
use crate::manage::failed;
use crate::notice::printable;
use crate::output;
use crate::places::Places;

/// Prints the end of the log, and with `--follow` what comes after it until somebody ends us.
pub(super) fn logs(places: &Places, args: LogsArgs) -> ExitCode {
    let path = places.home.join("daemon.log");
    match show(&path, args) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads any more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::NotFound => failed(&format_args!(
            "there is no log at `{}`: no daemon has run in the background yet; `styxy daemon start -d` starts one",
            path.display()
        )),
        Err(error) => failed(&format_args!("cannot read `{}`: {error}", path.display())),
    }
}

fn show(path: &Path, args: LogsArgs) -> io::Result<()> {
    // Watched before it is read, so that nothing that is written in between is missed.
    let watch = args.follow.then(|| watch(path)).transpose()?;
    let mut log = Log::open(path)?;
    let newest = log.new_lines()?;
    let newest: Vec<&str> = newest.lines().collect();
    let older = if newest.len() < args.lines {
        fs::read_to_string(older(path)).unwrap_or_default()
    } else {
        String::new()
    };
    let lines = last(args.lines, older.lines().chain(newest));
    output::try_print(&lines)?;
    let Some(watch) = watch else {
        return Ok(());
    };
    loop {
        watch.read_events()?;
        print_all(&log.new_lines()?)?;
        if !log.is_current() {
            // The daemon has begun a new file; what it wrote to the old one before that is printed.
            log = Log::open(path)?;
            print_all(&log.new_lines()?)?;
        }
    }
}

/// The last `count` of the lines, fit for a terminal.
fn last<'a>(count: usize, lines: impl Iterator<Item = &'a str>) -> String {
    let mut kept = VecDeque::new();
    for line in lines {
        kept.push_back(line);
        if kept.len() > count {
            kept.pop_front();
        }
    }
    kept.into_iter()
        .map(|line| printable(line) + "\n")
        .collect()
}

fn print_all(text: &str) -> io::Result<()> {
    output::try_print(&last(usize::MAX, text.lines()))
}

/// Where the daemon puts the file that is full.
fn older(path: &Path) -> PathBuf {
    let mut older = path.as_os_str().to_owned();
    older.push(".1");
    older.into()
}

fn watch(path: &Path) -> io::Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let events = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    inotify.add_watch(path.parent().unwrap_or(Path::new("/")), events)?;
    Ok(inotify)
}

/// A log file that is being written.
struct Log {
    path: PathBuf,
    file: File,
    /// The beginning of a line whose end is still to come.
    begun: Vec<u8>,
}

impl Log {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: File::open(path)?,
            begun: Vec::new(),
        })
    }

    /// The lines that were finished since the last call.
    fn new_lines(&mut self) -> io::Result<String> {
        self.file.read_to_end(&mut self.begun)?;
        let end = self.begun.iter().rposition(|&byte| byte == b'\n');
        let lines: Vec<u8> = self.begun.drain(..end.map_or(0, |end| end + 1)).collect();
        Ok(String::from_utf8_lossy(&lines).into_owned())
    }

    /// Whether the file is still the one at its path. One that is not there at the moment is.
    fn is_current(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let there = fs::metadata(&self.path).map(identity);
        there.is_err() || there.ok() == self.file.metadata().map(identity).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_escaped() {
        let lines = ["a", "b\u{1b}[2J", "c"];
        assert_eq!(last(2, lines.into_iter()), "b\\u{1b}[2J\nc\n");
        assert_eq!(last(0, lines.into_iter()), "");
        assert_eq!(last(9, lines.into_iter()).lines().count(), 3);
    }

    #[test]
    fn lines_come_whole_and_a_new_file_is_noticed() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("daemon.log");
        let mut written = File::create(&path).unwrap();
        let mut log = Log::open(&path).unwrap();
        written.write_all(b"one\ntw").unwrap();
        assert_eq!(log.new_lines().unwrap(), "one\n");
        written.write_all(b"o\n").unwrap();
        assert_eq!(log.new_lines().unwrap(), "two\n");
        assert_eq!(log.new_lines().unwrap(), "");
        assert!(log.is_current());
        fs::rename(&path, older(&path)).unwrap();
        assert!(log.is_current(), "there is no other one");
        File::create(&path).unwrap();
        assert!(!log.is_current());
    }
}
