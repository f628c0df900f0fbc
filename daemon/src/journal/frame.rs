//! The form of the journal: one record a line, `<CRC-32 of the rest, hex> <length of the JSON> <JSON>`.
//!
//! Pure. JSON has no raw line feeds, so after damage the next line is a whole record again. A file that was
//! cut has a last line without line feed; anything else that does not check is damage.

use std::io::Write as _;

use super::Entry;

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Every record whose checksum is right, in order.
    pub(crate) records: Vec<Entry>,
    /// How many bytes from the beginning are whole lines.
    pub(crate) whole_len: u64,
    /// What is wrong.
    pub(crate) damage: Damage,
    /// How many lines do not check.
    pub(crate) dropped: usize,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Nothing.
    None,
    /// The last line is not complete: its writer was killed or its disk was full.
    TornTail,
    /// Something before that does not check.
    Inside,
}

/// These records as they stand in the file.
pub(crate) fn encode(records: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        // Strings, numbers and structures of them: there is nothing in a record that JSON cannot say.
        let Ok(json) = serde_json::to_string(record) else {
            continue;
        };
        let body = format!("{} {json}", json.len());
        // Writing to memory cannot fail.
        writeln!(bytes, "{:08x} {body}", crc32fast::hash(body.as_bytes())).ok();
    }
    bytes
}

/// Reads what can be read.
pub(crate) fn decode(bytes: &[u8]) -> Decoded {
    let whole_len = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let (whole, tail) = bytes.split_at(whole_len);
    let mut records = Vec::new();
    let (mut damage, mut dropped) = if tail.is_empty() {
        (Damage::None, 0)
    } else {
        (Damage::TornTail, 1)
    };
    for line in whole.split_inclusive(|byte| *byte == b'\n') {
        if let Some(json) = line.strip_suffix(b"\n").and_then(check) {
            // A record of a later version, with a right checksum, is no damage but nothing we know either.
            records.extend(serde_json::from_str(json).ok());
        } else {
            damage = Damage::Inside;
            dropped += 1;
        }
    }
    Decoded {
        records,
        whole_len: whole_len as u64,
        damage,
        dropped,
    }
}

/// The JSON of a line whose checksum and length are right.
fn check(line: &[u8]) -> Option<&str> {
    let line = str::from_utf8(line).ok()?;
    let (checksum, body) = line.split_once(' ')?;
    let (length, json) = body.split_once(' ')?;
    let right = u32::from_str_radix(checksum, 16) == Ok(crc32fast::hash(body.as_bytes()))
        && length.parse() == Ok(json.len());
    right.then_some(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocator::{LeaseId, Record};
    use crate::instances;

    #[test]
    fn the_form_of_a_line_is_fixed() {
        let record = Record::Ended(LeaseId::from_random(0));
        let line = String::from_utf8(encode(&[record.into()])).unwrap();
        assert_eq!(
            line,
            "4264ddca 48 {\"ended\":\"00000000-0000-4000-8000-000000000000\"}\n"
        );
    }

    #[test]
    fn changes_of_either_state_read_back_as_what_they_are() {
        let id = "agent-1".parse().unwrap();
        let entries = [
            Entry::from(instances::Record::Gone(id)),
            Entry::from(Record::Ended(LeaseId::from_random(0))),
        ];
        assert_eq!(decode(&encode(&entries)).records, entries);
    }

    #[test]
    fn a_record_of_a_later_version_is_passed_over() {
        let body = r#"10 {"new":{}}"#;
        let line = format!("{:08x} {body}\n", crc32fast::hash(body.as_bytes()));
        let decoded = decode(line.as_bytes());
        assert_eq!(decoded.damage, Damage::None);
        assert_eq!(decoded.records, []);
    }
}
