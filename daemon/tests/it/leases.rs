//! Leases as scripts ask for them: lenient input, ends without a process, shares, cleaning up.

use serde_json::{Value, json};
use styxy_protocol::Port;

use crate::harness::{Daemon, Process, ask, bind, eventually, fresh_port, home, lock_id};

fn strict(port: Port) -> Value {
    json!({ "service_type": "dev", "preferred_port": port, "strict": true })
}

#[test]
fn a_port_may_be_absent_null_or_a_text_but_nothing_else() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    daemon.allocate(&json!({ "service_type": "dev", "preferred_port": null }));
    let port = fresh_port();
    let lease =
        daemon.allocate(&json!({ "service_type": "dev", "preferred_port": port.to_string() }));
    assert_eq!(lease["port"], json!(port));
    for (junk, shown) in [
        (json!("3061abc"), "3061abc"),
        (json!(3060.7), "3060.7"),
        (json!(0), "0"),
        (json!(70000), "70000"),
        (json!(-1), "-1"),
        (json!(""), ""),
        (json!(true), "true"),
        (json!([3000]), "[3000]"),
    ] {
        let request = json!({ "service_type": "dev", "preferred_port": junk });
        let answer = daemon.send("POST", "/allocate", Some(&request));
        assert_eq!(answer.status, 400, "{junk}");
        let error = answer.body["error"].as_str().unwrap();
        assert!(
            error.starts_with(&format!("Invalid port number: {shown}")),
            "{error}"
        );
        let context = &answer.body["context"];
        assert_eq!(
            (&context["category"], &context["provided_port"]),
            (&json!("VALIDATION"), &json!(shown))
        );
        assert!(!context["suggestions"].as_array().unwrap().is_empty());
    }
}

#[test]
fn names_are_bounded_and_an_empty_one_is_none() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let request = json!({
        "service_type": "dev",
        "service_name": "@shop/web:dev+1.0_a",
        "instance_id": "agent_1-x",
        "project_path": "/a\nb",
    });
    daemon.allocate(&request);
    daemon.allocate(&json!({ "service_type": "dev", "service_name": "", "instance_id": "", "project_path": "" }));
    for (field, value) in [
        ("service_name", "a b"),
        ("service_name", "a\nb"),
        ("service_name", "é"),
        ("service_name", &"x".repeat(101)),
        ("instance_id", "a.b"),
        ("instance_id", &"x".repeat(101)),
        ("project_path", "/a\0b"),
        ("package_dir", &"/x".repeat(3000)),
    ] {
        let mut request = ask("dev");
        request[field] = json!(value);
        let answer = daemon.send("POST", "/allocate", Some(&request));
        let error = answer.body["error"].as_str().unwrap();
        assert!(
            answer.status == 400 && error.contains(field),
            "{field}: {error}"
        );
    }
    assert_eq!(daemon.leases().len(), 2);
}

#[test]
fn a_dry_run_says_what_it_was_about() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let tried = daemon.allocate(&json!({ "service_type": "dev", "dry_run": true }));
    assert_eq!(
        (&tried["dry_run"], &tried["service_type"]),
        (&json!(true), &json!("dev"))
    );
    assert_eq!(tried["service_name"], "unnamed-service");
    let tried =
        daemon.allocate(&json!({ "service_type": "ai", "service_name": "rag", "dry_run": true }));
    assert_eq!(tried["service_name"], "rag");
    assert_eq!(daemon.allocate(&ask("ai")).get("dry_run"), None);
    assert_eq!(daemon.leases().len(), 1);
}

#[test]
fn the_time_to_live_may_be_asked_for() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let lease = daemon.allocate(&json!({ "service_type": "dev", "ttl_seconds": 100 }));
    let left = daemon.leases()[0]["expires_in"].as_u64().unwrap();
    assert!((1..=100).contains(&left), "{left}");
    let path = format!("/allocate/{}/heartbeat", lock_id(&lease));
    assert_eq!(daemon.send("PUT", &path, None).body["expires_in"], 100);
    for seconds in [json!(0), json!(2_592_001), json!(-1), json!("7")] {
        let request = json!({ "service_type": "dev", "ttl_seconds": seconds });
        assert_eq!(
            daemon.send("POST", "/allocate", Some(&request)).status,
            400,
            "{seconds}"
        );
    }
}

#[test]
fn a_lease_whose_time_is_up_ends_unless_something_listens() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let brief = |port: Port| {
        let mut request = strict(port);
        request["ttl_seconds"] = json!(1);
        request
    };
    let used = fresh_port();
    // Its second may be over before it is bound.
    let held = loop {
        daemon.allocate(&brief(used));
        let held = bind(used);
        if !daemon.leases().is_empty() {
            break held;
        }
    };
    daemon.allocate(&brief(fresh_port()));
    eventually("the unused one ends", || daemon.leases().len() == 1);
    assert_eq!(daemon.leases()[0]["port"], json!(used));
    drop(held);
    eventually("the other one ends too", || daemon.leases().is_empty());
}

#[test]
fn what_the_client_calls_itself_is_shown_and_bounded() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let body = ask("dev").to_string();
    let head = format!(
        "POST /allocate HTTP/1.1\r\nhost: styxy\r\nuser-agent: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        "curl/8.".repeat(100),
        body.len()
    );
    assert_eq!(daemon.exchange(head.as_bytes()).status, 200);
    let agent = daemon.leases()[0]["userAgent"].clone();
    assert_eq!(agent.as_str().map(str::len), Some(200));
}

#[test]
fn a_lease_is_released_by_its_port_too() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let lease = daemon.allocate(&strict(fresh_port()));
    let port = lease["port"].to_string();
    let released = daemon.release(&port);
    assert_eq!(released.body["message"], format!("Port {port} released"));
    assert!(daemon.leases().is_empty());
    let again = daemon.release(&port);
    assert_eq!(
        (again.status, &again.body["error"]),
        (400, &json!(format!("no lease has port {port}")))
    );
    for wrong in ["0", "65536", "3000x", "port"] {
        let answer = daemon.release(wrong);
        assert_eq!(answer.status, 400);
        assert_eq!(
            answer.body["error"], "lock_id must be a valid UUID v4",
            "{wrong}"
        );
    }
}

#[test]
fn a_second_client_is_served_when_the_first_has_had_its_share() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let request = |instance: &str| json!({ "service_type": "docs", "instance_id": instance });
    let refused = loop {
        let answer = daemon.send("POST", "/allocate", Some(&request("greedy")));
        if answer.status != 200 {
            break answer;
        }
        // What other tests or programs of this machine hold of the range takes nothing off the share.
        assert!(daemon.leases().len() <= 90);
    };
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (400, &json!("range_exhausted"))
    );
    let error = refused.body["error"].as_str().unwrap();
    let known = "No available ports in range 4100-4199 for service type docs";
    assert!(error.starts_with(known), "{error}");
    let context = &refused.body["context"];
    assert_eq!(
        (
            &context["category"],
            &context["severity"],
            &context["port_range"],
            &context["service_type"]
        ),
        (
            &json!("RESOURCE"),
            &json!("high"),
            &json!("4100-4199"),
            &json!("docs")
        )
    );
    assert_eq!(
        context["allocated_ports"].as_array().unwrap().len(),
        daemon.leases().len()
    );
    assert!(error.contains("kept for others"), "{error}");
    daemon.allocate(&request("modest"));
}

#[test]
fn cleaning_up_ends_what_nobody_uses_and_a_single_type_is_free_again() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let owner = Process::idle();
    let single = daemon.allocate(&json!({ "service_type": "ai", "pid": owner.pid() }));
    let port = fresh_port();
    daemon.allocate(&strict(port));
    let _held = bind(port);
    let cleaned = daemon.send("POST", "/cleanup", None);
    assert_eq!(
        (cleaned.status, &cleaned.body["cleaned"]),
        (200, &json!(0)),
        "{}",
        cleaned.body
    );
    assert_eq!(cleaned.body["message"], "Cleaned up 0 stale allocations");
    let cleaned = daemon.send("POST", "/cleanup", Some(&json!({ "force": true })));
    assert_eq!(cleaned.body["message"], "Force cleanup completed");
    assert_eq!(
        (&cleaned.body["cleaned"], &cleaned.body["success"]),
        (&json!(1), &json!(true))
    );
    let left = daemon.leases();
    assert_eq!((left.len(), &left[0]["port"]), (1, &json!(port)));
    let again = daemon.allocate(&ask("ai"));
    assert_eq!(again.get("existing"), None);
    assert_ne!(again["lock_id"], single["lock_id"]);
    let wrong = daemon.send_raw("POST", "/cleanup", b"{");
    assert_eq!(wrong.status, 400);
}

#[test]
fn a_listener_of_another_user_is_not_shown_as_the_leases_own() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let port = fresh_port();
    daemon.allocate(&strict(port));
    assert_eq!(daemon.leases()[0]["state"], "starting");
    let own = bind(port);
    assert_eq!(daemon.leases()[0]["state"], "listening");
    drop(own);
    if !nix::unistd::geteuid().is_root() {
        // An ordinary user cannot make a socket of another one.
        return;
    }
    // A socket belongs to the user that its thread has for files.
    let stranger = std::thread::spawn(move || {
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65_534));
        bind(port)
    });
    let _stranger = stranger.join().unwrap();
    let lease = &daemon.leases()[0];
    assert_eq!(
        (&lease["state"], &lease["listeners"]),
        (&json!("starting"), &json!([]))
    );
}
