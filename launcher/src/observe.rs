//! The files that decide what a command is: package.json, its neighbours, the worktree, the user's recipes.
//!
//! Everything read here is data of a project that nobody vouches for: sizes are capped, only regular files are
//! opened, nothing is run. A file that cannot be read or understood counts as absent, with one note.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use styxy_recipes::{Package, Project, RecipeSource};

use crate::context::Context;

/// The largest package.json that is read, in bytes.
const PACKAGE_LIMIT: u64 = 1 << 20;
/// The largest other file that is read, in bytes.
const TEXT_LIMIT: u64 = 1 << 16;
/// How many entries of a workspace folder are looked at.
const WORKSPACE_LIMIT: usize = 500;
/// The largest recipe file that is read, in bytes.
const RECIPE_LIMIT: u64 = 1 << 18;
/// How many files of the recipe folder are read: every run reads them.
const RECIPE_FILES: usize = 200;

/// A project's files, each read at most once.
#[derive(Debug, Default)]
pub(crate) struct ProjectFiles {
    packages: RefCell<HashMap<PathBuf, Option<Package>>>,
    notes: RefCell<Vec<String>>,
}

impl ProjectFiles {
    /// What was wrong with the files read so far, a sentence each.
    pub(crate) fn take_notes(&self) -> Vec<String> {
        self.notes.take()
    }

    fn read_package(&self, dir: &Path) -> Option<Package> {
        let path = dir.join("package.json");
        let text = read_capped(&path, PACKAGE_LIMIT).unwrap_or_else(|problem| {
            self.notes
                .borrow_mut()
                .push(format!("`{}` is left aside: {problem}", path.display()));
            None
        })?;
        match Package::parse(&text) {
            Ok(package) => Some(package),
            Err(error) => {
                self.notes
                    .borrow_mut()
                    .push(format!("`{}` is left aside: {error}", path.display()));
                None
            }
        }
    }
}

impl Project for ProjectFiles {
    fn package(&self, dir: &Path) -> Option<Package> {
        if let Some(known) = self.packages.borrow().get(dir) {
            return known.clone();
        }
        let package = self.read_package(dir);
        self.packages
            .borrow_mut()
            .insert(dir.to_owned(), package.clone());
        package
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn text(&self, path: &Path) -> Option<String> {
        // Nobody knows whether the program reads the file, so there is nothing to say about one that cannot be.
        read_capped(path, TEXT_LIMIT).ok().flatten()
    }

    fn workspace_package(&self, root: &Path, name: &str) -> Option<PathBuf> {
        let direct = root.join(name);
        if !Path::new(name).is_absolute() && direct.join("package.json").is_file() {
            return Some(direct);
        }
        // Workspaces live one or two levels below the root (`packages/*`, `apps/*`); their globs are not needed for that.
        let below = |dir: &Path| {
            let entries = fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .take(WORKSPACE_LIMIT);
            entries.map(|entry| entry.path()).filter(|path| {
                path.file_name().is_some_and(|name| name != "node_modules") && path.is_dir()
            })
        };
        let named = |dir: &PathBuf| {
            self.package(dir)
                .is_some_and(|package| package.name.as_deref() == Some(name))
        };
        below(root).find(&named).or_else(|| {
            below(root)
                .flat_map(|dir| below(&dir).collect::<Vec<_>>())
                .find(&named)
        })
    }
}

/// The worktree that `dir` lies in: the nearest directory with a `.git`, else `dir` itself.
pub(crate) fn worktree(dir: &Path) -> PathBuf {
    dir.ancestors()
        .find(|ancestor| ancestor.join(".git").exists())
        .unwrap_or(dir)
        .to_owned()
}

/// The recipe files of a folder, in the order of their names, and what was left aside, a sentence each.
pub(crate) fn recipes(dir: &Path) -> (Vec<RecipeSource>, Vec<String>) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension() == Some(OsStr::new("toml")));
    paths.sort();
    let mut notes = Vec::new();
    if paths.len() > RECIPE_FILES {
        notes.push(format!(
            "`{}` has {} recipe files; only the first {RECIPE_FILES} are read",
            dir.display(),
            paths.len()
        ));
        paths.truncate(RECIPE_FILES);
    }
    let mut sources = Vec::new();
    for path in paths {
        match read_capped(&path, RECIPE_LIMIT) {
            Ok(Some(text)) => sources.push(RecipeSource { path, text }),
            Ok(None) => {}
            Err(problem) => notes.push(format!("`{}` is left aside: {problem}", path.display())),
        }
    }
    (sources, notes)
}

/// The file that is executed for this name, if there is one.
pub(crate) fn program(context: &Context, name: &OsStr) -> Option<PathBuf> {
    // Where there is no PATH, execvp(3) looks here.
    let path = context.var("PATH").unwrap_or(OsStr::new("/bin:/usr/bin"));
    let cwd = context.cwd.as_deref().unwrap_or(Path::new("/"));
    which::which_in(name, Some(path), cwd).ok()
}

/// The text of a regular file. `Ok(None)` when there is none.
pub(crate) fn read_capped(path: &Path, limit: u64) -> Result<Option<String>, String> {
    // O_NONBLOCK: opening a FIFO that somebody left there must not hang the run.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error.to_string()),
    };
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if found.len() > limit {
        return Err(format!("it is larger than {limit} bytes"));
    }
    read_text(file, limit).map(Some)
}

fn read_text(file: File, limit: u64) -> Result<String, String> {
    let mut text = String::new();
    file.take(limit)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_package_json_counts_as_absent_and_is_noted_once() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("package.json"), "{ nonsense").unwrap();
        let files = ProjectFiles::default();
        assert!(files.package(temp.path()).is_none());
        assert!(files.package(temp.path()).is_none());
        let notes = files.take_notes();
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(
            notes[0].contains("package.json` is left aside: "),
            "{notes:?}"
        );
    }

    #[test]
    fn a_fifo_or_a_huge_file_does_not_hold_up_a_run() {
        let temp = tempfile::tempdir().unwrap();
        let fifo = temp.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(
            read_capped(&fifo, 10),
            Err("it is not a regular file".to_owned())
        );
        let huge = temp.path().join("huge");
        fs::write(&huge, "x".repeat(11)).unwrap();
        assert_eq!(
            read_capped(&huge, 10),
            Err("it is larger than 10 bytes".to_owned())
        );
        assert_eq!(read_capped(&temp.path().join("none"), 10), Ok(None));
    }

    #[test]
    fn recipes_are_read_in_order_as_far_as_they_can_be() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        assert_eq!(recipes(&dir.join("none")).0.len(), 0);
        fs::write(dir.join("b.toml"), "b").unwrap();
        fs::write(dir.join("notes.md"), "").unwrap();
        fs::create_dir(dir.join("d.toml")).unwrap();
        nix::unistd::mkfifo(&dir.join("f.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(dir.join("elsewhere"), "a").unwrap();
        std::os::unix::fs::symlink(dir.join("elsewhere"), dir.join("a.toml")).unwrap();
        std::os::unix::fs::symlink(dir.join("nowhere"), dir.join("n.toml")).unwrap();
        fs::write(dir.join("u.toml"), [0xff]).unwrap();
        let (sources, notes) = recipes(dir);
        let texts: Vec<_> = sources.iter().map(|source| source.text.as_str()).collect();
        assert_eq!(texts, ["a", "b"]);
        let names = ["d.toml", "f.toml", "u.toml"];
        assert_eq!(notes.len(), names.len(), "{notes:?}");
        for (note, name) in notes.iter().zip(names) {
            assert!(note.contains(&format!("{name}` is left aside: ")), "{note}");
        }
    }

    #[test]
    fn of_too_many_recipes_the_first_are_read_and_it_is_said() {
        let temp = tempfile::tempdir().unwrap();
        for number in 0..=RECIPE_FILES {
            fs::write(temp.path().join(format!("{number:05}.toml")), "").unwrap();
        }
        let (sources, notes) = recipes(temp.path());
        assert_eq!(sources.len(), RECIPE_FILES);
        assert_eq!(notes.len(), 1);
        assert!(notes[0].ends_with("has 201 recipe files; only the first 200 are read"));
    }

    #[test]
    fn a_program_is_looked_for_as_it_will_be() {
        use std::os::unix::fs::PermissionsExt as _;
        let temp = tempfile::tempdir().unwrap();
        let bin = temp.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for (name, mode) in [("tool", 0o755), ("text", 0o644)] {
            fs::write(bin.join(name), "#!/bin/sh\n").unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let context = |path: Option<&Path>| Context {
            build: crate::BUILD,
            env: path
                .map(|path| ("PATH".into(), path.into()))
                .into_iter()
                .collect(),
            cwd: Some(temp.path().to_owned()),
            pid: 1,
            uid: 0,
            is_watched: false,
        };
        for (path, name, found) in [
            (Some(bin.as_path()), "tool", Some(bin.join("tool"))),
            (Some(&bin), "text", None),
            (Some(&bin), "", None),
            (Some(&bin), "sh", None),
            (None, "bin/tool", Some(bin.join("tool"))),
            (None, "./bin/none", None),
        ] {
            assert_eq!(program(&context(path), OsStr::new(name)), found, "{name}");
        }
        assert!(program(&context(None), OsStr::new("sh")).is_some());
    }

    #[test]
    fn workspace_packages_are_found_by_name_and_by_path() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("packages/web");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("package.json"), r#"{"name":"@acme/web"}"#).unwrap();
        let files = ProjectFiles::default();
        assert_eq!(
            files.workspace_package(temp.path(), "@acme/web"),
            Some(dir.clone())
        );
        assert_eq!(
            files.workspace_package(temp.path(), "packages/web"),
            Some(dir)
        );
        assert_eq!(files.workspace_package(temp.path(), "other"), None);
    }

    #[test]
    fn a_worktree_is_the_nearest_folder_with_git_in_it() {
        let temp = tempfile::tempdir().unwrap();
        let inner = temp.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        assert_eq!(worktree(&inner), inner);
        fs::write(temp.path().join("a/.git"), "gitdir: elsewhere").unwrap();
        assert_eq!(worktree(&inner), temp.path().join("a"));
    }
}
