//! Clients that tell that they are there, and the leases that are theirs.

use serde_json::{Value, json};
use styxy_daemon::Ended;
use styxy_protocol::api::Instance;

use crate::harness::{Answer, Daemon, Process, bind, eventually, fresh_port, home, low_listener};

fn register(daemon: &Daemon, request: &Value) -> Answer {
    daemon.send("POST", "/instance/register", Some(request))
}

fn register_process(daemon: &Daemon, request: &Value) -> Answer {
    daemon.send("POST", "/register-instance", Some(request))
}

fn instances(daemon: &Daemon) -> Vec<Instance> {
    let body = daemon.get("/instance/list").body;
    serde_json::from_value(body["instances"].clone()).expect("a list of instances")
}

#[test]
fn an_instance_is_registered_heard_of_listed_and_there_after_a_restart() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let request = json!({
        "instance_id": "agent_1-x",
        "working_directory": "/p",
        "metadata": { "editor": { "name": "vi" } },
    });
    let answer = register(&daemon, &request);
    assert_eq!(
        (answer.status, &answer.body["success"]),
        (200, &json!(true))
    );
    assert_eq!(answer.body["instance_id"], "agent_1-x");
    assert_eq!(answer.body["message"], "Instance agent_1-x registered");

    let heard = daemon.send("PUT", "/instance/agent_1-x/heartbeat", Some(&json!({})));
    assert_eq!((heard.status, &heard.body["success"]), (200, &json!(true)));
    let lease = daemon.allocate(&json!({ "service_type": "dev", "instance_id": "agent_1-x" }));
    let check = |daemon: &Daemon| {
        let known = instances(daemon);
        assert_eq!(known.len(), 1);
        assert_eq!(known[0].working_directory.as_deref(), Some("/p"));
        assert_eq!(known[0].metadata["editor"], json!({ "name": "vi" }));
        assert_eq!(
            known[0].last_heartbeat,
            heard.body["last_heartbeat"].as_str().unwrap()
        );
        assert_eq!(
            known[0].active_allocations,
            [lease["lock_id"].as_str().unwrap()]
        );
        assert_eq!(daemon.get("/status").body["instances"], 1);
    };
    check(&daemon);
    assert_eq!(daemon.stop(), Ended::Stopped);
    check(&Daemon::start(&paths));
}

#[test]
fn registering_again_begins_anew() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    for directory in ["/a", "/b"] {
        let request = json!({ "instance_id": "agent", "working_directory": directory });
        assert_eq!(register(&daemon, &request).status, 200);
    }
    let known = instances(&daemon);
    assert_eq!(
        (known.len(), known[0].working_directory.as_deref()),
        (1, Some("/b"))
    );
    assert_eq!(known[0].registered_at, known[0].last_heartbeat);
}

#[test]
fn what_is_no_instance_is_refused_with_a_reason() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let deep = (0..20).fold(json!(1), |inner, _| json!([inner]));
    for (request, reason) in [
        (json!({}), "instance_id is required"),
        (json!({ "instance_id": "" }), "instance_id is required"),
        (json!({ "instance_id": "inst 1!" }), "inst 1!"),
        (json!({ "instance_id": "x".repeat(101) }), "1 to 100"),
        (json!({ "instance_id": 7 }), "expected"),
        (
            json!({ "instance_id": "a", "metadata": { "x": "y".repeat(5000) } }),
            "bytes of JSON",
        ),
        (
            json!({ "instance_id": "a", "metadata": { "x": deep } }),
            "levels deep",
        ),
        (
            json!({ "instance_id": "a", "working_directory": "/a\0b" }),
            "working_directory",
        ),
    ] {
        let answer = register(&daemon, &request);
        let error = answer.body["error"].as_str().unwrap();
        assert!(
            answer.status == 400 && error.contains(reason),
            "{request}: {}",
            answer.body
        );
    }
    let answer = register_process(&daemon, &json!({ "project_path": "/p" }));
    let error = answer.body["error"].as_str().unwrap();
    assert_eq!(answer.status, 400);
    assert!(
        error.starts_with("instance_id is required (or provide pid"),
        "{error}"
    );
    for id in ["nobody", "inst 1!".replace(' ', "%20").as_str()] {
        let answer = daemon.send("PUT", &format!("/instance/{id}/heartbeat"), None);
        assert_eq!(
            (answer.status, &answer.body["error"]),
            (404, &json!("Instance not found"))
        );
        assert_eq!(answer.body["code"], "instance_not_found");
    }
    assert!(instances(&daemon).is_empty());
}

#[test]
fn a_process_that_listens_gets_a_lease_of_its_port_until_it_ends() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let port = fresh_port();
    let mark = "00000000-0000-4000-8000-0000000000aa";
    let mut server = Process::listener(mark, &["sleep", "600"], bind(port));
    let request = json!({
        "pid": server.pid(),
        "port": port,
        "service_type": "teapot",
        "project_path": "/p",
    });
    for _ in 0..2 {
        assert_eq!(register_process(&daemon, &request).status, 200);
        let leases = daemon.leases();
        assert_eq!(leases.len(), 1, "one lease, however often it says so");
        assert_eq!(leases[0]["port"], json!(port));
        assert_eq!(
            (&leases[0]["pid"], &leases[0]["service_type"]),
            (&json!(server.pid()), &json!("dev"))
        );
        assert_eq!(
            (&leases[0]["state"], &leases[0]["project_path"]),
            (&json!("listening"), &json!("/p"))
        );
    }
    let known = instances(&daemon);
    assert_eq!(known[0].instance_id, format!("ldpreload-{}", server.pid()));
    assert_eq!(known[0].pid, Some(server.pid()));
    assert_eq!(known[0].active_allocations.len(), 1);
    server.kill();
    eventually("the lease ends", || daemon.leases().is_empty());
}

#[test]
fn a_port_that_the_process_does_not_have_is_not_leased_to_it() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let bystander = Process::idle();
    let (_held, port) = low_listener();
    for pid in [json!(bystander.pid()), json!(0), json!(4_000_000_000_u32)] {
        let request = json!({ "pid": pid, "port": port });
        assert_eq!(register_process(&daemon, &request).status, 200);
    }
    assert!(daemon.leases().is_empty());
    assert_eq!(instances(&daemon).len(), 3);
}

#[test]
fn a_journal_that_is_written_anew_holds_instances_too() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    register(&daemon, &json!({ "instance_id": "agent" }));
    let lease = daemon.allocate(&json!({ "service_type": "dev", "command": "x".repeat(1000) }));
    let path = format!("/allocate/{}/heartbeat", lease["lock_id"].as_str().unwrap());
    let length = || std::fs::metadata(paths.journal()).unwrap().len();
    let mut before = length();
    for _ in 0..2000 {
        assert_eq!(daemon.send("PUT", &path, None).status, 200);
        if length() < before {
            break;
        }
        before = length();
    }
    assert!(length() < before, "it was written anew");
    assert_eq!(daemon.stop(), Ended::Stopped);
    let daemon = Daemon::start(&paths);
    assert_eq!((instances(&daemon).len(), daemon.leases().len()), (1, 1));
}
