//! Every line that styxy writes beside a running command: on stderr, one line each, never on stdout.
//!
//! Texts from outside (commands, paths, names) are shown with control characters escaped.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use styxy_protocol::Port;
use styxy_protocol::api::{Conflict, Holder};

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

/// The voice of one run.
#[derive(Debug)]
pub(crate) struct Notices {
    volume: Volume,
    degraded: AtomicBool,
}

impl Notices {
    /// A voice of this volume.
    pub(crate) const fn new(volume: Volume) -> Self {
        Self {
            volume,
            degraded: AtomicBool::new(false),
        }
    }

    /// Whether a line is owed when the service is ready.
    pub(crate) fn announces_readiness(&self) -> bool {
        self.volume == Volume::Watched
    }

    /// The command runs, but without something that styxy would have done. Said once a run: the first reason is
    /// the cause of the others.
    pub(crate) fn degraded(&self, what: &dyn fmt::Display) {
        if self.volume != Volume::Quiet && !self.degraded.swap(true, Ordering::Relaxed) {
            line(&format!("styxy: {what}"));
        }
    }

    /// Something in the user's files is wrong and was left out.
    pub(crate) fn warn(&self, what: &dyn fmt::Display) {
        if self.volume != Volume::Quiet {
            line(&format!("styxy: {what}"));
        }
    }

    /// The port is not the one that the tool or the user would have used, because somebody else has it.
    pub(crate) fn reassigned(&self, wanted: Port, got: Port, conflict: Option<&Conflict>) {
        if self.volume == Volume::Quiet {
            return;
        }
        let holder = conflict
            .map(|conflict| holder(&conflict.holder))
            .unwrap_or_default();
        match conflict.map(|conflict| &conflict.holder) {
            Some(Holder::Reserved { reason }) => {
                line(&format!(
                    "✓ STYXY: Port {wanted} cannot be used ({}), auto-assigned port {got}",
                    visible(reason)
                ));
            }
            _ => line(&format!(
                "✓ STYXY: Port {wanted} was in use, auto-assigned port {got}{holder}"
            )),
        }
    }

    /// The port is the one that the service had last time rather than the tool's default.
    pub(crate) fn as_last_time(&self, default: Port, got: Port) {
        if self.volume != Volume::Quiet {
            line(&format!(
                "✓ STYXY: Using port {got} as last time (the default is {default})"
            ));
        }
    }

    /// The service accepts connections.
    pub(crate) fn ready(&self, port: Port, after: Duration) {
        if self.announces_readiness() {
            line(&format!(
                "✓ STYXY: ready on http://localhost:{port} ({:.1} s)",
                after.as_secs_f64()
            ));
        }
    }
}

/// Says why nothing was started, whatever the volume.
pub(crate) fn fatal(what: &dyn fmt::Display) {
    line(&format!("styxy: {what}"));
}

/// Writes a text that needs no introduction, such as the list of commands to somebody who typed none.
pub(crate) fn plain(text: &str) {
    line(text.trim_end());
}

/// Who holds a port, as an addition in parentheses; empty when nothing is known.
pub(crate) fn holder(holder: &Holder) -> String {
    let mut text = String::new();
    match holder {
        Holder::Lease {
            project_path,
            service_name,
            pid,
        } => {
            text.push_str(" (held by ");
            text.push_str(&visible(
                service_name.as_deref().unwrap_or("another service"),
            ));
            if let Some(path) = project_path {
                let _ = write!(text, " of {}", visible(path));
            }
            if let Some(pid) = pid {
                let _ = write!(text, ", pid {pid}");
            }
            text.push(')');
        }
        Holder::Process {
            pid: Some(pid),
            command,
        } => {
            let _ = write!(text, " (held by pid {pid}");
            if let Some(command) = command {
                let _ = write!(text, ": {}", visible(command));
            }
            text.push(')');
        }
        Holder::Process { pid: None, .. } | Holder::Reserved { .. } => {}
    }
    text
}

/// At most 60 characters of `text`, fit for a terminal: control and bidirectional characters escaped.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == 60 {
            shown.push('…');
            break;
        }
        if character.is_control()
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// One write, so that lines of two runs on one terminal do not mix; a closed stderr is nobody's problem.
fn line(text: &str) {
    drop(std::io::stderr().write_all(format!("{text}\n").as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_named_as_far_as_it_is_known() {
        let lease = Holder::Lease {
            project_path: Some("/a".into()),
            service_name: Some("vite".into()),
            pid: Some(7),
        };
        assert_eq!(holder(&lease), " (held by vite of /a, pid 7)");
        let process = Holder::Process {
            pid: Some(9),
            command: Some("python3 -m http.server".into()),
        };
        assert_eq!(holder(&process), " (held by pid 9: python3 -m http.server)");
        assert_eq!(
            holder(&Holder::Process {
                pid: None,
                command: None
            }),
            ""
        );
    }

    #[test]
    fn what_comes_from_outside_cannot_move_the_cursor() {
        assert_eq!(
            visible("a\u{1b}[2Jb\n\u{202e}"),
            "a\\u{1b}[2Jb\\u{a}\\u{202e}"
        );
        assert_eq!(visible(&"x".repeat(100)).chars().count(), 61);
    }
}
