//! Builds the preload library and hands its bytes to the launcher.
//!
//! The library is a member of the workspace like any other, but it has to be a cdylib with a profile, features and
//! linker flags of its own, and cargo does not build a dependency that way. So it is built once more,
//! by a cargo of its own with a target directory of its own (sharing the outer one would wait for the
//! outer build's lock, for ever). It has no dependency outside the workspace and downloads nothing.
//!
//! The program of the signal witness is one file, and rustc is told how to make it.
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

/// The same for the witness, which is no library: nothing is relocated at all, and nobody unwinds it.
const WITNESS_LINK: &[&str] = &[
    "-nostartfiles",
    "-nostdlib",
    "-static",
    "-Wl,-z,noseparate-code,--no-eh-frame-hdr,--build-id=none",
];

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
    let (image, witness) = (out.join("styxy.so"), out.join("witness"));
    let is_linux = variable("CARGO_CFG_TARGET_OS") == "linux";
    let processor = variable("CARGO_CFG_TARGET_ARCH");
    if is_linux
        && ["x86_64", "aarch64"]
            .iter()
            .any(|known| processor == *known)
    {
        build_witness(&launcher.join("src/sys/witness/program.rs"), &witness);
    } else {
        fs::write(witness, []).expect("write an empty program");
    }
    if is_linux && processor == "x86_64" {
        let library = build(&workspace.join("preload"), &out.join("preload"));
        fs::copy(library, image).expect("copy the preload library");
    } else {
        fs::write(image, []).expect("write an empty image");
    }
}

/// Compiles the program of the witness: static, at a fixed address, in one segment.
fn build_witness(source: &Path, program: &Path) {
    println!("cargo::rerun-if-changed={}", source.display());
    let mut complaints = String::new();
    for link_flags in [LINK_LLD, &[]] {
        let mut rustc = Command::new(variable("RUSTC"));
        rustc
            .args(["--edition=2024", "--crate-type=bin", "--crate-name=witness"])
            .args(["-Cpanic=abort", "-Copt-level=s", "-Cstrip=symbols"])
            .arg("-Crelocation-model=static")
            .args(WITNESS_LINK.iter().map(|flag| format!("-Clink-arg={flag}")))
            .args(link_flags.iter().map(|flag| format!("-Clink-arg={flag}")))
            .arg("--target")
            .arg(variable("TARGET"))
            .args(linker())
            .arg("-o")
            .args([program, source]);
        if variable("CARGO_CFG_TARGET_ENV") == "musl" {
            rustc.arg("-Clink-self-contained=no");
        }
        let output = rustc.output().expect("run rustc");
        if output.status.success() {
            return;
        }
        complaints.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    panic!("the witness could not be built:\n{complaints}");
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
    command.args(linker());
    if target.ends_with("-musl") {
        // Without these rustc makes no cdylib for musl, or puts a libc into it.
        command.args(["-Ctarget-feature=-crt-static", "-Clink-self-contained=no"]);
    }
    for flag in LINK.iter().chain(link_flags) {
        command.arg(format!("-Clink-arg={flag}"));
    }
    command
}

/// The linker that cargo is configured to use, as an argument of rustc.
fn linker() -> Option<OsString> {
    let mut flag = OsString::from("-Clinker=");
    flag.push(env::var_os("RUSTC_LINKER")?);
    Some(flag)
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
