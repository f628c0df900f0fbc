//! Daemons that are not there, that refuse, and that talk nonsense.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};
use styxy_protocol::api::{self, StatusResponse};

use super::*;

/// Somebody who gives one client this answer, a status and a body; what the client said.
fn answering(status: &'static str, body: &'static str) -> (Port, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = Port::new(listener.local_addr().unwrap().port()).unwrap();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let read = stream.read(&mut request).unwrap();
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&request[..read]).into_owned()
    });
    (port, served)
}

/// The way to somebody who has told already that he speaks our protocol.
fn known(port: Port, token: PathBuf) -> Remote {
    let remote = Remote::at_port(port, token, crate::BUILD).unwrap();
    remote.is_understood.set(true);
    remote
}

fn token(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.token");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

#[test]
fn nobody_at_the_socket_is_no_running_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("sock");
    let ask = || {
        let remote = Remote::at_socket(&socket, crate::BUILD).unwrap();
        remote.get::<StatusResponse>(api::STATUS).unwrap_err()
    };
    assert!(matches!(ask(), RemoteError::NotRunning));
    // What a daemon that was killed leaves behind.
    drop(UnixListener::bind(&socket).unwrap());
    assert!(matches!(ask(), RemoteError::NotRunning));
}

#[test]
fn the_token_of_the_home_goes_with_every_request_to_a_port() {
    let (_dir, path) = token("s3cret\n");
    let (port, served) = answering("200 OK", "{}");
    let remote = known(port, path);
    let answer: Value = remote.put("/x?y=1", &json!({ "enabled": true })).unwrap();
    assert_eq!(answer, json!({}));
    let request = served.join().unwrap().to_ascii_lowercase();
    assert!(request.starts_with("put /x?y=1 http/1.1\r\n"), "{request}");
    assert!(
        request.contains("authorization: bearer s3cret\r\n"),
        "{request}"
    );
    assert!(
        request.contains(&format!("host: 127.0.0.1:{port}\r\n")),
        "{request}"
    );
    assert!(request.ends_with("{\"enabled\":true}"), "{request}");
}

#[test]
fn a_port_without_token_daemon_or_right_is_told_as_what_it_is() {
    let (_dir, path) = token("s3cret");
    let nowhere = PathBuf::from("/nonexistent/auth.token");
    let error = Remote::at_port(Port::new(1).unwrap(), nowhere, crate::BUILD).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`STYXY_DAEMON_PORT` is set and the token in `/nonexistent/auth.token` cannot be read: there is no such file"
    );
    let (_binary, garbage) = token("a\u{1}b");
    let error = Remote::at_port(Port::new(1).unwrap(), garbage, crate::BUILD).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("it is not a line of plain text"),
        "{error}"
    );

    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = Port::new(unused.local_addr().unwrap().port()).unwrap();
    drop(unused);
    let remote = known(port, path.clone());
    let error = remote.get::<Value>("/status").unwrap_err();
    assert!(
        matches!(error, RemoteError::NobodyOn(it) if it == port),
        "{error}"
    );

    let (port, _served) = answering("401 Unauthorized", "{}");
    let remote = known(port, path);
    let error = remote.get::<Value>("/config").unwrap_err();
    assert!(matches!(error, RemoteError::WrongToken { .. }), "{error}");
    assert!(!format!("{error} {remote:?}").contains("s3cret"));
}

#[test]
fn a_refusal_is_told_in_the_daemons_words_and_nonsense_as_nonsense() {
    let (_dir, path) = token("s3cret");
    let (port, _served) = answering(
        "400 Bad Request",
        "{\"success\":false,\"error\":\"no such lease\",\"code\":\"lease_not_found\"}",
    );
    let remote = known(port, path.clone());
    let error = remote.delete::<Value>("/allocate/3000").unwrap_err();
    assert_eq!(error.to_string(), "no such lease");

    for (status, body) in [("200 OK", "<ok>"), ("500 Oops", "oops")] {
        let (port, _served) = answering(status, body);
        let remote = known(port, path.clone());
        let error = remote.get::<Value>("/config").unwrap_err();
        assert!(matches!(error, RemoteError::Garbled { .. }), "{error}");
        assert!(error.to_string().contains("GET /config"), "{error}");
    }
}

#[test]
fn a_daemon_of_another_version_is_asked_nothing_else() {
    for (body, remedy) in [
        (
            "{\"pid\":7,\"protocol\":1,\"version\":\"0.0.1\\u001b\"}",
            "restart",
        ),
        (
            "{\"pid\":7,\"protocol\":99,\"version\":\"9.9.9\" }",
            "update",
        ),
    ] {
        let (_dir, path) = token("s3cret");
        let (port, served) = answering("200 OK", body);
        let remote = Remote::at_port(port, path, crate::BUILD).unwrap();
        let error = remote.post::<Value>("/cleanup", &json!({})).unwrap_err();
        assert!(
            matches!(error, RemoteError::OtherProtocol { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(remedy), "{error}");
        assert!(served.join().unwrap().starts_with("GET /status "));
    }
}
