//! `styxy config generate`: a config.toml to start from, in which everything is commented out.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use styxy_daemon::config;

use crate::cli::ConfigGenerateArgs;
use crate::context::Context;
use crate::manage::Done;
use crate::manage::failure::Failure;
use crate::notice::printable;
use crate::output;
use crate::places::{self, PlacesError};

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generated {
    /// The file is there now.
    New,
    /// So it is, and the one that was there has another name.
    Replaced,
    /// There was one already.
    Exists,
}

pub(super) fn generate(context: &Context, args: ConfigGenerateArgs) -> Done {
    let home = places::home(context).ok_or(PlacesError::NoHome)?;
    let path = home.join(config::TOML);
    let generated = write(&path, args.force).map_err(Failure::file("write", &path))?;
    if args.format.json {
        output::print_json(&json!({ "path": path, "generated": generated != Generated::Exists }));
    } else {
        let path = printable(&path.to_string_lossy());
        output::print(&match generated {
            Generated::New => format!("Generated {path}\nEdit it, then `styxy config validate`\n"),
            Generated::Replaced => format!("Generated {path}\nThe old one is {path}.bak\n"),
            Generated::Exists => format!("{path} already exists; `--force` replaces it\n"),
        });
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn write(path: &Path, force: bool) -> io::Result<Generated> {
    if let Some(home) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(home)?;
    }
    let mut generated = Generated::New;
    if force && fs::symlink_metadata(path).is_ok() {
        let mut backup = path.as_os_str().to_owned();
        backup.push(".bak");
        fs::rename(path, backup)?;
        generated = Generated::Replaced;
    }
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(mut file) => file.write_all(config::template().as_bytes())?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Generated::Exists),
        Err(error) => return Err(error),
    }
    Ok(generated)
}
