//! How paths and times look to the user who reads them now. Everything that comes out is fit for a terminal.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::context::Context;
use crate::env_names;
use crate::notice::printable;

/// Where and when somebody looks.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// The user's home directory, shown as `~`.
    pub(super) home: Option<PathBuf>,
    /// Now.
    pub(super) now: SystemTime,
}

impl View {
    /// The view of the user of this process.
    pub(super) fn of(context: &Context) -> Self {
        Self {
            home: context.path_var(env_names::HOME).map(Path::to_owned),
            now: SystemTime::now(),
        }
    }

    /// A path, with the user's home as `~`.
    pub(super) fn path(&self, path: &str) -> String {
        let home = self.home.as_deref().filter(|home| *home != Path::new("/"));
        let below = home.and_then(|home| Path::new(path).strip_prefix(home).ok());
        match below.map(|below| below.to_string_lossy()) {
            Some(below) if below.is_empty() => "~".to_owned(),
            Some(below) => format!("~/{}", printable(&below)),
            None => printable(path),
        }
    }

    /// How long ago a time (RFC 3339) was, as `5 min ago`; the time itself where it is none.
    pub(super) fn ago(&self, time: &str) -> String {
        match humantime::parse_rfc3339(time) {
            // A clock that was set back makes it seem to come.
            Ok(then) => format!(
                "{} ago",
                span(self.now.duration_since(then).unwrap_or_default())
            ),
            Err(_) => printable(time),
        }
    }
}

/// The first line of what may have several, such as a problem that shows the place in a file.
pub(super) fn first_line(text: &str) -> String {
    printable(text.lines().next().unwrap_or_default())
}

/// A length of time in one unit, as `90 s`, `5 min`, `3 h` or `4 d`.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// At noon of the first of January 2026, in `/home/me`.
    pub(crate) fn view() -> View {
        View {
            home: Some("/home/me".into()),
            now: humantime::parse_rfc3339("2026-01-01T12:00:00Z").unwrap(),
        }
    }

    #[test]
    fn the_home_is_a_tilde() {
        for (path, shown) in [
            ("/home/me", "~"),
            ("/home/me/shop", "~/shop"),
            ("/home/mentor/shop", "/home/mentor/shop"),
            ("/srv/a\u{1b}[2J", "/srv/a\\u{1b}[2J"),
            ("/home/me/a\nb", "~/a\\u{a}b"),
        ] {
            assert_eq!(view().path(path), shown);
        }
        let root = View {
            home: Some("/".into()),
            ..view()
        };
        assert_eq!(root.path("/srv"), "/srv");
    }

    #[test]
    fn a_time_is_told_by_how_long_ago_it_was() {
        for (time, shown) in [
            ("2026-01-01T11:59:01Z", "59 s ago"),
            ("2026-01-01T11:55:00Z", "5 min ago"),
            ("2026-01-01T09:00:00Z", "3 h ago"),
            ("2025-12-24T12:00:00Z", "8 d ago"),
            ("2026-01-01T12:00:05Z", "0 s ago"),
            ("yester\u{7}day", "yester\\u{7}day"),
        ] {
            assert_eq!(view().ago(time), shown);
        }
    }
}
