//! The journal against damage, full disks and people who delete files.

use std::os::unix::fs::PermissionsExt as _;

use styxy_protocol::Port;

use super::*;
use crate::allocator::LeaseId;

const NOW: Duration = Duration::from_secs(100);

fn records(count: u128) -> Vec<Record> {
    (0..count)
        .map(|n| Record::Ended(LeaseId::from_random(n << 80)))
        .collect()
}

fn never() -> Vec<Record> {
    panic!("no snapshot is needed")
}

fn reopened(path: &Path) -> Vec<Record> {
    let loaded = Journal::open(path);
    assert_eq!(loaded.journal.degraded(), None);
    loaded.records
}

#[test]
fn what_was_appended_is_there_after_a_restart_for_the_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let mut loaded = Journal::open(&path);
    assert_eq!(loaded.records, []);
    loaded.journal.append(&records(2), NOW, never);
    drop(loaded);
    let mut loaded = Journal::open(&path);
    assert_eq!(loaded.records, records(2));
    loaded.journal.append(&records(1), NOW, never);
    assert_eq!(reopened(&path), [records(2), records(1)].concat());
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_journal_cut_at_any_length_loses_only_what_was_cut_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let whole = frame::encode(&records(8));
    let ends: Vec<usize> = (0..=8).map(|n| frame::encode(&records(n)).len()).collect();
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let mut loaded = Journal::open(&path);
        let expected = ends.iter().filter(|end| **end <= length).count() - 1;
        assert_eq!(loaded.records.len(), expected, "{length}");
        loaded.journal.append(&records(1), NOW, never);
        assert_eq!(reopened(&path).len(), expected + 1, "{length}");
        assert!(!path.with_extension("damaged").exists());
    }
}

#[test]
fn a_damaged_journal_is_kept_aside_and_what_can_be_read_is_used() {
    let whole = frame::encode(&records(3));
    let line = whole.len() / 3;
    let mut bit = whole.clone();
    bit[line + 20] ^= 1;
    let mut lost_end_of_line = whole.clone();
    lost_end_of_line[line - 1] = b' ';
    let zeroes_in_front = [vec![0; 100], b"\n".to_vec(), whole.clone()].concat();
    for (name, bytes, expected) in [
        ("one bit", bit, 2),
        ("a line end", lost_end_of_line, 1),
        ("zeroes in front", zeroes_in_front, 3),
        ("another file", b"hello\nworld\n".to_vec(), 0),
        ("binary", [0xff, b'\n', 0, b'\n'].repeat(100), 0),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        fs::write(&path, &bytes).unwrap();
        let mut loaded = Journal::open(&path);
        assert_eq!(loaded.records.len(), expected, "{name}");
        assert_eq!(
            fs::read(path.with_extension("damaged")).unwrap(),
            bytes,
            "{name}"
        );
        let kept = loaded.records.clone();
        loaded
            .journal
            .append(&records(1), NOW, || [kept, records(1)].concat());
        assert_eq!(reopened(&path).len(), expected + 1, "{name}");
    }
}

#[test]
fn a_directory_in_its_place_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    fs::create_dir(&path).unwrap();
    let mut loaded = Journal::open(&path);
    loaded.journal.append(&records(1), NOW, || records(1));
    assert_eq!(reopened(&path), records(1));
}

#[test]
fn a_symbolic_link_in_its_place_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let target = dir.path().join("precious");
    fs::write(&target, "x").unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    let mut loaded = Journal::open(&path);
    loaded.journal.append(&records(1), NOW, || records(1));
    assert_eq!(fs::read(&target).unwrap(), b"x");
    assert_eq!(reopened(&path), records(1));
}

#[test]
fn a_failed_write_degrades_until_a_later_one_saves_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("not/there/journal");
    let mut journal = Journal::open(&path).journal;
    journal.append(&records(1), NOW, || records(1));
    assert!(
        journal
            .degraded()
            .is_some_and(|reason| reason.contains("there/journal"))
    );
    fs::create_dir(dir.path().join("not")).unwrap();
    journal.append(&records(2), NOW, never);
    assert!(journal.degraded().is_some(), "not tried again so soon");
    journal.append(&records(3), NOW + RETRY_AFTER, || records(3));
    assert_eq!(journal.degraded(), None);
    assert_eq!(reopened(&path), records(3));
}

#[test]
fn a_full_disk_leaves_whole_records_and_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let mut journal = Journal::open(&path).journal;
    journal.append(&records(2), NOW, never);
    journal.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
    fs::create_dir(path.with_extension("new")).unwrap(); // no new file either
    journal.append(&records(1), NOW, || records(1));
    assert!(journal.degraded().is_some());
    assert_eq!(reopened(&path), records(2));
}

#[test]
fn a_journal_that_was_deleted_or_replaced_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("home/journal");
    fs::create_dir(dir.path().join("home")).unwrap();
    let mut journal = Journal::open(&path).journal;
    journal.append(&records(1), NOW, never);
    fs::remove_dir_all(dir.path().join("home")).unwrap();
    journal.append(&records(2), NOW, || records(2));
    assert_eq!(reopened(&path), records(2));
    fs::write(dir.path().join("other"), "somebody's backup\n").unwrap();
    fs::rename(dir.path().join("other"), &path).unwrap();
    journal.append(&records(3), NOW, || records(3));
    assert_eq!(reopened(&path), records(3));
    assert_eq!(journal.degraded(), None);
}

#[test]
fn a_journal_that_cannot_be_written_anew_goes_on_growing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let mut journal = Journal::open(&path).journal;
    journal.append(&records(2), NOW, never);
    journal.len = COMPACT_ABOVE + 1;
    fs::create_dir(path.with_extension("new")).unwrap();
    journal.append(&records(1), NOW, || records(1));
    assert_eq!(journal.degraded(), None);
    assert_eq!(reopened(&path), [records(2), records(1)].concat());
}

#[test]
fn a_journal_that_has_grown_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let mut journal = Journal::open(&path).journal;
    let many = records(100);
    let mut written = 0;
    while written <= COMPACT_ABOVE {
        journal.append(&many, NOW, never);
        written += frame::encode(&many).len() as u64;
    }
    let last = Record::Sticky {
        identity: serde_json::from_str(r#"{"project_path":"/p","service_name":"web"}"#).unwrap(),
        port: Port::new(3000).unwrap(),
    };
    let snapshot = vec![last.clone()];
    journal.append(&[last], NOW, || snapshot.clone());
    assert_eq!(reopened(&path), snapshot);
    journal.append(&records(1), NOW, never);
    assert_eq!(reopened(&path).len(), 2);
}

/// What a daemon of protocol 1 has written.
const OF_PROTOCOL_1: [&str; 5] = [
    r#"{"sticky":{"identity":{"project_path":"/p","package_dir":"/p","service_name":"web"},"port":8765}}"#,
    r#"{"leased":{"id":"525c1896-da48-4844-9207-f95da91e5101","port":8765,"spares":[22177,22178],"reports":[{"requested":5000,"port":20000}],"hold":{"owner":{"process":{"pid":23409,"start_time":1347418},"session":9050,"group":23405}},"boot":"ea3733ec-d697-4d55-9545-cdec1fa42477","allocated_at":1795242937,"service_type":"api","service_name":"web","instance_id":null,"project_path":"/p","package_dir":"/p","command":"python3 -m http.server 8765"}}"#,
    r#"{"leased":{"id":"4f10df53-44cf-4c39-b7af-d84814464a8f","port":11430,"spares":[],"reports":[],"hold":{"heartbeat":{"pid":null,"ttl":{"secs":86400,"nanos":0},"deadline":{"secs":99853,"nanos":640267342}}},"boot":"ea3733ec-d697-4d55-9545-cdec1fa42477","allocated_at":1795242917,"service_type":"ai","service_name":null,"instance_id":null,"project_path":null,"package_dir":null,"command":null}}"#,
    r#"{"leased":{"id":"c737611c-3277-41f9-adc7-2330122c7dba","port":3000,"spares":[],"reports":[],"hold":{"detached":{"owner":{"process":{"pid":23458,"start_time":1347529},"session":9050,"group":23405},"was_killed":false}},"boot":"ea3733ec-d697-4d55-9545-cdec1fa42477","allocated_at":1795242938,"service_type":"dev","service_name":null,"instance_id":null,"project_path":null,"package_dir":null,"command":null}}"#,
    r#"{"ended":"525c1896-da48-4844-9207-f95da91e5101"}"#,
];

#[test]
fn the_journal_of_protocol_1_is_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let lines = OF_PROTOCOL_1.map(|json| {
        let body = format!("{} {json}", json.len());
        format!("{:08x} {body}\n", crc32fast::hash(body.as_bytes()))
    });
    fs::write(&path, lines.concat()).unwrap();
    let records = reopened(&path);
    assert_eq!(records.len(), OF_PROTOCOL_1.len(), "{records:?}");
    for (record, json) in records.iter().zip(OF_PROTOCOL_1) {
        let was: serde_json::Value = serde_json::from_str(json).unwrap();
        let is = serde_json::to_value(record).unwrap();
        assert!(has(&is, &was), "{is} has not all of {was}");
    }
}

/// Whether `whole` says everything that `part` says; it may have fields that `part` has not.
fn has(whole: &serde_json::Value, part: &serde_json::Value) -> bool {
    match part.as_object() {
        Some(fields) => fields.iter().all(|(name, part)| has(&whole[name], part)),
        None => whole == part,
    }
}
