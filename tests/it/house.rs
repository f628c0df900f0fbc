//! The rules of the house that neither the compiler nor clippy checks: who depends on whom, and how files look.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What each package may depend on: all packages of this workspace that are listed, and with `only` nothing else.
const MAY_USE: [(&str, &[&str]); 6] = [
    ("styxy-protocol", &[]),
    ("styxy-preload", &["styxy-protocol"]),
    ("styxy-recipes", &["styxy-protocol"]),
    ("styxy-daemon", &["styxy-protocol"]),
    (
        "styxy",
        &["styxy-daemon", "styxy-protocol", "styxy-recipes"],
    ),
    ("styxy-tests", &["styxy", "styxy-protocol"]),
];

/// What the packages that stay small may use from outside.
const OUTSIDE: [(&str, &[&str]); 3] = [
    ("styxy-protocol", &["schemars", "serde", "serde_json"]),
    ("styxy-preload", &[]),
    (
        "styxy-recipes",
        &["serde", "serde_json", "thiserror", "toml"],
    ),
];

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the workspace").to_owned()
}

/// The names of each package's ordinary dependencies.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
    ]);
    let output = cargo.current_dir(root()).output().expect("cargo metadata");
    assert!(output.status.success(), "{output:?}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let all = package["dependencies"].as_array().expect("dependencies");
            let ordinary = all.iter().filter(|dependency| dependency["kind"].is_null());
            let names = ordinary.map(|dependency| text(&dependency["name"]));
            (text(&package["name"]), names.collect())
        })
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let dependencies = dependencies();
    let known: Vec<_> = MAY_USE.iter().map(|(name, _)| *name).collect();
    for name in dependencies.keys() {
        assert!(known.contains(&name.as_str()), "`{name}` is in no rule");
    }
    for (package, allowed) in MAY_USE {
        for used in &dependencies[package] {
            let inside = known.contains(&used.as_str());
            assert!(
                !inside || allowed.contains(&used.as_str()),
                "`{package}` uses `{used}`"
            );
        }
    }
    for (package, allowed) in OUTSIDE {
        for used in dependencies[package]
            .iter()
            .filter(|used| !known.contains(&used.as_str()))
        {
            assert!(
                allowed.contains(&used.as_str()),
                "`{package}` uses `{used}`"
            );
        }
    }
}

#[test]
fn every_dependency_says_why_it_is_here() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let (_, rest) = manifest
        .split_once("[workspace.dependencies]\n")
        .expect("the table");
    let table = rest.split_once("\n[").map_or(rest, |(table, _)| table);
    let mut reason_above = false;
    let mut seen = 0;
    for line in table.lines() {
        if let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            let ours = name.trim() == "styxy" || name.starts_with("styxy-");
            // One reason may stand above several that come together.
            assert!(ours || reason_above, "no reason above `{}`", name.trim());
            seen += 1;
        } else {
            reason_above = line.starts_with('#');
        }
    }
    assert!(seen > 10, "the table was not found");
}

/// Every file of the repository with one of these extensions.
fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_symlink() || name == "target" || name == "node_modules" || name == ".git" {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if path
                .extension()
                .is_some_and(|e| extensions.contains(&&*e.to_string_lossy()))
            {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty());
    found.sort();
    found
}

#[test]
fn files_are_short_and_open_with_their_job() {
    let mut long = Vec::new();
    let rust = files(&["rs"]);
    for path in &rust {
        let text = fs::read_to_string(path).expect("UTF-8");
        let lines = text.lines().count();
        assert!(lines <= 700, "{}: {lines} lines", path.display());
        assert!(
            text.starts_with("//!"),
            "{} does not say what it is for",
            path.display()
        );
        if lines > 400 {
            long.push((path, lines));
        }
    }
    assert!(
        long.len() * 10 <= rust.len(),
        "most files have at most 400 lines: {long:?}"
    );
}

#[test]
fn names_name_the_thing() {
    let words = ["Manager", "Helper", "Util", "Utils"];
    for path in files(&["rs"]) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let vague = [
            "mod", "util", "utils", "helper", "helpers", "common", "misc",
        ];
        assert!(!vague.contains(&&*stem), "{}", path.display());
        let text = fs::read_to_string(&path).expect("UTF-8");
        for line in text.lines().map(str::trim) {
            let declared = line
                .trim_start_matches("pub ")
                .trim_start_matches("pub(crate) ");
            let name = ["struct ", "enum ", "trait "]
                .iter()
                .find_map(|keyword| declared.strip_prefix(keyword));
            let vague = name.is_some_and(|name| {
                let end = name
                    .find(|c: char| !c.is_alphanumeric())
                    .unwrap_or(name.len());
                words.iter().any(|word| name[..end].ends_with(word))
            });
            assert!(!vague, "{}: {line}", path.display());
        }
    }
}

#[test]
fn exceptions_carry_a_reason_and_nothing_is_left_to_do() {
    for path in files(&["rs", "toml", "js", "py"]) {
        let text = fs::read_to_string(&path).expect("UTF-8");
        for (number, line) in text.lines().enumerate() {
            for word in [
                concat!("#[", "allow("),
                concat!("#![", "allow("),
                concat!("TO", "DO"),
                concat!("FIX", "ME"),
            ] {
                assert!(
                    !line.contains(word),
                    "{}:{}: {line}",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn locks_name_no_registry() {
    for path in files(&["json"])
        .iter()
        .filter(|path| path.ends_with("package-lock.json"))
    {
        let text = fs::read_to_string(path).expect("UTF-8");
        // A workspace's package is "resolved" to its directory.
        let of_registry = |line: &&str| line.contains("\"resolved\"") && line.contains("://");
        assert_eq!(text.lines().find(of_registry), None, "{}", path.display());
        assert!(text.contains("\"integrity\""), "{}", path.display());
    }
}
