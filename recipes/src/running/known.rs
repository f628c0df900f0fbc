//! Programs whose kind is plain when they listen. A tool that takes its port from styxy has a recipe instead.

use styxy_protocol::ServiceType;

use super::is_in_bin;
use crate::invocation::{Word, program_name};

/// Programs of one kind.
struct Known {
    service_type: &'static str,
    programs: &'static [&'static str],
    /// Of which one must be among the arguments; none means that any arguments will do.
    words: &'static [&'static str],
}

const fn any(service_type: &'static str, programs: &'static [&'static str]) -> Known {
    with(service_type, programs, &[])
}

const fn with(
    service_type: &'static str,
    programs: &'static [&'static str],
    words: &'static [&'static str],
) -> Known {
    Known {
        service_type,
        programs,
        words,
    }
}

const PACKAGE_MANAGERS: &[&str] = &["npm", "pnpm", "yarn", "bun"];

/// Tools by the name under which they are installed. A file of the same name anywhere else is somebody's own.
const TOOLS: &[Known] = &[
    with("storybook", PACKAGE_MANAGERS, &["storybook"]),
    with("test", PACKAGE_MANAGERS, &["test", "e2e", "integration"]),
    with("docs", PACKAGE_MANAGERS, &["docs"]),
    with("dev", PACKAGE_MANAGERS, &["dev", "start"]),
    any(
        "dev",
        &[
            "next-server",
            "react-scripts",
            "craco",
            "webpack-dev-server",
            "parcel",
            "metro",
            "elm-live",
            "react-router-serve",
            "remix-serve",
        ],
    ),
    with("dev", &["webpack", "webpack-cli"], &["serve", "server"]),
    with("dev", &["expo", "react-native"], &["start"]),
    with("dev", &["nuxt", "nuxi"], &["dev", "preview", "start"]),
    with("dev", &["astro", "rsbuild", "rspack"], &["dev", "preview"]),
    with(
        "dev",
        &["remix", "react-router", "vinxi"],
        &["dev", "vite:dev"],
    ),
    with("dev", &["ng", "@angular/cli"], &["serve", "s"]),
    with(
        "dev",
        &["ember", "ember-cli", "vue-cli-service"],
        &["serve", "s"],
    ),
    with("dev", &["gatsby"], &["develop", "serve"]),
    with("dev", &["elm"], &["reactor"]),
    any(
        "test",
        &[
            "cypress",
            "Cypress",
            "playwright",
            "@playwright/test",
            "playwright-core",
            "jest",
            "vitest",
            "karma",
            "puppeteer",
            "wtr",
            "web-test-runner",
            "pytest",
        ],
    ),
    any(
        "storybook",
        &[
            "storybook",
            "sb",
            "start-storybook",
            "styleguidist",
            "react-styleguidist",
            "ladle",
            "@ladle/react",
            "histoire",
        ],
    ),
    any(
        "api",
        &[
            "uvicorn",
            "hypercorn",
            "daphne",
            "waitress-serve",
            "granian",
            "sanic",
            "json-server",
            "http-server",
            "serve",
            "live-server",
            "puma",
            "unicorn",
            "rackup",
            "thin",
            "falcon",
        ],
    ),
    with("api", &["fastapi"], &["dev", "run"]),
    with("api", &["flask"], &["run"]),
    with("api", &["django-admin"], &["runserver"]),
    with("api", &["nest", "@nestjs/cli"], &["start"]),
    with("api", &["rails"], &["server", "s"]),
    with("api", &["artisan"], &["serve"]),
    with("api", &["php"], &["-S"]),
    with("api", &["deno"], &["serve"]),
    with(
        "api",
        &["strapi", "@strapi/strapi"],
        &["develop", "dev", "start"],
    ),
    any(
        "docs",
        &[
            "docusaurus",
            "@docusaurus/core",
            "mkdocs",
            "sphinx-autobuild",
            "vuepress",
            "vitepress",
            "gitbook",
            "jekyll",
            "hugo",
            "mdbook",
            "hexo",
            "eleventy",
            "@11ty/eleventy",
            "zola",
            "pdoc",
        ],
    ),
    with(
        "functions",
        &["firebase", "firebase-tools"],
        &["emulators:start", "emulators:exec", "serve"],
    ),
    with(
        "functions",
        &["vercel", "netlify", "netlify-cli", "ntl", "wrangler"],
        &["dev"],
    ),
    with("functions", &["sam"], &["local"]),
    with("functions", &["serverless", "sls"], &["offline"]),
    with("functions", &["func"], &["start"]),
    any("functions", &["workerd", "functions-framework"]),
    with("ui", &["prisma", "drizzle-kit"], &["studio"]),
    any("ui", &["adminer", "pgadmin4", "mongo-express"]),
    any("proxy", &["browser-sync", "lt", "localtunnel", "mitmweb"]),
    any("build", &["rollup", "esbuild"]),
    with("ai", &["chroma"], &["run"]),
    any("ai", &["vllm", "mlflow"]),
    with("coordination", &["styxy", "styx"], &["daemon"]),
];

/// Servers whose names are nobody else's, wherever they lie.
const SERVERS: &[Known] = &[
    any(
        "database",
        &[
            "postgres",
            "postmaster",
            "mongod",
            "mongos",
            "mysqld",
            "mariadbd",
            "redis-server",
            "valkey-server",
            "couchdb",
            "cockroach",
            "influxd",
            "clickhouse-server",
            "cloud-firestore-emulator",
            "firebase-database-emulator",
        ],
    ),
    any(
        "infrastructure",
        &["memcached", "etcd", "consul", "vault", "minio"],
    ),
    any(
        "monitoring",
        &[
            "prometheus",
            "alertmanager",
            "node_exporter",
            "pushgateway",
            "grafana",
            "grafana-server",
            "jaeger",
            "jaeger-all-in-one",
            "loki",
            "otelcol",
        ],
    ),
    any(
        "messaging",
        &[
            "nats-server",
            "mosquitto",
            "rabbitmq-server",
            "redpanda",
            "kafka.Kafka",
        ],
    ),
    with("messaging", &["beam.smp"], &["rabbit"]),
    any("auth", &["keycloak", "oauth2-proxy"]),
    any(
        "proxy",
        &[
            "nginx",
            "caddy",
            "traefik",
            "haproxy",
            "envoy",
            "ngrok",
            "cloudflared",
            "mitmproxy",
            "mitmdump",
        ],
    ),
    any("ai", &["ollama", "llama-server"]),
    any(
        "coordination",
        &["org.apache.zookeeper.server.quorum.QuorumPeerMain"],
    ),
];

/// The kind of the program that stands first.
pub(super) fn service_type(words: &[Word]) -> Option<ServiceType> {
    let (first, args) = words.split_first()?;
    let (text, program) = (first.as_str(), program_name(first.as_str()));
    let is_installed = program == text || is_in_bin(text);
    let tools = if is_installed { TOOLS } else { &[] };
    let fits = |known: &&Known| {
        let has_word = |word: &&str| args.iter().any(|given| given.as_str() == *word);
        known.programs.contains(&program)
            && (known.words.is_empty() || known.words.iter().any(has_word))
    };
    let known = tools.iter().chain(SERVERS).find(fits)?;
    known.service_type.parse().ok()
}

#[cfg(test)]
mod tests {
    use styxy_protocol::BUILTIN_SERVICE_TYPES;

    use super::*;

    #[test]
    fn every_kind_is_a_service_type_and_no_row_is_hidden_by_another() {
        let mut seen = Vec::new();
        for known in TOOLS.iter().chain(SERVERS) {
            let is_type = |spec: &styxy_protocol::ServiceTypeSpec| spec.name == known.service_type;
            assert!(
                BUILTIN_SERVICE_TYPES.iter().any(is_type),
                "{}",
                known.service_type
            );
            for program in known.programs {
                let words: &[&str] = if known.words.is_empty() {
                    &[""]
                } else {
                    known.words
                };
                for word in words {
                    assert!(!seen.contains(&(program, "")), "{program}");
                    assert!(!seen.contains(&(program, word)), "{program} {word}");
                    seen.push((program, word));
                }
            }
        }
    }
}
