//! The servers that people run, each alone, twice, and with its port held by a foreign process.

use styxy_tests::{Fixture, Host};

use crate::server::server_tests;

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
