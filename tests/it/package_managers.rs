//! Package managers in front of Vite: what they hand on to the script, and which package they run it in.

use styxy_tests::{Fixture, Host};

use crate::server::{Server, wrapper_tests};

/// Vite's line in its own output.
const SAYS: &str = "Local:   http://localhost:{}/";

/// The package at the root, started so.
const fn root(argv: &'static [&'static str]) -> Server {
    Server {
        fixture: Fixture::PackageManagers,
        argv,
        port: 5173,
        text: "the root package",
        says: SAYS,
    }
}

/// Package `web` of the workspace, started so.
const fn web(argv: &'static [&'static str]) -> Server {
    Server {
        text: "the web package",
        ..root(argv)
    }
}

wrapper_tests!(npx, root(&["npx", "vite"]));
wrapper_tests!(env, root(&["env", "-u", "FOO", "BAR=1", "npx", "vite"]));
wrapper_tests!(npm_workspace, web(&["npm", "run", "dev", "-w", "web"]));
wrapper_tests!(pnpm_run, root(&["pnpm", "run", "dev"]));
wrapper_tests!(pnpm_script, root(&["pnpm", "dev"]));
wrapper_tests!(pnpm_exec, root(&["pnpm", "exec", "vite"]));
wrapper_tests!(pnpm_filter, web(&["pnpm", "--filter", "web", "dev"]));
wrapper_tests!(yarn_1, root(&["yarn", "dev"]));
wrapper_tests!(yarn_1_workspace, web(&["yarn", "workspace", "web", "dev"]));
wrapper_tests!(bun_run, root(&["bun", "run", "dev"]));
wrapper_tests!(bunx, root(&["bunx", "vite"]));

wrapper_tests!(
    yarn_4,
    Server {
        fixture: Fixture::YarnBerry,
        argv: &["yarn", "--cwd", "app", "dev"],
        port: 5173,
        text: "the app of yarn 4",
        says: SAYS,
    }
);
