//! The session directory itself; what programs do with it is in `programs`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::*;

/// How long another thread may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

fn port(number: u16) -> Port {
    Port::new(number).expect("not 0")
}

fn plan() -> SessionPlan {
    SessionPlan {
        pinned: vec![
            Pin {
                requested: port(8000),
                real: port(8001),
            },
            port(8001).into(),
        ],
        spares: vec![port(20001)],
        strict: true,
    }
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).expect("a directory").count() == 0
}

#[test]
fn a_session_lies_in_a_private_directory_and_goes_with_its_value() {
    let runtime = tempfile::tempdir().unwrap();
    let session = Session::create(runtime.path(), "1-a", &plan()).unwrap();
    let directory = session.directory().to_owned();
    assert_eq!(
        directory,
        runtime.path().canonicalize().unwrap().join("s/1-a")
    );
    let library = fs::metadata(directory.join("styxy.so")).unwrap();
    let table = fs::metadata(directory.join("tab")).unwrap();
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(library.mode() & 0o7777, 0o500);
    assert_eq!((table.mode() & 0o7777, table.len()), (0o600, 4096));
    assert_eq!(
        session.preload_value(None),
        directory.join("styxy.so").as_os_str()
    );
    let entries: Vec<(u16, u16, bool)> = session
        .table()
        .entries()
        .map(|entry| (entry.requested, entry.real, entry.pinned))
        .collect();
    assert_eq!(entries, [(8000, 8001, true), (8001, 8001, true)]);
    assert!(session.table().is_valid() && session.table().is_strict());
    drop(session);
    assert!(!directory.exists());
}

/// The one copy of the library that all sessions have.
fn shared_library(runtime: &Path) -> PathBuf {
    let files = fs::read_dir(runtime.join("lib")).unwrap();
    let mut libraries = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "so"));
    let library = libraries.next().unwrap();
    assert_eq!(libraries.next(), None);
    library
}

#[test]
fn the_witness_lies_where_it_can_be_executed() {
    let runtime = tempfile::tempdir().unwrap();
    let session = Session::create(runtime.path(), "1", &plan()).unwrap();
    let program = session.witness().unwrap();
    assert!(fs::read(&program).unwrap() == crate::sys::witness::PROGRAM);
    assert_eq!(fs::metadata(&program).unwrap().mode() & 0o777, 0o500);
}

#[test]
fn sessions_share_one_library_that_outlives_them() {
    let runtime = tempfile::tempdir().unwrap();
    let first = Session::create(runtime.path(), "1", &plan()).unwrap();
    let second = Session::create(runtime.path(), "2", &plan()).unwrap();
    let inode = |session: &Session| {
        let library = session.directory().join("styxy.so");
        fs::metadata(library).unwrap().ino()
    };
    assert_eq!(inode(&first), inode(&second));
    drop((first, second));
    assert!(is_empty(&runtime.path().join("s")));
    // The program of the witness lies beside it.
    assert_eq!(fs::read_dir(runtime.path().join("lib")).unwrap().count(), 2);
    shared_library(runtime.path());
}

#[test]
fn a_library_that_is_not_whole_is_replaced() {
    let runtime = tempfile::tempdir().unwrap();
    drop(Session::create(runtime.path(), "1", &plan()).unwrap());
    let shared = shared_library(runtime.path());
    fs::set_permissions(&shared, Permissions::from_mode(0o700)).unwrap();
    fs::write(&shared, "torn").unwrap();
    let session = Session::create(runtime.path(), "2", &plan()).unwrap();
    let library = fs::read(session.directory().join("styxy.so")).unwrap();
    assert!(library == image::IMAGE);
}

#[test]
fn a_kept_session_stays() {
    let runtime = tempfile::tempdir().unwrap();
    let session = Session::create(runtime.path(), "1", &plan()).unwrap();
    let directory = session.directory().to_owned();
    session.keep();
    assert!(directory.join("styxy.so").exists() && directory.join("tab").exists());
}

#[test]
fn an_existing_session_is_left_alone() {
    let runtime = tempfile::tempdir().unwrap();
    let first = Session::create(runtime.path(), "1", &plan()).unwrap();
    let error = Session::create(runtime.path(), "1", &plan()).unwrap_err();
    assert!(matches!(error, SessionError::Io { .. }), "{error}");
    assert!(first.directory().join("tab").exists());
}

#[test]
fn no_library_is_loaded_from_where_others_can_write() {
    let runtime = tempfile::tempdir().unwrap();
    let open = runtime.path().join("open");
    let inner = open.join("inner");
    fs::create_dir_all(&inner).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    let error = Session::create(&inner, "1", &plan()).unwrap_err();
    let open = open.canonicalize().unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "`{}` can be written by others (mode 0777), so the preload library would not be safe there",
            open.display()
        )
    );
    fs::set_permissions(&open, Permissions::from_mode(0o1777)).unwrap();
    assert!(Session::create(&inner, "1", &plan()).is_ok());
}

#[test]
fn a_path_that_the_loader_splits_is_refused() {
    let runtime = tempfile::tempdir().unwrap();
    for name in ["a b", "a:b", "a$b"] {
        let directory = runtime.path().join(name);
        fs::create_dir(&directory).unwrap();
        let error = Session::create(&directory, "1", &plan()).unwrap_err();
        assert!(matches!(error, SessionError::Unloadable { .. }), "{error}");
        assert!(!directory.join("s/1").exists());
    }
}

#[test]
fn a_link_in_the_place_of_a_directory_is_not_followed() {
    let runtime = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), runtime.path().join("s")).unwrap();
    assert!(Session::create(runtime.path(), "1", &plan()).is_err());
    assert!(is_empty(elsewhere.path()));
}

#[test]
fn a_plan_or_a_name_that_makes_no_sense_leaves_nothing_behind() {
    let runtime = tempfile::tempdir().unwrap();
    let twice = SessionPlan {
        pinned: vec![
            Pin {
                requested: port(8000),
                real: port(8001),
            },
            port(8000).into(),
        ],
        ..plan()
    };
    let spares = SessionPlan {
        spares: (20000..20017).map(port).collect(),
        ..plan()
    };
    for (id, plan) in [("1", twice), ("1", spares), ("../1", plan()), ("", plan())] {
        assert!(Session::create(runtime.path(), id, &plan).is_err(), "{id}");
    }
    let sessions = runtime.path().join("s");
    assert!(!sessions.exists() || is_empty(&sessions));
}

#[test]
fn a_watcher_hears_of_bound_ports_once_and_of_the_end() {
    let runtime = tempfile::tempdir().unwrap();
    let session = Session::create(runtime.path(), "1", &plan()).unwrap();
    let mut watcher = session.watch();
    let (news_tx, news_rx) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        while let Some(news) = watcher.wait() {
            news_tx.send(news).unwrap();
        }
    });
    let attempt = Entry::attempt(3000);
    assert_eq!(session.table().claim(attempt), Claim::Won);
    assert!(session.table().replace(attempt, attempt.bound()));
    futex_wake(&session);
    assert_eq!(news_rx.recv_timeout(DEADLINE).unwrap(), [attempt.bound()]);
    drop(session);
    thread.join().unwrap();
    assert!(news_rx.recv().is_err(), "nothing was told twice");
}

fn futex_wake(session: &Session) {
    crate::sys::futex::wake_all(session.table().doorbell());
}
