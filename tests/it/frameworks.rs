//! The servers that people run, each alone, twice, and with its port held by a foreign process.

use nix::sys::signal::Signal;
use styxy_tests::{Deadline, Fixture, Host, available};

use crate::server::{WATCHED, ready_port, server_tests};
use crate::{FIXTURES, sandbox};

server_tests!(
    http_server,
    Server {
        fixture: Fixture::PythonMake,
        argv: &["python3", "-m", "http.server", "8000"],
        port: 8000,
        text: "Makefile",
        says: "Serving HTTP on 0.0.0.0 port {} ",
    }
);

server_tests!(
    vite,
    Server {
        fixture: Fixture::Vite,
        argv: &["npm", "run", "dev"],
        port: 5173,
        text: "vite fixture",
        says: "Local:   http://localhost:{}/",
    }
);

server_tests!(
    express_reads_port,
    Server {
        fixture: Fixture::Express,
        argv: &["npm", "start"],
        port: 3000,
        text: "hello from express",
        says: "express listens on {}",
    }
);

server_tests!(
    node_with_a_hard_coded_port,
    Server {
        fixture: Fixture::NodeHardcoded,
        argv: &["npm", "run", "dev"],
        port: 4321,
        text: "hello from hard-coded node",
        says: "node listens on {}",
    }
);

server_tests!(
    python_with_a_hard_coded_port_behind_make,
    Server {
        fixture: Fixture::PythonMake,
        argv: &["make", "dev"],
        port: 5055,
        text: "hello from hard-coded python",
        says: "python listens on {}",
    }
);

server_tests!(
    uvicorn,
    Server {
        fixture: Fixture::PythonWeb,
        argv: &["uvicorn", "asgi:app"],
        port: 8000,
        text: "hello from uvicorn",
        says: "Uvicorn running on http://127.0.0.1:{} ",
    }
);

server_tests!(
    flask,
    Server {
        fixture: Fixture::PythonWeb,
        argv: &["flask", "run"],
        port: 5000,
        text: "hello from flask",
        says: "Running on http://127.0.0.1:{}",
    }
);

server_tests!(
    django,
    Server {
        fixture: Fixture::PythonWeb,
        argv: &["python", "manage.py", "runserver"],
        port: 8000,
        text: "hello from django",
        says: "Starting development server at http://127.0.0.1:{}/",
    }
);

server_tests!(
    next,
    Server {
        fixture: Fixture::Next,
        argv: &["npm", "run", "dev"],
        port: 3000,
        text: "hello from next",
        says: "- Local:         http://localhost:{}",
    }
);

/// Next locks its project, so a port of its own does not help the second one; it ends, and the first goes on.
#[test]
fn a_second_next_in_one_project_ends_as_it_does_without_styxy() {
    let sandbox = sandbox();
    let Some(dir) = available(FIXTURES.copy(Fixture::Next, &sandbox, "app")) else {
        return;
    };
    let next = ["npm", "run", "dev"];
    let call = sandbox.managed(next).env(WATCHED.0, WATCHED.1);
    let first = call.in_dir(&dir).spawn();
    let port = ready_port(&first);
    sandbox.page(port, "/", "hello from next", Deadline::long());

    let second = [sandbox.command(next), sandbox.managed(next)].map(|call| {
        let ended = call.in_dir(&dir).spawn().end(Deadline::long());
        let why = "Another next dev server is already running";
        assert!(
            ended.stdout.contains(why) || ended.stderr.contains(why),
            "{ended:#?}"
        );
        ended.status
    });
    assert_eq!(second[0], second[1], "bare, managed");
    assert!(!second[0].success());

    sandbox.page(port, "/", "hello from next", Deadline::short());
    first.signal_group(Signal::SIGINT);
    first.exit_status(Deadline::long());
    sandbox.wait_free(port, Deadline::short());
    sandbox.wait_quiet(Deadline::short());
}
