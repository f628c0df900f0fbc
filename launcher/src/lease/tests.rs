//! What is asked of the daemon and what is said when it cannot be had; and wishes and leases for other tests.

use std::ffi::OsString;

use super::*;

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

/// What a Vite project wishes for.
pub(crate) fn wish() -> Wish {
    Wish {
        service_type: "dev".parse().unwrap(),
        name: "web".to_owned(),
        worktree: Some("/home/me/shop".into()),
        package_dir: Some("/home/me/shop/apps/web".into()),
        asked: None,
        default: Some(port(5173)),
        strict: false,
        command: "npm run web".to_owned(),
    }
}

/// A lease of this port that nobody has given.
pub(crate) fn lease(number: u16) -> Lease {
    Lease {
        id: "2a6f1c0e".to_owned(),
        port: port(number),
        spares: Vec::new(),
        conflict: None,
        heartbeat_seconds: None,
        client: None,
        hold: None,
        claim: None,
    }
}

fn context() -> Context {
    Context {
        build: crate::BUILD,
        env: Vec::<(OsString, OsString)>::new(),
        cwd: None,
        pid: 4711,
        uid: 0,
        is_watched: false,
    }
}

#[test]
fn a_request_says_what_the_wish_is() {
    insta::assert_json_snapshot!(request(&context(), &wish()), @r#"
    {
      "service_type": "dev",
      "service_name": "web",
      "project_path": "/home/me/shop",
      "package_dir": "/home/me/shop/apps/web",
      "default_port": 5173,
      "strict": false,
      "spare_ports": 2,
      "pid": 4711,
      "command": "npm run web",
      "dry_run": false
    }
    "#);
}

#[test]
fn a_name_has_only_characters_that_the_daemon_takes() {
    for (name, sent) in [
        ("@shop/web:dev+1.0_a", "@shop/web:dev+1.0_a"),
        ("my app (new) é\u{1b}", "my-app--new----"),
    ] {
        assert_eq!(service_name(name), sent);
    }
}

#[test]
fn only_one_port_will_do_for_a_strict_wish_asked_for_or_not() {
    for (asked, preferred) in [(None, 5173), (Some(port(4000)), 4000)] {
        let wish = Wish {
            asked,
            strict: true,
            ..wish()
        };
        let request = request(&context(), &wish);
        assert_eq!(request.preferred_port, Some(port(preferred)));
        assert!(request.strict);
    }
}

#[test]
fn no_name_path_or_command_is_too_odd_or_too_long_for_the_daemon() {
    let wish = Wish {
        name: "\u{1b}[2J".repeat(100),
        worktree: Some(format!("/{}\n/end", "ä".repeat(4000)).into()),
        package_dir: Some(format!("/{}", "\"".repeat(4000)).into()),
        command: "\u{7}\u{10ffff}".repeat(4000),
        ..wish()
    };
    let request = request(&context(), &wish);
    let texts = [
        &request.service_name,
        &request.project_path,
        &request.package_dir,
    ];
    for text in texts {
        let text = text.as_deref().unwrap();
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    assert!(request.service_name.as_ref().unwrap().len() <= 100);
    assert!(
        request
            .project_path
            .as_ref()
            .unwrap()
            .ends_with("ä\\u{a}/end")
    );
    assert!(serde_json::to_vec(&request).unwrap().len() < 16 << 10);
}

#[test]
fn why_there_is_no_lease_is_told_with_what_there_is_instead() {
    let reasons = [
        Unmanaged::NoPlace(PlacesError::NoHome.to_string()),
        Unmanaged::Client(ClientError::Stopped { pid: 77 }),
        Unmanaged::Client(ClientError::Silent),
        Unmanaged::OnlyOne {
            service_type: "ai".parse().unwrap(),
            port: port(11430),
            why: NotFollowed::Idle,
        },
        Unmanaged::OnlyOne {
            service_type: "ai".parse().unwrap(),
            port: port(11430),
            why: NotFollowed::Ourselves,
        },
    ];
    let text = reasons.map(|reason| reason.to_string()).join("\n");
    insta::assert_snapshot!(text, @r"
    going on without the daemon: neither `STYXY_HOME` nor `HOME` is an absolute path
    going on without the daemon: the daemon is stopped; `kill -CONT 77` lets it go on
    going on without the daemon: the daemon does not answer; `styxy daemon stop` ends it
    one `ai` service at a time: one that does not run has the lease of port 11430 (`styxy release 11430` ends it); going on without one
    one `ai` service at a time: the run around this one has the lease of port 11430; going on without one
    ");
}

#[test]
fn a_strict_refusal_names_the_holder() {
    let holder = Holder::Process {
        pid: Some(9),
        command: Some("nginx".to_owned()),
    };
    let taken = Taken {
        port: port(8000),
        holder,
    };
    assert_eq!(
        taken.to_string(),
        "port 8000 is taken (held by pid 9: nginx); without `--strict` another one is used"
    );
}

#[test]
fn a_lease_that_nobody_gave_needs_no_giving_back() {
    assert_eq!(lease(3000).release().finish(), Release::Done);
    let gone = Client::new("/nonexistent/sock".into(), crate::BUILD);
    let of_a_daemon = Lease {
        client: Some(gone),
        ..lease(3000)
    };
    assert_eq!(of_a_daemon.release().finish(), Release::Untold);
}
