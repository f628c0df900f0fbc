//! What is asked, what is read, and what an answer of another version is taken for.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

use tempfile::TempDir;

use super::*;

/// What a daemon says to the next client; `None`: it hangs up without a word.
type Script = Vec<Option<&'static str>>;

/// Somebody who listens where a daemon should be; ends after its last answer.
fn daemon(script: Script) -> (TempDir, Client, JoinHandle<Vec<String>>) {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
    let client = Client::new(dir.path().join("sock"), crate::BUILD);
    let served = thread::spawn(move || {
        let serve = |answer: Option<&'static str>| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 4096];
            let read = stream.read(&mut head).unwrap();
            stream.write_all(answer.unwrap_or("").as_bytes()).unwrap();
            String::from_utf8_lossy(&head[..read]).into_owned()
        };
        script.into_iter().map(serve).collect()
    });
    (dir, client, served)
}

fn released(client: &Client) -> Result<ReleaseResponse, ClientError> {
    client.release("x")?.answer()
}

const RELEASED: &str =
    "HTTP/1.1 200 OK\r\n\r\n{\"success\":true,\"port\":3000,\"message\":\"done\"}";
const REFUSED: &str = "HTTP/1.1 400 Bad Request\r\n\r\n{\"success\":false,\"error\":\"no such lease\",\"code\":\"lease_not_found\"}";

#[test]
fn an_answer_is_a_status_and_a_body() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    assert_eq!(parse(answer), Some((200, b"{}".as_slice())));
    for broken in [
        b"".as_slice(),
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 2\r\n\r\n",
    ] {
        assert_eq!(parse(broken), None, "{}", String::from_utf8_lossy(broken));
    }
}

#[test]
fn a_request_is_one_http_message() {
    let (_dir, client, served) = daemon(vec![Some(RELEASED)]);
    assert_eq!(
        client.release("x-1").unwrap().answer().unwrap().port.get(),
        3000
    );
    let request = &served.join().unwrap()[0];
    assert!(
        request.starts_with("DELETE /allocate/x-1 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.ends_with("Content-Length: 0\r\n\r\n"), "{request}");
}

#[test]
fn a_refusal_is_told_in_the_daemons_words() {
    let (_dir, client, _served) = daemon(vec![Some(REFUSED)]);
    let error = released(&client).unwrap_err();
    assert_eq!(error.to_string(), "no such lease");
}

#[test]
fn a_missing_daemon_is_told_with_its_socket() {
    let client = Client::new("/nonexistent/sock".into(), crate::BUILD);
    assert!(!client.is_reachable());
    let error = released(&client).unwrap_err();
    assert!(matches!(error, ClientError::Absent { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .starts_with("no daemon at `/nonexistent/sock`: "),
        "{error}"
    );
}

#[test]
fn a_daemon_that_ends_instead_of_answering_is_an_absent_one() {
    let (_dir, client, _served) = daemon(vec![None]);
    let error = released(&client).unwrap_err();
    assert!(matches!(error, ClientError::Absent { .. }), "{error:?}");
}

#[test]
fn an_answer_that_breaks_off_is_garbled() {
    let (_dir, client, _served) = daemon(vec![Some("HTTP/1.1 200 OK\r\n\r\n{\"succ")]);
    let error = released(&client).unwrap_err();
    assert!(matches!(error, ClientError::Garbled(_)), "{error:?}");
}

#[test]
fn a_daemon_that_has_been_silent_is_believed_again_when_it_answers() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
    let client = Client::new(dir.path().join("sock"), crate::BUILD);
    client.is_silent.store(true, Ordering::Relaxed);
    // Nobody accepts: the connection waits in the backlog, and the client hardly at all.
    let error = released(&client.clone()).unwrap_err();
    assert!(matches!(error, ClientError::Silent), "{error:?}");
    assert!(client.is_silent.load(Ordering::Relaxed));
    assert!(client.is_reachable());
    drop(listener);
    let error = released(&client).unwrap_err();
    assert!(matches!(error, ClientError::Absent { .. }), "{error:?}");
    assert!(!client.is_silent.load(Ordering::Relaxed));
}

#[test]
fn the_process_behind_a_socket_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let _listener = UnixListener::bind(dir.path().join("sock")).unwrap();
    let client = Client::new(dir.path().join("sock"), crate::BUILD);
    assert_eq!(client.daemon_pid(), Some(std::process::id()));
}

/// What is asked of a daemon, and what of the answer is not of this version.
fn allocate(client: &Client) -> Result<AllocateResponse, ClientError> {
    let request = serde_json::from_str(r#"{"service_type":"dev"}"#).unwrap();
    client.allocate(&request)
}

/// A client of this protocol number.
fn speaking(protocol: u32, client: &Client) -> Client {
    let build = Build {
        protocol,
        ..crate::BUILD
    };
    Client::new(client.socket.clone(), build)
}

const LEASE: &str = "HTTP/1.1 200 OK\r\n\r\n{\"success\":true,\"port\":3000,\"lock_id\":\"x-7\",\"message\":\"\",\"protocol\":7}";
const OTHER_LEASE: &str =
    "HTTP/1.1 200 OK\r\n\r\n{\"protocol\":7,\"lock_id\":\"x-7\",\"port\":\"three\"}";
const OTHERS_EXISTING: &str =
    "HTTP/1.1 200 OK\r\n\r\n{\"protocol\":7,\"lock_id\":\"x-7\",\"existing\":true}";
const OTHER_REFUSAL: &str = "HTTP/1.1 400 Bad Request\r\n\r\n{\"oh\":\"no\"}";
const OTHER_STATUS: &str = "HTTP/1.1 200 OK\r\n\r\n{\"protocol\":7,\"pid\":1}";

#[test]
fn another_build_of_the_same_protocol_is_as_good_as_any() {
    let (_dir, client, _served) = daemon(vec![Some(LEASE)]);
    let build = Build {
        version: "0.0.7",
        protocol: 7,
    };
    let lease = allocate(&Client::new(client.socket, build)).unwrap();
    assert_eq!(lease.lock_id, "x-7");
}

#[test]
fn an_older_daemon_is_known_by_its_number_alone_and_its_lease_is_handed_on() {
    for (answer, given) in [
        (OTHER_LEASE, Some("x-7".to_owned())),
        (OTHERS_EXISTING, None),
    ] {
        let (_dir, client, _served) = daemon(vec![Some(answer)]);
        match allocate(&speaking(8, &client)) {
            Err(ClientError::Older {
                theirs: 7,
                ours: 8,
                lease,
            }) => assert_eq!(lease, given),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_newer_daemon_gets_its_lease_back() {
    let (_dir, client, served) = daemon(vec![Some(OTHER_LEASE), Some(RELEASED)]);
    let error = allocate(&speaking(6, &client)).unwrap_err();
    assert!(
        matches!(error, ClientError::Newer { theirs: 7, ours: 6 }),
        "{error:?}"
    );
    let request = &served.join().unwrap()[1];
    assert!(request.starts_with("DELETE /allocate/x-7 "), "{request}");
    let (_dir, client, served) = daemon(vec![Some(OTHERS_EXISTING)]);
    allocate(&speaking(6, &client)).unwrap_err();
    assert_eq!(served.join().unwrap().len(), 1, "it is somebody else's");
}

#[test]
fn a_refusal_that_nobody_understands_is_that_of_another_version() {
    let (_dir, client, _served) = daemon(vec![Some(OTHER_REFUSAL), Some(OTHER_STATUS)]);
    let error = allocate(&speaking(8, &client)).unwrap_err();
    assert!(matches!(error, ClientError::Older { .. }), "{error:?}");
    let (_dir, client, _served) = daemon(vec![Some(REFUSED), Some(OTHER_STATUS)]);
    let error = allocate(&speaking(7, &client)).unwrap_err();
    assert_eq!(error.to_string(), "no such lease");
}
