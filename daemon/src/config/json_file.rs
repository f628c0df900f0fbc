//! Writing `config.json`: one entry is changed, everything else stays as it was, in its order.
//!
//! Invariant: a file that cannot be read, or that has changed since it was read, is never written over, and what
//! is written over has a copy in `config-backups`.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use styxy_protocol::ServiceType;

use super::{FileText, JSON};
use crate::service_types::Definition;

/// How many copies of earlier files are kept.
const BACKUPS: usize = 10;

/// One thing to change.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change<'a> {
    /// This service type has got its range by auto-allocation.
    Add(&'a Definition),
    /// This service type is no more.
    Remove(&'a ServiceType),
    /// Auto-allocation is on or off.
    Enable(bool),
}

/// Why the file is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// Somebody has changed it in this moment.
    #[error("`{}` is being changed by somebody else", .0.display())]
    Changed(PathBuf),
    /// It is not what it should be, and so is left as it is.
    #[error("`{}` {}", .0.display(), .1)]
    Broken(PathBuf, String),
    /// It cannot be written.
    #[error("cannot write `{}`: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
}

/// Makes these changes to the file of this home, which was read as `base`; its text from now on.
pub(crate) fn write(
    home: &Path,
    base: &FileText,
    changes: &[Change<'_>],
) -> Result<String, WriteError> {
    let path = home.join(JSON);
    let text = changed(base, changes).map_err(|reason| WriteError::Broken(path.clone(), reason))?;
    match replace(&path, base, &text) {
        Ok(Replaced::Done) => Ok(text),
        Ok(Replaced::NotWhatItWas) => Err(WriteError::Changed(path)),
        Err(error) => Err(WriteError::Io(path, error)),
    }
}

/// The text of a file with these changes.
fn changed(base: &FileText, changes: &[Change<'_>]) -> Result<String, String> {
    let mut root = match base {
        FileText::Absent => json!({}),
        FileText::Text(text) => {
            serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?
        }
        FileText::Unreadable(reason) => return Err(format!("cannot be read: {reason}")),
    };
    let root_table = root.as_object_mut().ok_or("is no JSON object")?;
    for change in changes {
        match change {
            Change::Add(definition) => {
                let types = table(root_table, "service_types")?;
                types.insert(definition.name.to_string(), entry(definition));
            }
            Change::Remove(name) => {
                // Removing is not to move the last entry into the place of the removed one.
                table(root_table, "service_types")?.shift_remove(name.as_str());
            }
            Change::Enable(enabled) => {
                let settings = table(root_table, "auto_allocation")?;
                settings.insert("enabled".to_owned(), json!(enabled));
            }
        }
    }
    let mut text = serde_json::to_string_pretty(&root).map_err(|error| error.to_string())?;
    text.push('\n');
    Ok(text)
}

fn table<'a>(
    root: &'a mut Map<String, Value>,
    key: &str,
) -> Result<&'a mut Map<String, Value>, String> {
    let value = root.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    value
        .as_object_mut()
        .ok_or_else(|| format!("has a `{key}` that is no object"))
}

/// An entry as the documented format has it.
fn entry(definition: &Definition) -> Value {
    json!({
        "description": definition.description,
        "preferred_ports": definition.preferred,
        "port_range": [definition.range.start(), definition.range.end()],
        "instance_behavior": definition.instances,
        "auto_allocated": true,
        "auto_allocated_at": definition.auto_allocated_at,
    })
}

enum Replaced {
    Done,
    NotWhatItWas,
}

fn replace(path: &Path, base: &FileText, text: &str) -> io::Result<Replaced> {
    // Who keeps the file elsewhere and has a link to it here goes on having one.
    let target = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => fs::canonicalize(path)?,
        _ => path.to_owned(),
    };
    if let (FileText::Text(old), Some(home)) = (base, path.parent()) {
        back_up(&home.join("config-backups"), old)?;
    }
    let fresh = target.with_extension("json.new");
    // What a killed daemon left half written.
    fs::remove_file(&fresh).ok();
    let written = write_new(&fresh, text).and_then(|()| {
        if FileText::read(path) != *base {
            fs::remove_file(&fresh)?;
            return Ok(Replaced::NotWhatItWas);
        }
        fs::rename(&fresh, &target)?;
        Ok(Replaced::Done)
    });
    if written.is_err() {
        fs::remove_file(&fresh).ok();
    }
    written
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

/// Keeps this text under the present time and forgets the oldest ones.
fn back_up(dir: &Path, text: &str) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let now = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let name = format!("config-{}.json", now.replace([':', '.'], "-"));
    write_new(&dir.join(name), text)?;
    let mut kept: Vec<PathBuf> = fs::read_dir(dir)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_backup(path))
        .collect();
    // The names begin with the time.
    kept.sort();
    let surplus = kept.len().saturating_sub(BACKUPS);
    for old in &kept[..surplus] {
        fs::remove_file(old).ok();
    }
    Ok(())
}

fn is_backup(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("config-"))
        && path
            .extension()
            .is_some_and(|extension| extension == "json")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use styxy_protocol::Instances;
    use styxy_protocol::api::TypeSource;

    use super::*;
    use crate::service_types::first_ports;

    fn definition(name: &str, first: u16) -> Definition {
        let range = first..=first + 9;
        Definition {
            name: name.parse().unwrap(),
            description: "a description".to_owned(),
            preferred: first_ports(&range),
            range,
            instances: Instances::Multi,
            examples: Vec::new(),
            source: TypeSource::AutoAllocated,
            auto_allocated_at: Some("2026-01-01T00:00:00Z".to_owned()),
        }
    }

    const OLD: &str = r#"{"z": 1, "service_types": {"b": {"x": null, "port_range": [1, 2]}, "a": 0.1}, "y": "é"}"#;

    fn text(text: &str) -> FileText {
        FileText::Text(text.to_owned())
    }

    #[test]
    fn everything_else_stays_in_its_order() {
        let one = definition("new", 11_510);
        let fresh = changed(&text(OLD), &[Change::Add(&one), Change::Enable(false)]).unwrap();
        let expected = r#"{
  "z": 1,
  "service_types": {
    "b": {
      "x": null,
      "port_range": [
        1,
        2
      ]
    },
    "a": 0.1,
    "new": {
      "description": "a description",
      "preferred_ports": [
        11510,
        11511,
        11512,
        11513
      ],
      "port_range": [
        11510,
        11519
      ],
      "instance_behavior": "multi",
      "auto_allocated": true,
      "auto_allocated_at": "2026-01-01T00:00:00Z"
    }
  },
  "y": "é",
  "auto_allocation": {
    "enabled": false
  }
}
"#;
        assert_eq!(fresh, expected);
        let back = changed(&text(&fresh), &[Change::Remove(&one.name)]).unwrap();
        let back: Value = serde_json::from_str(&back).unwrap();
        let old: Value = serde_json::from_str(OLD).unwrap();
        assert_eq!(back["service_types"], old["service_types"]);
    }

    #[test]
    fn what_is_broken_or_has_changed_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(JSON);
        for broken in ["{", "[]", r#"{"auto_allocation": 1}"#] {
            fs::write(&path, broken).unwrap();
            let written = write(home.path(), &text(broken), &[Change::Enable(true)]);
            assert!(matches!(written, Err(WriteError::Broken(..))), "{broken}");
            assert_eq!(fs::read_to_string(&path).unwrap(), broken);
        }
        fs::write(&path, "{\"by\": \"hand\"}").unwrap();
        for base in [FileText::Absent, text("{}")] {
            let written = write(home.path(), &base, &[Change::Enable(true)]);
            assert!(matches!(written, Err(WriteError::Changed(_))), "{base:?}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"by\": \"hand\"}");
        assert!(!path.with_extension("json.new").exists());
    }

    #[test]
    fn the_file_is_private_a_link_stays_one_and_ten_copies_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let (path, target) = (home.path().join(JSON), elsewhere.path().join("mine.json"));
        fs::write(&target, "{}").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let mut base = text("{}");
        for round in 0..13 {
            let enable = Change::Enable(round % 2 == 0);
            base = text(&write(home.path(), &base, &[enable]).unwrap());
        }
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(FileText::read(&target), base);
        assert_eq!(mode(&target), 0o600);
        let backups = home.path().join("config-backups");
        assert_eq!(
            (mode(&backups), fs::read_dir(&backups).unwrap().count()),
            (0o700, BACKUPS)
        );
    }
}
