//! A project that exists only in memory, and command lines as people write them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use styxy_recipes::schema::Example;
use styxy_recipes::{Catalog, Command, Detection, Package, Project, detect};

/// Root of the project.
pub(crate) const ROOT: &str = "/home/me/project";

/// A project in memory.
#[derive(Debug, Default)]
pub(crate) struct Sandbox {
    pub(crate) packages: BTreeMap<PathBuf, Package>,
    pub(crate) files: BTreeSet<PathBuf>,
    pub(crate) texts: BTreeMap<PathBuf, String>,
    pub(crate) env: BTreeMap<String, String>,
}

impl Sandbox {
    /// A project with one package.
    pub(crate) fn with_scripts(scripts: &[(&str, &str)]) -> Self {
        let scripts = scripts
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        let package = Package {
            scripts,
            ..Package::default()
        };
        Self {
            packages: [(PathBuf::from(ROOT), package)].into(),
            ..Self::default()
        }
    }

    pub(crate) fn of(example: &Example) -> Self {
        let mut packages = BTreeMap::new();
        let needs_root = !(example.scripts.is_empty()
            && example.dependencies.is_empty()
            && example.packages.is_empty())
            || example.files.iter().any(|file| file == "server.js");
        if needs_root {
            let root = Package {
                scripts: example.scripts.clone().into_iter().collect(),
                dependencies: example.dependencies.iter().cloned().collect(),
                has_workspaces: !example.packages.is_empty(),
                package_manager: example.package_manager.clone(),
                ..Package::default()
            };
            packages.insert(PathBuf::from(ROOT), root);
        }
        for (dir, package) in &example.packages {
            let package = Package {
                name: package.name.clone(),
                scripts: package.scripts.clone().into_iter().collect(),
                dependencies: package.dependencies.iter().cloned().collect(),
                ..Package::default()
            };
            packages.insert(Path::new(ROOT).join(dir), package);
        }
        Self {
            packages,
            files: example
                .files
                .iter()
                .map(|file| Path::new(ROOT).join(file))
                .collect(),
            texts: example
                .texts
                .iter()
                .map(|(file, text)| (Path::new(ROOT).join(file), text.clone()))
                .collect(),
            env: example.env.clone(),
        }
    }

    pub(crate) fn detect(&self, catalog: &Catalog, argv: &[OsString]) -> Detection {
        let command = Command {
            argv,
            cwd: Path::new(ROOT),
            env: &|name| self.env.get(name).map(OsString::from),
        };
        detect(catalog, &command, self)
    }
}

impl Project for Sandbox {
    fn package(&self, dir: &Path) -> Option<Package> {
        self.packages.get(dir).cloned()
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.contains(path) || self.packages.contains_key(path)
    }

    fn text(&self, path: &Path) -> Option<String> {
        self.texts.get(path).cloned()
    }

    fn workspace_package(&self, root: &Path, name: &str) -> Option<PathBuf> {
        let found = self.packages.iter().find(|(dir, package)| {
            dir.starts_with(root)
                && (package.name.as_deref() == Some(name) || **dir == root.join(name))
        });
        found.map(|(dir, _)| dir.clone())
    }
}

/// Splits a command line at blanks outside single quotes.
pub(crate) fn argv(line: &str) -> Vec<OsString> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words.into_iter().map(OsString::from).collect()
}
