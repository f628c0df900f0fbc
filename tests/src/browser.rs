//! A real browser: Chromium without a window, with a new profile for each page that it loads.

use std::ffi::OsStr;
use std::path::PathBuf;

use crate::{Deadline, Missing, Sandbox, eventually, fixture};

/// Chromium, wherever it is installed.
#[derive(Clone, Debug)]
pub struct Browser(PathBuf);

impl Browser {
    /// The first Chromium in `PATH`.
    pub fn find() -> Result<Self, Missing> {
        ["chromium", "chromium-browser", "google-chrome"]
            .into_iter()
            .find_map(|name| fixture::tool(name).ok())
            .map(Self)
            .ok_or_else(|| Missing::new("no Chromium in PATH"))
    }

    /// Loads the page and runs its scripts, again and again if need be, until its text contains `needle`.
    ///
    /// # Panics
    /// When the deadline passes before, with the page as it was last.
    #[track_caller]
    pub fn sees(&self, sandbox: &Sandbox, url: &str, needle: &str, deadline: Deadline) {
        let mut last = String::new();
        let seen = eventually(deadline, || {
            last = self.load(sandbox, url, deadline);
            last.contains(needle).then_some(())
        });
        assert!(seen.is_some(), "no {needle:?} at {url}: {last}");
    }

    /// The document at `url` after its scripts have run.
    fn load(&self, sandbox: &Sandbox, url: &str, deadline: Deadline) -> String {
        let profile = tempfile::tempdir_in(sandbox.home()).expect("a profile directory");
        let data_dir = format!("--user-data-dir={}", profile.path().display());
        let options = [
            "--headless",
            // It runs as root in CI, and sees pages of our own only.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            // The page's own clock: it stands still while requests are under way.
            "--virtual-time-budget=20000",
            "--dump-dom",
        ];
        let mut argv = vec![self.0.as_os_str(), data_dir.as_ref()];
        argv.extend(options.iter().map(AsRef::<OsStr>::as_ref));
        argv.push(url.as_ref());
        let browser = sandbox.command(argv).spawn();
        browser.end(deadline).stdout
    }
}
