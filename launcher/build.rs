//! Builds the preload library and hands its bytes to the launcher.
//!
//! The library is a member of the workspace like any other, but it has to be a cdylib with a profile, features and
//! linker flags of its own, and cargo does not build a dependency that way. So it is built once more,
//! by a cargo of its own with a target directory of its own (sharing the outer one would wait for the
//! outer build's lock, for ever). It has no dependency outside the workspace and downloads nothing.
//!
//! Where there is no library (other systems and processors) the image is empty, and runs go without interception.
#![expect(
    clippy::disallowed_methods,
    reason = "cargo talks to build scripts through the environment"
)]

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Linker flags for every linker: nothing but our own code, two segments, no relocation after start-up.
const LINK: &[&str] = &[
    "-nostartfiles",
    "-nostdlib",
    "-nodefaultlibs",
    "-Wl,-z,noseparate-code,-z,now,-z,norelro,-z,nodelete",
    "-Wl,--hash-style=gnu,--build-id=none",
];
/// Only LLD, the default of this target, knows it, and only LLD needs it for two segments.
const LINK_LLD: &[&str] = &["-Wl,--no-rosegment"];

fn main() {
    let launcher = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    let workspace = launcher.parent().expect("the launcher is in a workspace");
    for source in ["preload", "daemon/protocol", "Cargo.toml"] {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(source).display()
        );
    }
    let image = out.join("styxy.so");
    if variable("CARGO_CFG_TARGET_OS") == "linux" && variable("CARGO_CFG_TARGET_ARCH") == "x86_64" {
        let library = build(&workspace.join("preload"), &out.join("preload"));
        fs::copy(library, image).expect("copy the preload library");
    } else {
        fs::write(image, []).expect("write an empty image");
    }
}

/// Builds the library and returns where it lies.
fn build(package: &Path, target_dir: &Path) -> PathBuf {
    let target = variable("TARGET").into_string().expect("a target triple");
    // A linker that is not LLD refuses its flag; a Cargo.lock that is not there or not up to date
    // (`cargo install` without `--locked`) refuses the first two.
    let attempts: [(&[&str], &[&str]); 3] = [
        (&["--locked", "--offline"], LINK_LLD),
        (&["--locked", "--offline"], &[]),
        (&[], &[]),
    ];
    let mut complaints = String::new();
    for (cargo_flags, link_flags) in attempts {
        let output = cargo(package, &target, target_dir, cargo_flags, link_flags)
            .output()
            .expect("run cargo");
        if output.status.success() {
            return target_dir
                .join(&target)
                .join("preload")
                .join("libstyxy_preload.so");
        }
        complaints.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    panic!("the preload library could not be built:\n{complaints}");
}

fn cargo(
    package: &Path,
    target: &str,
    target_dir: &Path,
    cargo_flags: &[&str],
    link_flags: &[&str],
) -> Command {
    let mut command = Command::new(variable("CARGO"));
    for (name, _) in env::vars_os() {
        if steers_the_outer_build(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command
        // Set and empty: no flags, whatever the configuration files say.
        .env("CARGO_ENCODED_RUSTFLAGS", "")
        .current_dir(package)
        .args(["rustc", "--package", "styxy-preload", "--lib"])
        .args(["--crate-type", "cdylib", "--profile", "preload"])
        .args(["--features", "hooks", "--target", target])
        .arg("--target-dir")
        .arg(target_dir)
        .args(cargo_flags)
        .arg("--");
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut flag = OsString::from("-Clinker=");
        flag.push(linker);
        command.arg(flag);
    }
    if target.ends_with("-musl") {
        // Without these rustc makes no cdylib for musl, or puts a libc into it.
        command.args(["-Ctarget-feature=-crt-static", "-Clink-self-contained=no"]);
    }
    for flag in LINK.iter().chain(link_flags) {
        command.arg(format!("-Clink-arg={flag}"));
    }
    command
}

/// Whether a variable belongs to the build that this script is a part of, and would bend the one that it starts:
/// profiles, flags, target directory, coverage and clippy wrappers.
fn steers_the_outer_build(name: &str) -> bool {
    let keep = ["CARGO", "CARGO_HOME"].contains(&name);
    let cargo = name.starts_with("CARGO") && !keep;
    cargo
        || name.starts_with("RUSTFLAGS")
        || name.starts_with("RUSTC_W")
        || name.starts_with("CLIPPY")
        || ["MAKEFLAGS", "MFLAGS", "__CARGO_DEFAULT_LIB_METADATA"].contains(&name)
}

fn variable(name: &str) -> OsString {
    env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"))
}
