//! The API's document: written from the wire types, complete, and true of a running daemon.

mod document;
mod endpoints;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use styxy_protocol::Port;
use styxy_protocol::api::ErrorResponse;

use crate::harness::{self, Daemon, fresh_port, home};
use document::{Answer, Endpoint, Example, document, shape};
use endpoints::{LOCK_ID, endpoints};

/// Set to anything: write the document instead of comparing it.
const WRITE: &str = "STYXY_WRITE_OPENAPI";

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn the_document_is_what_the_types_say() {
    let expected = document(&endpoints());
    let path = package().join("openapi.json");
    #[expect(
        clippy::disallowed_methods,
        reason = "a person tells this test to write the document"
    )]
    if std::env::var_os(WRITE).is_some() {
        fs::write(path, format!("{expected:#}\n")).unwrap();
        return;
    }
    let written: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(
        written == expected,
        "`daemon/openapi.json` is not what the types and `daemon/tests/it/openapi/endpoints.rs` say; \
         write it anew with\n  {WRITE}=1 cargo test -p styxy-daemon --test it the_document_is"
    );
}

#[test]
fn every_example_is_answered_as_documented() {
    let (_dir, paths) = home();
    let daemon = Daemon::start(&paths);
    let document: Value = daemon.get("/openapi.json").body;
    assert_eq!(document["openapi"], "3.1.0");
    let mut lease = None;
    for endpoint in endpoints() {
        assert!(!endpoint.examples.is_empty(), "{}", endpoint.name());
        for example in &endpoint.examples {
            let (path, body) = example.request(&endpoint, lease.as_deref());
            let journal = fs::read(paths.journal()).unwrap();
            let answer = daemon.send(endpoint.method, &path, body.as_ref());
            let what = format!(
                "{} {path}, `{}`: {}",
                endpoint.method, example.name, answer.text
            );
            assert_eq!(answer.status, example.status, "{what}");
            endpoint.check(&answer, &document, &what);
            if endpoint.method == "GET" {
                assert_eq!(
                    fs::read(paths.journal()).unwrap(),
                    journal,
                    "it writes: {what}"
                );
            }
            let id = answer.body["lock_id"].as_str();
            lease = id.filter(|id| !id.is_empty()).map(str::to_owned).or(lease);
        }
    }
    assert!(lease.is_some(), "no example made a lease");
}

#[test]
fn every_request_in_an_example_fits_its_schema() {
    let document = document(&endpoints());
    let allocate = &document["paths"]["/allocate"]["post"]["requestBody"]["content"];
    let allocate = &allocate["application/json"];
    let wrong = &allocate["examples"]["not_a_port"]["value"];
    schema::check(wrong, &allocate["schema"], &document).unwrap_err();
    for endpoint in endpoints() {
        let path = &document["paths"][endpoint.path][endpoint.method.to_lowercase()];
        let content = &path["requestBody"]["content"]["application/json"];
        for example in endpoint.examples.iter().filter(|it| it.body.is_some()) {
            let body = example.body.as_ref().unwrap();
            let fits = schema::check(body, &content["schema"], &document);
            if example.status == 200 {
                fits.unwrap_or_else(|error| panic!("{}: {error}", endpoint.name()));
            }
            assert_eq!(content["examples"][example.name]["value"], *body);
        }
    }
}

#[test]
fn every_route_is_documented_and_every_document_has_its_route() {
    let routes = routes();
    let documented: BTreeSet<String> = endpoints().iter().map(|it| nameless(&it.name())).collect();
    let undocumented: Vec<_> = routes.difference(&documented).collect();
    assert!(undocumented.is_empty(), "in no document: {undocumented:?}");
    let missing: Vec<_> = documented.difference(&routes).collect();
    assert!(missing.is_empty(), "in no route: {missing:?}");
}

impl Endpoint {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Holds an answer against the type and against the document.
    fn check(&self, answer: &harness::Answer, document: &Value, what: &str) {
        let operation = &document["paths"][self.path][self.method.to_lowercase()];
        if answer.status >= 400 {
            (shape::<ErrorResponse>().check)(&answer.body)
                .unwrap_or_else(|error| panic!("{error}: {what}"));
            let status = answer.status.to_string();
            assert!(
                operation["responses"][status].is_object(),
                "not documented: {what}"
            );
            return;
        }
        let content = &operation["responses"]["200"]["content"];
        match &self.answer {
            Answer::Json(shape) | Answer::JsonOrText(shape, _) if !answer.body.is_null() => {
                (shape.check)(&answer.body).unwrap_or_else(|error| panic!("{error}: {what}"));
            }
            Answer::JsonOrText(_, kind) => {
                assert!(
                    answer.head.contains(&format!("content-type: {kind}\r\n")),
                    "{what}"
                );
                assert!(content[kind].is_object(), "{what}");
                return;
            }
            Answer::Document => assert_eq!(answer.body, *document),
            Answer::Json(_) => panic!("no JSON: {what}"),
        }
        let schema = &content["application/json"]["schema"];
        schema::check(&answer.body, schema, document)
            .unwrap_or_else(|error| panic!("{error}: {what}"));
    }
}

impl Example {
    /// Path and body, with the lease and the port of this run in place of those in the document.
    fn request(&self, endpoint: &Endpoint, lease: Option<&str>) -> (String, Option<Value>) {
        let text = |value: &Value| match value {
            Value::String(text) if text == LOCK_ID => lease.expect("a lease").to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let mut path = endpoint.path.to_owned();
        let mut separator = '?';
        for (name, value) in &self.arguments {
            let value = text(value);
            let place = format!("{{{name}}}");
            if path.contains(&place) {
                path = path.replace(&place, &value);
            } else {
                write!(path, "{separator}{name}={value}").expect("a string takes everything");
                separator = '&';
            }
        }
        let mut body = self.body.clone();
        if let Some(body) = body.as_mut().filter(|_| path == "/listen") {
            body["port"] = Port::get(fresh_port()).into();
        }
        (path, body)
    }
}

/// Every route that the daemon's source makes, as method and path.
fn routes() -> BTreeSet<String> {
    let constants = constants();
    let mut routes = BTreeSet::new();
    for entry in fs::read_dir(package().join("src/server/routes")).expect("the sources") {
        let source = fs::read_to_string(entry.expect("a file").path()).expect("UTF-8");
        for call in source.split(".route(").skip(1) {
            let call = arguments(call);
            let (path, handlers) = call.split_once(',').expect("a path and a handler");
            let path = match path.trim().strip_prefix('"') {
                Some(literal) => literal.trim_end_matches('"').to_owned(),
                None => constants[path.trim().trim_start_matches("api::")].clone(),
            };
            let methods = ["get", "post", "put", "delete", "patch"];
            let methods = methods.into_iter().filter(|method| {
                // `put(` is a method, `output(` is a handler.
                let call = format!("{method}(");
                handlers.match_indices(&call).any(|(at, _)| {
                    let before = handlers[..at].chars().next_back();
                    before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
                })
            });
            routes.extend(
                methods.map(|method| nameless(&format!("{} {path}", method.to_uppercase()))),
            );
        }
    }
    assert!(routes.len() > 5, "{routes:?}");
    routes
}

/// The text up to the parenthesis that closes the call.
fn arguments(text: &str) -> &str {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if depth == 0 {
            return &text[..at];
        }
    }
    text
}

/// The paths that have names in the protocol.
fn constants() -> BTreeMap<String, String> {
    let source = package().join("protocol/src/api.rs");
    let source = fs::read_to_string(source).expect("the source");
    let lines = source.lines().filter_map(|line| {
        let (name, path) = line.strip_prefix("pub const ")?.split_once(": &str = \"")?;
        Some((name.to_owned(), path.strip_suffix("\";")?.to_owned()))
    });
    lines.collect()
}

/// A path whose parameters have no names.
fn nameless(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        if segment.starts_with('{') {
            "{}"
        } else {
            segment
        }
    });
    segments.collect::<Vec<_>>().join("/")
}
