//! Daemons that are not there, that refuse, and that talk nonsense.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};
use styxy_protocol::api::{self, StatusResponse};

use super::*;

/// Somebody who gives one client this answer; what the client said.
fn answering(answer: &'static str) -> (Port, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = Port::new(listener.local_addr().unwrap().port()).unwrap();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let read = stream.read(&mut request).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&request[..read]).into_owned()
    });
    (port, served)
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
        let remote = Remote::at_socket(&socket).unwrap();
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
    let (port, served) = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    let remote = Remote::at_port(port, path).unwrap();
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
    let error = Remote::at_port(Port::new(1).unwrap(), nowhere).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`STYXY_DAEMON_PORT` is set and the token in `/nonexistent/auth.token` cannot be read: there is no such file"
    );
    let (_binary, garbage) = token("a\u{1}b");
    let error = Remote::at_port(Port::new(1).unwrap(), garbage).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("it is not a line of plain text"),
        "{error}"
    );

    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = Port::new(unused.local_addr().unwrap().port()).unwrap();
    drop(unused);
    let remote = Remote::at_port(port, path.clone()).unwrap();
    let error = remote.get::<Value>("/status").unwrap_err();
    assert!(
        matches!(error, RemoteError::NobodyOn(it) if it == port),
        "{error}"
    );

    let (port, _served) = answering("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\n{}");
    let remote = Remote::at_port(port, path).unwrap();
    let error = remote.get::<Value>("/config").unwrap_err();
    assert!(matches!(error, RemoteError::WrongToken { .. }), "{error}");
    assert!(!format!("{error} {remote:?}").contains("s3cret"));
}

#[test]
fn a_refusal_is_told_in_the_daemons_words_and_nonsense_as_nonsense() {
    let (_dir, path) = token("s3cret");
    let (port, _served) = answering(
        "HTTP/1.1 400 Bad Request\r\ncontent-length: 66\r\n\r\n{\"success\":false,\"error\":\"no such lease\",\"code\":\"lease_not_found\"}",
    );
    let remote = Remote::at_port(port, path.clone()).unwrap();
    let error = remote.delete::<Value>("/allocate/3000").unwrap_err();
    assert_eq!(error.to_string(), "no such lease");

    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n<ok>",
        "HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\noops",
    ] {
        let (port, _served) = answering(answer);
        let remote = Remote::at_port(port, path.clone()).unwrap();
        let error = remote.get::<Value>("/config").unwrap_err();
        assert!(matches!(error, RemoteError::Garbled { .. }), "{error}");
        assert!(error.to_string().contains("GET /config"), "{error}");
    }
}
