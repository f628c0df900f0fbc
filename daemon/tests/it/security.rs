//! The loopback port: who gets in, what a client can do there, and what keeps nobody else from being served.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use styxy_daemon::{Config, DaemonError, Ended, LogTarget, run_until};
use styxy_protocol::api::{ErrorCode, ErrorResponse};

use crate::harness::{
    Answer, AtPort, Daemon, Process, ask, bind, config, eventually, fresh_port, home, lock_id,
    low_listener, mode,
};

/// Tells a test of this program that it is to be a daemon, in this directory.
const HOME_OF_CHILD: &str = "STYXY_TEST_DAEMON";

#[track_caller]
fn code(answer: &Answer) -> ErrorCode {
    let error: ErrorResponse = serde_json::from_value(answer.body.clone())
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", answer.head, answer.text));
    error.code
}

/// What a request with this head, to this path, is answered with.
fn status(client: &AtPort, path: &str, lines: &[&str]) -> u16 {
    let answer = client.send_head("GET", path, lines, b"");
    if answer.status >= 400 {
        code(&answer);
    }
    answer.status
}

#[test]
fn who_has_the_token_is_served_and_nobody_else() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let client = daemon.open_port();
    assert_eq!(client.token.len(), 64);
    assert_eq!(mode(&paths.token()), 0o600);
    let host = &format!("host: localhost:{}", client.port);
    let bearer = &format!("authorization: Bearer {}", client.token);
    let key = &format!("X-API-Key: {}", client.token);
    let wrong = &format!("authorization: Bearer {}", "0".repeat(64));
    for path in [
        "/allocations",
        "/health",
        "/metrics",
        "/openapi.json",
        "/nothing",
    ] {
        let found = if path == "/nothing" { 404 } else { 200 };
        assert_eq!(status(&client, path, &[host, bearer]), found, "{path}");
        assert_eq!(status(&client, path, &[host, key]), found, "{path}");
        for lines in [
            &[&**host][..],
            &[host, wrong],
            &[host, "authorization: Basic eDp5"],
        ] {
            assert_eq!(status(&client, path, lines), 401, "{path}: {lines:?}");
        }
    }
    let none = client.send_head("GET", "/health", &[host], b"");
    assert!(
        none.body["error"]
            .as_str()
            .unwrap()
            .starts_with("Authentication required. ")
    );
    assert!(none.head.contains("www-authenticate: Bearer"));
    let bad = client.send_head("GET", "/health", &[host, wrong], b"");
    assert_eq!(bad.body["error"], "Invalid API key");
    assert_eq!(
        (code(&none), code(&bad)),
        (ErrorCode::Unauthorized, ErrorCode::Unauthorized)
    );
    assert_eq!(status(&client, "/status", &[host]), 200);
    assert_eq!(
        daemon.get("/allocations").status,
        200,
        "the socket needs no token"
    );
}

#[test]
fn a_web_page_gets_nothing_not_even_the_status() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let client = daemon.open_port();
    let port = client.port;
    let bearer = &format!("authorization: Bearer {}", client.token);
    let host = &format!("host: 127.0.0.1:{port}");
    for path in ["/status", "/allocations", "/nothing"] {
        for line in [
            "origin: http://evil.example",
            "origin: null",
            &format!("origin: http://127.0.0.1:{port}"),
            &format!("referer: http://localhost:{port}/"),
            "sec-fetch-site: none",
            "sec-fetch-mode: no-cors",
        ] {
            let answer = client.send_head("GET", path, &[host, bearer, line], b"");
            assert_eq!(
                (answer.status, code(&answer)),
                (403, ErrorCode::Forbidden),
                "{line}"
            );
        }
        for host in [
            "host: evil.example",
            &format!("host: evil.example:{port}"),
            "host: 127.0.0.1",
            &format!("host: 0.0.0.0:{port}"),
            "x-forwarded-host: 127.0.0.1",
        ] {
            assert_eq!(status(&client, path, &[host, bearer]), 403, "{host}");
        }
    }
    // What a browser asks before it sends anything that is not simple.
    let preflight = [
        "access-control-request-method: POST",
        "origin: http://evil.example",
    ];
    let preflight = client.send_head(
        "OPTIONS",
        "/allocate",
        &[&[&**host], &preflight[..]].concat(),
        b"",
    );
    assert_eq!(preflight.status, 403);
    let options = client.send("OPTIONS", "/allocate", None);
    assert_eq!(options.status, 405);
    for answer in [
        preflight,
        options,
        client.get("/status"),
        client.get("/nothing"),
    ] {
        assert!(
            !answer.head.to_lowercase().contains("access-control-"),
            "{}",
            answer.head
        );
    }
}

#[test]
fn a_body_is_json_and_says_so_and_there_are_no_other_protocols() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let client = daemon.open_port();
    let host = &*format!("host: 127.0.0.1:{}", client.port);
    let bearer = &*format!("authorization: Bearer {}", client.token);
    let body = ask("dev").to_string();
    let body = body.as_bytes();
    let post = |kind: &[&str]| {
        let lines = [&[host, bearer], kind].concat();
        client.send_head("POST", "/allocate", &lines, body)
    };
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ] {
        let refused = post(&[&format!("content-type: {kind}")]);
        assert_eq!(
            (refused.status, code(&refused)),
            (415, ErrorCode::InvalidRequest)
        );
    }
    assert_eq!(post(&[]).status, 415);
    assert_eq!(
        post(&["content-type: application/json; charset=utf-8"]).status,
        200
    );
    // At the socket a body may come without saying what it is, but not as something else.
    let length = body.len();
    let at_socket = |line: &str| {
        let head = format!(
            "POST /allocate HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{line}content-length: {length}\r\n\r\n"
        );
        daemon.exchange(&[head.as_bytes(), body].concat()).status
    };
    assert_eq!(at_socket(""), 200);
    assert_eq!(at_socket("content-type: text/plain\r\n"), 415);

    let websocket = ["connection: upgrade", "upgrade: websocket"];
    let lines = [&[host, bearer], &websocket[..]].concat();
    let refused = client.send_head("GET", "/status", &lines, b"");
    assert_eq!(
        (refused.status, code(&refused)),
        (400, ErrorCode::InvalidRequest)
    );
    let target = format!("127.0.0.1:{}", client.port);
    let refused = client.send_head("CONNECT", &target, &[host, bearer], b"");
    assert!(matches!(refused.status, 403 | 405), "{}", refused.head);
    let absolute = "http://evil.example/status";
    assert_eq!(status(&client, absolute, &[host, bearer]), 403);
    let connect = b"CONNECT evil.example:80 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(daemon.exchange(connect).status, 405);
    assert_eq!(daemon.leases().len(), 2);
}

#[test]
fn odd_requests_are_refused_and_end_nothing() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let client = daemon.open_port();
    for path in [
        "*",
        "//evil.example/allocations",
        "/allocations/",
        "/allocations/../status/..",
        "/allocate/%00",
        "/allocate/%2e%2e%2fstatus",
        "/%ff",
        "/status%2f",
    ] {
        for method in ["GET", "DELETE", "OPTIONS", "TRACE", "PATCH", "FOO"] {
            let answer = client.send(method, path, None);
            assert!(
                (400..500).contains(&answer.status),
                "{method} {path}: {}",
                answer.head
            );
            code(&answer);
        }
    }
    // What is not HTTP is not answered in JSON, but not with a page either.
    for rubbish in [
        "GET\r\n\r\n",
        "\x16\x03\x01\x02\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
    ] {
        let answer = Answer::of(client.connect(), rubbish.as_bytes());
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (400, ""),
            "{rubbish:?}"
        );
    }
    let endless = format!("GET /status HTTP/1.1\r\nx: {}", "y".repeat(64 * 1024));
    let answer = Answer::of(client.connect(), endless.as_bytes());
    assert_eq!((answer.status, answer.text.as_str()), (431, ""));
    assert_eq!(client.get("/status").status, 200);
}

#[test]
fn a_lease_made_at_the_port_hangs_on_the_process_that_was_named() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let client = daemon.open_port();
    let mut owner = Process::idle();
    let request = json!({ "service_type": "dev", "pid": owner.pid() });
    let lease = client.send("POST", "/allocate", Some(&request));
    assert_eq!(lease.status, 200, "{}", lease.text);
    assert_eq!(lease.body.get("heartbeat_seconds"), None, "it is watched");
    assert_eq!(daemon.leases()[0]["pid"], owner.pid());
    let nobodys = client.send("POST", "/allocate", Some(&ask("dev")));
    owner.kill();
    eventually("the lease ends with its owner", || {
        daemon.leases().len() == 1
    });
    let path = format!("/allocate/{}", lock_id(&nobodys.body));
    assert_eq!(client.send("DELETE", &path, None).status, 200);
    let dead = client.send("POST", "/allocate", Some(&request));
    assert_eq!((dead.status, code(&dead)), (400, ErrorCode::InvalidRequest));
}

#[test]
fn the_door_and_its_token_are_the_sockets_alone() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let client = daemon.open_port();
    let other = json!({ "port": fresh_port() });
    for (path, body) in [("/listen", Some(&other)), ("/token", None)] {
        let refused = client.send("POST", path, body);
        assert_eq!(
            (refused.status, code(&refused)),
            (403, ErrorCode::Forbidden),
            "{path}"
        );
    }
    let same = json!({ "port": client.port });
    assert_eq!(
        daemon.send("POST", "/listen", Some(&same)).body,
        json!({ "success": true, "port": client.port })
    );
    let elsewhere = daemon.send("POST", "/listen", Some(&other));
    assert_eq!(
        (elsewhere.status, code(&elsewhere)),
        (409, ErrorCode::Configuration)
    );
    assert!(
        elsewhere.body["error"]
            .as_str()
            .unwrap()
            .contains(&client.port.to_string())
    );

    let rotated = daemon.send("POST", "/token", None);
    assert_eq!(rotated.status, 200);
    assert_eq!(rotated.body["path"], json!(paths.token()));
    let events = daemon.get("/audit").body["recent_events"].take();
    assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
    assert_eq!(events[0]["action"], "TOKEN_ROTATED");
    assert_eq!(events[0]["path"], json!(paths.token()));
    assert_eq!(client.get("/allocations").status, 401, "the old token");
    let client = AtPort {
        token: daemon.token(),
        ..client
    };
    assert_eq!(client.get("/allocations").status, 200);
    assert_eq!(daemon.get("/status").body["tcp_port"], json!(client.port));
}

#[test]
fn a_port_that_is_somebodys_is_left_to_them() {
    let (_dir, paths) = home();
    let (_held, taken) = low_listener();
    let at = |port| Config {
        tcp_port: Some(port),
        ..config(&paths)
    };
    let refused = run_until(at(taken), std::future::pending());
    let Err(DaemonError::Port(reason)) = refused else {
        panic!("{refused:?}");
    };
    let own = format!("(pid {})", std::process::id());
    assert!(
        reason.contains(&taken.to_string()) && reason.contains(&own),
        "{reason}"
    );
    assert!(!paths.socket().exists() && !paths.token().exists());

    let daemon = Daemon::start(&paths);
    let listen = |port| daemon.send("POST", "/listen", Some(&json!({ "port": port })));
    let refused = listen(taken);
    assert_eq!(
        (refused.status, code(&refused)),
        (409, ErrorCode::PortTaken)
    );
    assert_eq!(refused.body["holder"]["pid"], std::process::id());
    let leased = fresh_port();
    daemon.allocate(&json!({ "service_type": "dev", "preferred_port": leased, "strict": true }));
    let refused = listen(leased);
    assert_eq!(refused.body["holder"]["kind"], "lease", "{}", refused.text);
    // A holder of another address would get what is meant for `localhost`.
    if let Ok(held) = std::net::TcpListener::bind(("::1", fresh_port().get())) {
        let port = held.local_addr().unwrap().port();
        assert_eq!(listen(styxy_protocol::Port::new(port).unwrap()).status, 409);
    }
    assert_eq!(daemon.get("/status").body.get("tcp_port"), None);
    // And ours is nobody else's.
    let client = daemon.open_port();
    let request = json!({ "service_type": "dev", "preferred_port": client.port, "strict": true });
    assert_eq!(daemon.send("POST", "/allocate", Some(&request)).status, 409);
}

#[test]
fn a_token_that_others_could_know_opens_no_door() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let listen = || daemon.send("POST", "/listen", Some(&json!({ "port": fresh_port() })));
    fs::write(paths.token(), "x".repeat(64)).unwrap();
    fs::set_permissions(paths.token(), fs::Permissions::from_mode(0o644)).unwrap();
    let refused = listen();
    assert_eq!(
        (refused.status, code(&refused)),
        (409, ErrorCode::Configuration)
    );
    assert!(
        refused.body["error"].as_str().unwrap().contains("0644"),
        "{}",
        refused.text
    );
    assert_eq!(daemon.get("/status").body.get("tcp_port"), None);
    fs::set_permissions(paths.token(), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(listen().status, 200);
    assert_eq!(daemon.token(), "x".repeat(64), "the user's own is kept");
}

#[test]
fn the_token_is_in_no_log_and_no_answer() {
    let (dir, paths) = home();
    let log = dir.path().join("log");
    let daemon = Daemon::start_with(Config {
        log: LogTarget::File(log.clone()),
        ..config(&paths)
    });
    let client = daemon.open_port();
    let mut seen = String::new();
    for path in [
        "/status",
        "/health",
        "/metrics",
        "/allocations",
        "/openapi.json",
        "/nothing",
    ] {
        seen += &client.get(path).text;
    }
    let host = format!("host: 127.0.0.1:{}", client.port);
    let wrong = format!("authorization: Bearer {}x", client.token);
    seen += &client
        .send_head("GET", "/health", &[&host, &wrong], b"")
        .text;
    seen += &daemon.send("POST", "/token", None).text;
    seen += &daemon.get("/audit").text;
    let tokens = [client.token, daemon.token()];
    assert_eq!(daemon.stop(), Ended::Stopped);
    seen += &fs::read_to_string(log).unwrap();
    assert!(seen.contains("the token was changed"));
    for token in tokens {
        // Not even its beginning or its end.
        for part in [&token[..8], &token[56..]] {
            assert!(!seen.contains(part));
        }
    }
}

#[test]
fn without_the_token_the_status_names_no_file() {
    let (dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let client = daemon.open_port();
    fs::rename(&paths.state_dir, dir.path().join("gone")).unwrap();
    fs::write(&paths.state_dir, "").unwrap();
    daemon.allocate(&ask("dev"));
    assert!(client.get("/status").body["degraded"].is_string());
    let host = format!("host: 127.0.0.1:{}", client.port);
    let open = client.send_head("GET", "/status", &[&host], b"");
    assert_eq!(
        (open.status, &open.body["status"]),
        (200, &json!("running"))
    );
    assert!(
        !open.text.contains(&*dir.path().to_string_lossy()),
        "{}",
        open.text
    );
}

#[test]
fn an_open_port_keeps_the_daemon() {
    let (_dir, paths) = home();
    let port = fresh_port();
    let daemon = Daemon::start_with(Config {
        idle_exit: Some(Duration::from_millis(1)),
        tcp_port: Some(port),
        ..config(&paths)
    });
    for _ in 0..50 {
        assert_eq!(daemon.get("/status").status, 200);
    }
    assert_eq!(daemon.stop(), Ended::Stopped);
    drop(bind(port));
}

#[test]
fn clients_without_end_keep_nobody_waiting_at_either_door() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let client = daemon.open_port();
    let many = usize::try_from(hard / 3).unwrap_or(1000).min(1000);
    let socket = paths.socket();
    let at_port: Vec<TcpStream> = (0..many).map(|_| client.connect()).collect();
    assert_eq!(daemon.get("/status").status, 200);
    let at_socket: Vec<UnixStream> = (0..many)
        .map(|_| UnixStream::connect(&socket).expect("there is room to wait"))
        .collect();
    // Half a request is as idle as none.
    for mut stream in &at_port {
        stream.write_all(b"GET /status HTTP/1.1\r\nx: ").ok();
    }
    assert_eq!(daemon.get("/status").status, 200);
    assert_eq!(client.get("/status").status, 200);
    drop((at_port, at_socket));
}

#[test]
fn slow_clients_are_cut_off() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let client = daemon.open_port();
    let head = format!(
        "POST /allocate HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 99\r\nconnection: close\r\n\r\n{{",
        client.port, client.token
    );
    let mut body = client.connect();
    body.write_all(head.as_bytes()).unwrap();
    let mut dribbling = client.connect();
    let mut received = Vec::new();
    dribbling.set_nonblocking(true).unwrap();
    dribbling.write_all(b"GET /status HTTP/1.1\r\n").unwrap();
    eventually("a head that never ends is not waited for", || {
        // Whether the byte still arrives is all the same.
        dribbling.write_all(b"x").ok();
        assert_eq!(daemon.get("/status").status, 200);
        match dribbling.read_to_end(&mut received) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
            _closed => true,
        }
    });
    let answer = Answer::of(body, b"");
    assert_eq!(
        (answer.status, code(&answer)),
        (408, ErrorCode::InvalidRequest)
    );
    assert!(daemon.leases().is_empty());
}

#[test]
fn a_daemon_with_few_descriptors_serves_who_asks_something() {
    // Enough for the connections that it allows itself; and too few even for those, so that accepting fails.
    for descriptors in [64, 24] {
        let (dir, paths) = home();
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -n $1 && shift && exec \"$@\"", "sh"])
            .arg(descriptors.to_string())
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "security::a_daemon_for_another_test"])
            .args(["--include-ignored", "--nocapture"])
            .env(HOME_OF_CHILD, dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut process = Process(child);
        let port = lines
            .find_map(|line| line.unwrap().strip_prefix("serving on ")?.parse().ok())
            .expect("it starts");
        let socket = paths.socket();
        let token = fs::read_to_string(paths.token()).unwrap();
        let client = AtPort {
            port,
            token: token.trim_end().to_owned(),
        };
        let idle: Vec<_> = (0..100)
            .map(|_| (client.connect(), UnixStream::connect(&socket).unwrap()))
            .collect();
        let at_socket = || {
            let stream = UnixStream::connect(&socket).unwrap();
            let request = b"GET /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            Answer::of(stream, request).status
        };
        assert_eq!(at_socket(), 200);
        assert_eq!(client.get("/status").status, 200);
        drop(idle);
        assert_eq!((at_socket(), client.get("/status").status), (200, 200));
        eventually("a port can be probed", || {
            let lease = client.send("POST", "/allocate", Some(&ask("dev")));
            lease.status == 200
        });
        assert!(process.0.try_wait().unwrap().is_none());
        process.kill();
    }
}

/// Not a test: the daemon of the one above, in a process with few descriptors.
#[test]
#[ignore = "a daemon for another test"]
fn a_daemon_for_another_test() {
    #[expect(
        clippy::disallowed_methods,
        reason = "told by the test that started this process"
    )]
    let Some(dir) = std::env::var_os(HOME_OF_CHILD) else {
        return;
    };
    let dir = std::path::PathBuf::from(dir);
    let paths = styxy_daemon::Paths {
        runtime_dir: dir.join("run"),
        state_dir: dir.join("state"),
    };
    let port = fresh_port();
    let ended = run_until(
        Config {
            tcp_port: Some(port),
            on_ready: Box::new(move || println!("serving on {port}")),
            ..config(&paths)
        },
        std::future::pending(),
    );
    panic!("{ended:?}");
}
