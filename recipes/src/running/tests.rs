//! Command lines as `/proc` shows them.

use std::collections::BTreeMap;

use super::*;

/// A project with a package in each of these directories.
#[derive(Default)]
struct Packages(BTreeMap<&'static str, &'static str>);

impl Project for Packages {
    fn package(&self, dir: &Path) -> Option<Package> {
        Package::parse(self.0.get(dir.to_str()?)?).ok()
    }

    fn exists(&self, _: &Path) -> bool {
        false
    }

    fn text(&self, _: &Path) -> Option<String> {
        None
    }

    fn workspace_package(&self, _: &Path, _: &str) -> Option<PathBuf> {
        None
    }
}

/// Arguments are separated by one blank; `␣` is a blank inside an argument.
fn argv(line: &str) -> Vec<String> {
    let words = line.split(' ').filter(|word| !word.is_empty());
    words.map(|word| word.replace('␣', " ")).collect()
}

fn kind(line: &str) -> Option<String> {
    let found =
        service_type_of_process(&Catalog::builtin(), &argv(line), None, &Packages::default());
    found.map(|it| it.to_string())
}

/// Command lines and what they are.
const PROCESSES: &[(&str, &str)] = &[
    // Recipes, behind whatever runs them.
    ("node /p/node_modules/.bin/vite --port 3", "dev"),
    ("/usr/bin/node /p/node_modules/vite/bin/vite.js", "dev"),
    (
        "node /p/node_modules/.pnpm/vite@7.0.0/node_modules/vite/bin/vite.js --host",
        "dev",
    ),
    (
        "node --max-old-space-size=4096 /p/node_modules/.bin/vite",
        "dev",
    ),
    ("vite --port 80", "dev"),
    ("node /usr/local/bin/vite preview", "dev"),
    ("node /p/node_modules/next/dist/bin/next dev", "dev"),
    ("node /p/node_modules/.bin/next start -p 4000", "dev"),
    (
        "node /p/node_modules/.bin/storybook dev -p 6006",
        "storybook",
    ),
    ("/usr/bin/python3 -m http.server 8000", "api"),
    ("python3 /venv/bin/uvicorn app:app", "api"),
    (
        "/venv/bin/python3.12 -u /venv/bin/gunicorn -w 4 wsgi:app",
        "api",
    ),
    ("python -m uvicorn app:app --reload", "api"),
    ("python manage.py runserver 0.0.0.0:8000", "api"),
    ("/venv/bin/python /srv/site/manage.py runserver", "api"),
    ("python /venv/bin/flask --app app run", "api"),
    (
        "env NODE_ENV=development nohup node /p/node_modules/.bin/vite",
        "dev",
    ),
    ("sh -c cd␣web␣&&␣vite␣--port␣3000", "dev"),
    ("/bin/bash -c exec␣uvicorn␣app:app", "api"),
    // Titles.
    ("next-server␣(v16.0.1)", "dev"),
    ("gunicorn:␣master␣[app:app]", "api"),
    ("puma␣6.4.2␣(tcp://localhost:3000)␣[app]", "api"),
    (
        "nginx:␣master␣process␣/usr/sbin/nginx␣-g␣daemon␣off;",
        "proxy",
    ),
    ("postgres:␣16/main:␣checkpointer", "database"),
    ("redis-server␣*:6379", "infrastructure"),
    ("npm␣run␣dev", "dev"),
    ("npm␣run␣storybook", "storybook"),
    ("ng␣serve␣--port␣4200", "dev"),
    // Programs without a recipe.
    (
        "/usr/lib/postgresql/16/bin/postgres -D /var/lib/postgresql/16/main",
        "database",
    ),
    ("mongod --config /etc/mongod.conf", "database"),
    ("/usr/sbin/mysqld", "database"),
    ("node /p/node_modules/.bin/cypress open", "test"),
    (
        "node /p/node_modules/@playwright/test/cli.js show-report",
        "test",
    ),
    ("node /p/node_modules/jest/bin/jest.js --watch", "test"),
    ("node /p/node_modules/vitest/vitest.mjs --ui", "test"),
    ("node /p/node_modules/.bin/react-scripts start", "dev"),
    ("node /p/node_modules/react-scripts/scripts/start.js", "dev"),
    ("node /p/node_modules/.bin/webpack serve", "dev"),
    ("node /p/node_modules/.bin/webpack-dev-server", "dev"),
    ("node /p/node_modules/.bin/docusaurus start", "docs"),
    ("/venv/bin/python /venv/bin/mkdocs serve", "docs"),
    ("python -m mkdocs serve", "docs"),
    ("/home/me/go/bin/hugo server -D", "docs"),
    ("python3 /venv/bin/fastapi dev main.py", "api"),
    (
        "node /usr/lib/node_modules/firebase-tools/lib/bin/firebase.js emulators:start",
        "functions",
    ),
    (
        "node /usr/local/bin/firebase emulators:start --only functions",
        "functions",
    ),
    ("node /usr/local/bin/json-server db.json", "api"),
    ("ruby bin/rails s -p 3001", "api"),
    ("/usr/bin/ruby3.2 /usr/local/bin/rackup", "api"),
    ("php artisan serve", "api"),
    ("php -S localhost:8000 -t public", "api"),
    ("./prometheus --config.file=prometheus.yml", "monitoring"),
    (
        "/usr/sbin/grafana-server --homepath=/usr/share/grafana",
        "monitoring",
    ),
    (
        "java -Xmx1g -cp /opt/kafka/libs/a.jar kafka.Kafka config/server.properties",
        "messaging",
    ),
    (
        "java -jar /home/me/.cache/firebase/emulators/cloud-firestore-emulator-v1.19.8.jar --port 8080",
        "database",
    ),
    (
        "/usr/lib/erlang/erts-14/bin/beam.smp -W w -- -s rabbit boot",
        "messaging",
    ),
    ("/usr/local/bin/ollama serve", "ai"),
    (
        "/home/me/.local/bin/styxy daemon start --detach",
        "coordination",
    ),
];

#[test]
fn processes_are_known_as_they_really_look() {
    for (line, expected) in PROCESSES {
        assert_eq!(kind(line).as_deref(), Some(*expected), "{line}");
    }
}

#[test]
fn names_that_stand_elsewhere_say_nothing() {
    for line in [
        "",
        "node",
        "/home/next/app/server",
        "node /home/vite/next/server.js",
        "node --inspect=9229 app.js",
        "node -e require('vite')",
        "node /srv/jest/index.js --reporter storybook",
        "/usr/bin/python3 /home/flask/app.py",
        "python3 -c import␣uvicorn;uvicorn.run('a:b')",
        "python3 server.py uvicorn",
        "./vite",
        "/home/me/project/serve --port 8000",
        "bash /opt/storybook/run.sh",
        "bash -c $(storybook)",
        "vim next.config.js",
        "grep -r jest .",
        "cat uvicorn.log",
        "sshd:␣me@pts/0",
        "/opt/my␣vite/server",
        "/usr/bin/docker-proxy -proto tcp -host-port 5432 -container-port 5432",
        "java -cp /home/kafka/lib/x.jar com.example.Main kafka.Kafka",
        "java -jar /opt/app-1.2.jar",
        "ruby -e puts␣1 rails s",
        "ruby script.rb rails server",
        "php server.php",
        "npm␣install",
        "webpack --watch",
        "/usr/lib/systemd/systemd-resolved",
        "beam.smp -s myapp boot",
        "\u{1b}[2Jvite",
    ] {
        assert_eq!(kind(line), None, "{line}");
    }
}

#[test]
fn the_project_speaks_where_the_command_line_does_not() {
    let project = Packages(BTreeMap::from([(
        "/p",
        r#"{"dependencies": {"express": "5"}, "scripts": {"dev": "uvicorn app:app", "loop": "npm run loop"}}"#,
    )]));
    let kind = |line: &str, cwd: Option<&str>| {
        let found = service_type_of_process(
            &Catalog::builtin(),
            &argv(line),
            cwd.map(Path::new),
            &project,
        );
        found.map(|it| it.to_string())
    };
    assert_eq!(
        kind("node server.js", Some("/p/src")).as_deref(),
        Some("api")
    );
    assert_eq!(kind("node server.js", Some("/q")), None);
    assert_eq!(kind("node server.js", None), None);
    assert_eq!(kind("npm␣run␣dev", Some("/p")).as_deref(), Some("api"));
    assert_eq!(kind("npm␣run␣loop", Some("/p")), None);
}
