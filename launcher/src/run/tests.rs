//! What is announced, and which commands get a port.

use styxy_protocol::api::{Conflict, Holder};

use super::*;
use crate::lease::tests::{lease, wish};

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

/// What is said about the lease of `got`; by whom the wanted port is held, if the daemon says that it is.
fn said(asked: Option<u16>, default: Option<u16>, got: u16, by: Option<Holder>) -> String {
    let wish = Wish {
        asked: asked.and_then(Port::new),
        default: default.and_then(Port::new),
        ..wish()
    };
    let wanted = wish.wanted();
    let lease = Lease {
        conflict: by.and_then(|holder| {
            Some(Conflict {
                port: wanted?,
                holder,
            })
        }),
        ..lease(got)
    };
    let notice = announcement(&wish, &lease);
    notice.map_or_else(|| "nothing".to_owned(), |notice| notice.to_string())
}

#[test]
fn a_port_is_announced_when_it_is_another_one_than_without_styxy() {
    let foreign = || {
        Some(Holder::Process {
            pid: Some(7),
            command: None,
        })
    };
    for (asked, default, got, by, text) in [
        (None, None, 3000, None, "nothing"),
        (None, Some(5173), 5173, None, "nothing"),
        (Some(4000), Some(5173), 4000, None, "nothing"),
        (
            None,
            Some(5173),
            5180,
            None,
            "✓ STYXY: Using port 5180 as last time (the default is 5173)",
        ),
        (
            None,
            Some(5173),
            5174,
            foreign(),
            "✓ STYXY: Port 5173 was in use, auto-assigned port 5174 (held by pid 7)",
        ),
        (
            Some(4000),
            Some(5173),
            5173,
            foreign(),
            "✓ STYXY: Port 4000 was in use, auto-assigned port 5173 (held by pid 7)",
        ),
        (
            Some(4000),
            None,
            3000,
            None,
            "✓ STYXY: Port 4000 was in use, auto-assigned port 3000",
        ),
    ] {
        assert_eq!(said(asked, default, got, by), text);
    }
    let reserved = Holder::Reserved {
        reason: "browsers refuse to open this port".to_owned(),
    };
    assert_eq!(
        said(None, Some(6000), 3000, Some(reserved)),
        "✓ STYXY: Port 6000 cannot be used (browsers refuse to open this port), auto-assigned port 3000"
    );
}

fn service(typed: &[&str], command: &[&str]) -> Service {
    use clap::Parser as _;
    let words = [&["styxy run"], typed, &["--"], command].concat();
    let args = crate::cli::RunCli::try_parse_from(words).unwrap().run;
    let context = Context {
        build: crate::BUILD,
        env: Vec::new(),
        cwd: None,
        pid: 1,
        uid: 0,
        is_watched: false,
    };
    let (notices, _) = notice::tests::recorded(Volume::Normal);
    let detection = understand(&context, &args.command, &notices);
    Service::new(&args, None, detection)
}

#[test]
fn what_the_user_says_goes_before_what_was_detected() {
    let server = ["python3", "-m", "http.server", "8000"];
    let detected = service(&[], &server);
    assert_eq!(detected.kind.as_str(), "api");
    assert_eq!(detected.asked, Some(port(8000)));
    assert_eq!(detected.insistence, Insistence::None);
    let said = service(
        &["-p", "4000", "-t", "docs", "-n", "manual", "--strict"],
        &server,
    );
    assert_eq!(said.kind.as_str(), "docs");
    assert_eq!(said.name, "manual");
    assert_eq!(said.asked, Some(port(4000)));
    assert_eq!(said.insistence, Insistence::Strict);
    assert_eq!(
        service(&["-p", "4000"], &server).insistence,
        Insistence::Named
    );
}

#[test]
fn a_short_lived_command_gets_a_port_only_if_the_user_says_that_it_is_a_service() {
    let command = ["ls", "-l"];
    assert!(!service(&[], &command).needs_port);
    assert!(!service(&["--name", "x"], &command).needs_port);
    assert!(service(&["--port", "4000"], &command).needs_port);
    assert!(service(&["--type", "docs"], &command).needs_port);
    assert!(service(&[], &["./server"]).needs_port);
}
