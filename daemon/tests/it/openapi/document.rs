//! From the table of endpoints and the wire types to an `OpenAPI` 3.1 document.

use std::collections::BTreeMap;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use styxy_protocol::api::ErrorResponse;

/// One method of one path.
pub(super) struct Endpoint {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    pub(super) door: Door,
    pub(super) parameters: Vec<Parameter>,
    pub(super) request: Option<Shape>,
    /// The answer with status 200.
    pub(super) answer: Answer,
    /// What the statuses mean that only this endpoint has.
    pub(super) refusals: Vec<(u16, &'static str)>,
    pub(super) examples: Vec<Example>,
}

/// Who may ask.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// Everybody at the socket, and who has the token at the port.
    Both,
    /// The same, and at the port also who has no token.
    Open,
    /// Clients at the socket.
    Socket,
}

pub(super) enum Answer {
    Json(Shape),
    /// The first, or text of this type.
    JsonOrText(Shape, &'static str),
    /// This document.
    Document,
}

/// A wire type.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    schema: fn(&mut SchemaGenerator) -> Schema,
    /// Whether a value is one of the type and holds nothing that the type does not know.
    pub(super) check: fn(&Value) -> Result<(), String>,
}

pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) place: &'static str,
    pub(super) schema: Value,
    pub(super) description: &'static str,
}

/// A request, and how it is answered.
pub(super) struct Example {
    pub(super) name: &'static str,
    pub(super) arguments: Vec<(&'static str, Value)>,
    pub(super) body: Option<Value>,
    pub(super) status: u16,
}

pub(super) fn shape<T: JsonSchema + Serialize + DeserializeOwned>() -> Shape {
    Shape {
        schema: |generator| generator.subschema_for::<T>(),
        check: |value| {
            let read: T = serde_json::from_value(value.clone()).map_err(|it| it.to_string())?;
            let written = serde_json::to_value(read).map_err(|it| it.to_string())?;
            if written == *value {
                Ok(())
            } else {
                Err(format!("{value} reads as {written}"))
            }
        },
    }
}

/// The whole document.
pub(super) fn document(endpoints: &[Endpoint]) -> Value {
    let settings = || {
        SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
    };
    let mut read = settings().for_deserialize().into_generator();
    let mut written = settings().for_serialize().into_generator();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for endpoint in endpoints {
        let operation = endpoint.operation(&mut read, &mut written);
        let methods = paths.entry(endpoint.path).or_default();
        methods.insert(endpoint.method.to_lowercase(), operation);
    }
    let error = (shape::<ErrorResponse>().schema)(&mut written);
    let mut schemas = written.take_definitions(true);
    for (name, schema) in read.take_definitions(true) {
        let there = schemas.get(&name);
        assert!(
            there.is_none_or(|there| *there == schema),
            "`{name}` is read otherwise than it is written: give the two different types"
        );
        schemas.insert(name, schema);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "styxy",
            "version": styxy_protocol::api::PROTOCOL.to_string(),
            "description": "The port authority. Served on a Unix socket to its user, and on a port of 127.0.0.1, while there is one, to clients that show the token in the file `auth.token` of styxy's home directory. At the port, requests that come from a web page (`Origin`, `Referer`, `Sec-Fetch-*`, another `Host`) are refused. A head and a body have at most 16384 bytes each; a request takes at most 10 seconds. Fields that a request has beyond those listed are ignored.",
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{
            "url": "http://127.0.0.1:{port}",
            "variables": { "port": { "default": "9876" } },
        }],
        "security": [{ "bearer": [] }, { "key": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "key": { "type": "apiKey", "in": "header", "name": "X-API-Key" },
            },
            "responses": {
                "Error": {
                    "description": "400 not of the contract, 401 no token or a wrong one, 403 not for this client, 404 no such thing, 405 no such method, 408 too slow, 409 taken, 413 too large, 415 not JSON, 429 more than one may have, 500 a fault of the daemon",
                    "content": { "application/json": { "schema": error } },
                },
            },
            "schemas": schemas,
        },
    })
}

impl Endpoint {
    fn operation(&self, read: &mut SchemaGenerator, written: &mut SchemaGenerator) -> Value {
        let mut operation = json!({ "summary": self.summary });
        match self.door {
            Door::Both => {}
            Door::Open => operation["security"] = json!([{}, { "bearer": [] }, { "key": [] }]),
            Door::Socket => {
                operation["security"] = json!([]);
                operation["description"] = json!("Over the Unix socket alone.");
            }
        }
        if !self.parameters.is_empty() {
            let parameters = self.parameters.iter().map(|it| self.described(it));
            operation["parameters"] = parameters.collect();
        }
        if let Some(request) = self.request {
            let with_body = self.examples.iter().filter_map(|example| {
                let value = json!({ "value": example.body.as_ref()? });
                Some((example.name.to_owned(), value))
            });
            let is_required = !self
                .examples
                .iter()
                .any(|it| it.body.is_none() && it.status == 200);
            operation["requestBody"] = json!({
                "required": is_required,
                "content": { "application/json": {
                    "schema": (request.schema)(read),
                    "examples": Value::Object(with_body.collect()),
                } },
            });
        }
        let mut responses = Map::new();
        responses.insert("200".to_owned(), self.answer(written));
        for (status, meaning) in &self.refusals {
            let error = (shape::<ErrorResponse>().schema)(written);
            let content = json!({ "application/json": { "schema": error } });
            let response = json!({ "description": meaning, "content": content });
            responses.insert(status.to_string(), response);
        }
        responses.insert(
            "default".to_owned(),
            json!({ "$ref": "#/components/responses/Error" }),
        );
        operation["responses"] = Value::Object(responses);
        operation
    }

    fn described(&self, parameter: &Parameter) -> Value {
        let examples = self.examples.iter().filter_map(|example| {
            let (_, value) = example
                .arguments
                .iter()
                .find(|(name, _)| *name == parameter.name)?;
            Some((example.name.to_owned(), json!({ "value": value })))
        });
        json!({
            "name": parameter.name,
            "in": parameter.place,
            "required": parameter.place == "path",
            "description": parameter.description,
            "schema": parameter.schema,
            "examples": Value::Object(examples.collect()),
        })
    }

    fn answer(&self, written: &mut SchemaGenerator) -> Value {
        let json = |schema: Value| json!({ "application/json": { "schema": schema } });
        let content = match &self.answer {
            Answer::Json(shape) => json((shape.schema)(written).to_value()),
            Answer::JsonOrText(shape, kind) => {
                let mut content = json((shape.schema)(written).to_value());
                content[kind] = json!({ "schema": { "type": "string" } });
                content
            }
            Answer::Document => json(json!({ "type": "object" })),
        };
        json!({ "description": "Done.", "content": content })
    }
}
