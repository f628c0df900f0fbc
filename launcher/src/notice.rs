//! Every line that styxy writes beside a running command: on stderr, one line each, never on stdout.
//!
//! Invariant: whatever goes out has passed [`printable`], so nothing that comes from outside (commands, paths,
//! names, texts of errors) can move the cursor or pass for a line of its own.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use styxy_protocol::api::Holder;
use styxy_protocol::{Port, ServiceType};

/// How much a run says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Volume {
    /// Nothing but why a command cannot be started.
    Quiet,
    /// What the user could not know otherwise.
    Normal,
    /// Somebody watches: also when the service is ready.
    Watched,
}

/// Something that a run has to say.
#[derive(Clone, Copy)]
pub(crate) enum Notice<'a> {
    /// The command runs, but without something that styxy would have done. Said once a run: the first reason is
    /// the cause of the others.
    Degraded(&'a dyn fmt::Display),
    /// Something in the user's files is wrong and was left out. May have several lines.
    LeftOut(&'a dyn fmt::Display),
    /// The port is not the one that the tool or the user would have used.
    Reassigned {
        /// The port that it would have been.
        wanted: Port,
        /// The port that it is.
        got: Port,
        /// Who has the wanted one, as far as that is known.
        holder: Option<&'a Holder>,
    },
    /// The port is the one that the service had last time rather than the tool's default.
    AsLastTime {
        /// The tool's default.
        default: Port,
        /// The port that it is.
        got: Port,
    },
    /// There may be one service of the type and it runs elsewhere: this run waits for its end.
    Follows {
        /// The type.
        service_type: &'a ServiceType,
        /// Where it runs.
        port: Port,
        /// Who runs it.
        service: &'a Holder,
    },
    /// The service accepts connections.
    Ready {
        /// Where.
        port: Port,
        /// Since its start.
        after: Duration,
    },
}

impl fmt::Display for Notice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Degraded(what) | Self::LeftOut(what) => write!(f, "styxy: {what}"),
            Self::Reassigned {
                wanted,
                got,
                holder: Some(Holder::Reserved { reason }),
            } => write!(
                f,
                "✓ STYXY: Port {wanted} cannot be used ({reason}), auto-assigned port {got}"
            ),
            Self::Reassigned {
                wanted,
                got,
                holder: by,
            } => write!(
                f,
                "✓ STYXY: Port {wanted} was in use, auto-assigned port {got}{}",
                by.map(holder).unwrap_or_default()
            ),
            Self::AsLastTime { default, got } => write!(
                f,
                "✓ STYXY: Using port {got} as last time (the default is {default})"
            ),
            Self::Follows {
                service_type,
                port,
                service,
            } => write!(
                f,
                "✓ STYXY: one `{service_type}` service at a time; it runs on http://localhost:{port}{}; following it",
                who(service).map_or_else(String::new, |who| format!(" ({who})"))
            ),
            Self::Ready { port, after } => write!(
                f,
                "✓ STYXY: ready on http://localhost:{port} ({:.1} s)",
                after.as_secs_f64()
            ),
        }
    }
}

/// The voice of one run.
pub(crate) struct Notices {
    volume: Volume,
    degraded: AtomicBool,
    write: Box<dyn Fn(&str) + Send + Sync>,
}

impl Notices {
    /// A voice of this volume on stderr.
    pub(crate) fn new(volume: Volume) -> Self {
        Self::to(volume, Box::new(write_to_stderr))
    }

    /// A voice of this volume that is heard by `write`, a call for each notice, line end included.
    pub(crate) fn to(volume: Volume, write: Box<dyn Fn(&str) + Send + Sync>) -> Self {
        Self {
            volume,
            degraded: AtomicBool::new(false),
            write,
        }
    }

    /// Whether a line is owed when the service is ready.
    pub(crate) fn announces_readiness(&self) -> bool {
        self.volume == Volume::Watched
    }

    /// Says it, unless the volume forbids.
    pub(crate) fn say(&self, notice: Notice<'_>) {
        let is_said = match (self.volume, notice) {
            (Volume::Quiet, _) => false,
            (_, Notice::Degraded(_)) => !self.degraded.swap(true, Ordering::Relaxed),
            (_, Notice::Ready { .. }) => self.announces_readiness(),
            _ => true,
        };
        if is_said {
            (self.write)(&match notice {
                Notice::LeftOut(_) => lines(&notice.to_string()),
                _ => line(&notice),
            });
        }
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Notices").field(&self.volume).finish()
    }
}

/// Says why nothing was started, whatever the volume.
pub(crate) fn fatal(what: &dyn fmt::Display) {
    write_to_stderr(&lines(&format!("styxy: {what}")));
}

/// Writes a text that needs no introduction, such as the list of commands to somebody who typed none.
pub(crate) fn plain(text: &str) {
    write_to_stderr(&lines(text.trim_end()));
}

/// Who holds a port, as an addition in parentheses; empty when nothing is known.
pub(crate) fn holder(holder: &Holder) -> String {
    who(holder).map_or_else(String::new, |who| format!(" (held by {who})"))
}

fn who(holder: &Holder) -> Option<String> {
    let mut text = String::new();
    match holder {
        Holder::Lease {
            project_path,
            service_name,
            pid,
        } => {
            text.push_str(&visible(
                service_name.as_deref().unwrap_or("another service"),
            ));
            if let Some(path) = project_path {
                let _ = write!(text, " of {}", visible(path));
            }
            if let Some(pid) = pid {
                let _ = write!(text, ", pid {pid}");
            }
        }
        Holder::Process {
            pid: Some(pid),
            command,
        } => {
            let _ = write!(text, "pid {pid}");
            if let Some(command) = command {
                let _ = write!(text, ": {}", visible(command));
            }
        }
        Holder::Process { pid: None, .. } | Holder::Reserved { .. } => return None,
    }
    Some(text)
}

/// At most 60 characters of `text`, fit for a terminal.
pub(crate) fn visible(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((cut, _)) => printable(&text[..cut]) + "…",
        None => printable(text),
    }
}

/// The text with everything escaped that a terminal would not show as it is: control characters, line ends of
/// any kind, and characters that change the direction of writing.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_steering(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Line and paragraph separators, and the bidirectional controls of Unicode (UAX 9, section 2).
const fn is_steering(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

fn line(what: &dyn fmt::Display) -> String {
    printable(&what.to_string()) + "\n"
}

/// As it is in lines, each of them printable.
fn lines(text: &str) -> String {
    text.lines().map(|text| line(&text)).collect()
}

/// One write, so that lines of two runs on one terminal do not mix; a closed stderr is nobody's problem.
fn write_to_stderr(text: &str) {
    drop(std::io::stderr().write_all(text.as_bytes()));
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn port(number: u16) -> Port {
        Port::new(number).unwrap()
    }

    /// A voice and what it has said so far.
    pub(crate) fn recorded(volume: Volume) -> (Notices, Arc<Mutex<String>>) {
        let said = Arc::new(Mutex::new(String::new()));
        let record = Arc::clone(&said);
        let write = move |text: &str| record.lock().unwrap().push_str(text);
        (Notices::to(volume, Box::new(write)), said)
    }

    fn said(volume: Volume, notices: &[Notice<'_>]) -> String {
        let (voice, said) = recorded(volume);
        for &notice in notices {
            voice.say(notice);
        }
        said.lock().unwrap().clone()
    }

    const FOREIGN: Holder = Holder::Process {
        pid: None,
        command: None,
    };

    #[test]
    fn a_run_says_as_much_as_its_volume_allows() {
        let reserved = Holder::Reserved {
            reason: "browsers refuse to open this port".to_owned(),
        };
        let squatter = Holder::Process {
            pid: Some(9),
            command: Some("python3 -m http.server\u{1b}[2J".to_owned()),
        };
        let service = Holder::Lease {
            project_path: Some("/home/me/bots".to_owned()),
            service_name: Some("llm".to_owned()),
            pid: Some(41),
        };
        let (wanted, got) = (port(6006), port(6007));
        let reassigned = |holder| Notice::Reassigned {
            wanted,
            got,
            holder,
        };
        let notices = [
            Notice::LeftOut(&"`a\u{7}.toml`:1:2: nonsense\n  |  ^"),
            Notice::Degraded(&"going on without the daemon: `/tmp/a\nb` is gone"),
            Notice::Degraded(&"a consequence of that"),
            reassigned(None),
            reassigned(Some(&FOREIGN)),
            reassigned(Some(&squatter)),
            reassigned(Some(&reserved)),
            Notice::AsLastTime {
                default: wanted,
                got,
            },
            Notice::Follows {
                service_type: &"ai".parse().unwrap(),
                port: got,
                service: &service,
            },
            Notice::Ready {
                port: got,
                after: Duration::from_millis(1449),
            },
        ];
        insta::assert_snapshot!(said(Volume::Watched, &notices), @r"
        styxy: `a\u{7}.toml`:1:2: nonsense
          |  ^
        styxy: going on without the daemon: `/tmp/a\u{a}b` is gone
        ✓ STYXY: Port 6006 was in use, auto-assigned port 6007
        ✓ STYXY: Port 6006 was in use, auto-assigned port 6007
        ✓ STYXY: Port 6006 was in use, auto-assigned port 6007 (held by pid 9: python3 -m http.server\u{1b}[2J)
        ✓ STYXY: Port 6006 cannot be used (browsers refuse to open this port), auto-assigned port 6007
        ✓ STYXY: Using port 6007 as last time (the default is 6006)
        ✓ STYXY: one `ai` service at a time; it runs on http://localhost:6007 (llm of /home/me/bots, pid 41); following it
        ✓ STYXY: ready on http://localhost:6007 (1.4 s)
        ");
        let normal = said(Volume::Normal, &notices);
        assert_eq!(normal.lines().count(), 9, "{normal}");
        assert!(!normal.contains("ready"), "{normal}");
        assert_eq!(said(Volume::Quiet, &notices), "");
    }

    #[test]
    fn a_holder_is_named_as_far_as_it_is_known() {
        let lease = |project_path: Option<&str>, service_name: Option<&str>, pid| Holder::Lease {
            project_path: project_path.map(str::to_owned),
            service_name: service_name.map(str::to_owned),
            pid,
        };
        let process = |pid, command: Option<&str>| Holder::Process {
            pid,
            command: command.map(str::to_owned),
        };
        for (who, text) in [
            (
                lease(Some("/a"), Some("vite"), Some(7)),
                " (held by vite of /a, pid 7)",
            ),
            (lease(None, None, None), " (held by another service)"),
            (
                process(Some(9), Some("python3 -m http.server")),
                " (held by pid 9: python3 -m http.server)",
            ),
            (process(Some(9), None), " (held by pid 9)"),
            (process(None, Some("unseen")), ""),
        ] {
            assert_eq!(holder(&who), text);
        }
    }

    #[test]
    fn what_comes_from_outside_cannot_move_the_cursor() {
        for (text, shown) in [
            ("plain – ünïcode", "plain – ünïcode"),
            ("a\u{1b}[2Jb\n", "a\\u{1b}[2Jb\\u{a}"),
            ("\u{202e}\u{2066}\u{61c}", "\\u{202e}\\u{2066}\\u{61c}"),
            ("\u{2028}\u{9b}2J\r", "\\u{2028}\\u{9b}2J\\u{d}"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(visible(&"x".repeat(60)), "x".repeat(60));
        assert_eq!(visible(&"ä".repeat(61)), "ä".repeat(60) + "…");
    }
}
