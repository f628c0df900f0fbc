//! One development server and what styxy promises about it, whichever it is: alone it is as without styxy, a second
//! one comes up beside it, and a foreign process on its port does not keep it from coming up.

use std::path::{Path, PathBuf};

use styxy_protocol::api::AllocationsResponse;
use styxy_tests::{Deadline, Fixture, Host, Running, Sandbox, available};

use crate::{FIXTURES, sandbox};

/// A server as its user starts it.
pub(crate) struct Server {
    /// Its project.
    pub(crate) fixture: Fixture,
    /// Its command line.
    pub(crate) argv: &'static [&'static str],
    /// Where it listens when nobody interferes.
    pub(crate) port: u16,
    /// What its page says.
    pub(crate) text: &'static str,
    /// What it prints itself about where it is, with `{}` for the port.
    pub(crate) says: &'static str,
}

/// Makes the five tests of a [`Server`].
macro_rules! server_tests {
    ($name:ident, $server:expr) => {
        mod $name {
            use super::*;
            use crate::server::Server;

            #[test]
            fn alone_is_as_without_styxy() {
                $server.alone_is_as_bare();
            }

            #[test]
            fn comes_up_twice() {
                $server.comes_up_twice();
            }

            #[test]
            fn keeps_away_from_a_port_held_on_ipv4_loopback() {
                $server.keeps_away_from_a_port_held_on(Host::Ipv4Loopback);
            }

            #[test]
            fn keeps_away_from_a_port_held_on_any_ipv4_address() {
                $server.keeps_away_from_a_port_held_on(Host::Ipv4Any);
            }

            #[test]
            fn keeps_away_from_a_port_held_on_ipv6_loopback() {
                $server.keeps_away_from_a_port_held_on(Host::Ipv6Loopback);
            }
        }
    };
}
pub(crate) use server_tests;

/// Makes the two tests of a wrapper around a [`Server`] that has its five already.
macro_rules! wrapper_tests {
    ($name:ident, $server:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn alone_is_as_without_styxy() {
                $server.alone_is_as_bare();
            }

            #[test]
            fn keeps_away_from_a_held_port() {
                for host in [Host::Ipv4Loopback, Host::Ipv6Loopback] {
                    $server.keeps_away_from_a_port_held_on(host);
                }
            }
        }
    };
}
pub(crate) use wrapper_tests;

/// The project in a sandbox.
struct Place {
    sandbox: Sandbox,
    dirs: Vec<PathBuf>,
}

impl Server {
    /// Started alone it has its own port, nothing is said, and ^C ends it as it ends without styxy.
    pub(crate) fn alone_is_as_bare(&self) {
        let Some(place) = self.place(&["only"]) else {
            return;
        };
        let (sandbox, dir) = (&place.sandbox, place.dirs[0].as_path());

        let mut bare = self.start(sandbox, dir, Styxy::Without);
        sandbox.page(self.port, "/", self.text, Deadline::long());
        bare.control_c(Deadline::long());
        let bare = bare.end(Deadline::long());
        sandbox.wait_free(self.port, Deadline::short());

        let mut managed = self.start(sandbox, dir, Styxy::With);
        assert_eq!(ready_port(&managed), self.port, "{managed:?}");
        sandbox.page(self.port, "/", self.text, Deadline::long());
        let tree = managed.tree();
        managed.control_c(Deadline::long());
        let ended = managed.end(Deadline::long());
        assert_eq!(ended.status, bare.status, "left with styxy: {ended:#?}");
        assert!(!ended.stderr.contains("auto-assigned"), "{ended:#?}");
        assert!(!ended.stdout.contains("STYXY"), "{ended:#?}");
        tree.wait_gone(Deadline::short());
        sandbox.wait_free(self.port, Deadline::short());
        sandbox.wait_quiet(Deadline::short());
    }

    /// Of two copies of the project the first has the usual port and the second another one, and `list` knows both.
    pub(crate) fn comes_up_twice(&self) {
        let Some(place) = self.place(&["one", "other"]) else {
            return;
        };
        let sandbox = &place.sandbox;
        let mut runs = Vec::new();
        for dir in &place.dirs {
            let run = self.start(sandbox, dir, Styxy::With);
            let port = ready_port(&run);
            sandbox.page(port, "/", self.text, Deadline::long());
            runs.push((port, run));
        }
        assert_eq!(runs[0].0, self.port);
        assert_ne!(runs[1].0, self.port);
        runs[1]
            .1
            .line_with(&auto_assigned(self.port, runs[1].0), Deadline::short());
        assert_eq!(leases(sandbox).allocations.len(), 2);
        for (port, run) in &mut runs {
            run.control_c(Deadline::long());
            sandbox.wait_free(*port, Deadline::short());
        }
        sandbox.wait_quiet(Deadline::short());
    }

    /// With its port held by somebody else it is served on another one, and one line says which.
    pub(crate) fn keeps_away_from_a_port_held_on(&self, host: Host) {
        let Some(place) = self.place(&["only"]) else {
            return;
        };
        let sandbox = &place.sandbox;
        let squatter = sandbox.squat(host, self.port);
        let mut run = self.start(sandbox, &place.dirs[0], Styxy::With);
        let port = ready_port(&run);
        assert_ne!(port, self.port, "{run:?}");
        sandbox.page(port, "/", self.text, Deadline::long());
        run.line_with(&auto_assigned(self.port, port), Deadline::short());
        let says = self.says.replace("{}", &port.to_string());
        run.line_with(&says, Deadline::short());
        assert!(!squatter.was_visited(), "{run:?}");
        run.control_c(Deadline::long());
        sandbox.wait_free(port, Deadline::short());
        sandbox.wait_quiet(Deadline::short());
    }

    fn place(&self, names: &[&str]) -> Option<Place> {
        let sandbox = sandbox();
        let copies = names
            .iter()
            .map(|name| FIXTURES.copy(self.fixture, &sandbox, name));
        let dirs = available(copies.collect())?;
        Some(Place { sandbox, dirs })
    }

    fn start(&self, sandbox: &Sandbox, dir: &Path, styxy: Styxy) -> Running {
        let call = match styxy {
            Styxy::Without => sandbox.command(self.argv),
            Styxy::With => sandbox.managed(self.argv).env(WATCHED.0, WATCHED.1),
        };
        call.in_dir(dir)
            .path_first(&dir.join(".venv/bin"))
            .path_first(&dir.join("node_modules/.bin"))
            .spawn()
    }
}

#[derive(Clone, Copy)]
enum Styxy {
    With,
    Without,
}

/// The variable that makes styxy say when and where the service is ready: somebody reads its stderr.
pub(crate) const WATCHED: (&str, &str) = ("AI_AGENT", "1");

/// The port in the line that says where the service is.
#[track_caller]
pub(crate) fn ready_port(run: &Running) -> u16 {
    let mark = "STYXY: ready on http://localhost:";
    let line = run.line_with(mark, Deadline::long());
    number_after(&line, mark).unwrap_or_else(|| panic!("no port in {line:?}"))
}

/// The number that follows `mark` in `line`.
pub(crate) fn number_after(line: &str, mark: &str) -> Option<u16> {
    let rest = &line[line.find(mark)? + mark.len()..];
    let end = rest.find(|c: char| !c.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

/// The line that says that the port is another one.
pub(crate) fn auto_assigned(wanted: u16, got: u16) -> String {
    format!("✓ STYXY: Port {wanted} was in use, auto-assigned port {got}")
}

/// What `styxy list --json` says.
#[track_caller]
pub(crate) fn leases(sandbox: &Sandbox) -> AllocationsResponse {
    let list = sandbox.styxy(["list", "--json"]).run().success();
    serde_json::from_str(&list.stdout).unwrap_or_else(|error| panic!("{error}: {}", list.stdout))
}
