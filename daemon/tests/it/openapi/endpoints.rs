//! Every endpoint of the API: what it is asked, what it answers, and requests that show it, in an order in which
//! they can be made.

use serde_json::{Value, json};
use styxy_protocol::api::*;

use super::document::{Answer, Door, Endpoint, Example, Parameter, Shape, shape};

/// In the place of the lease that the examples are about.
pub(super) const LOCK_ID: &str = "6f1c3a52-8d0e-4b7a-9a55-2f3f0a1f6c11";
const OTHER_LOCK_ID: &str = "00000000-0000-4000-8000-000000000000";

fn endpoint(
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    answer: Answer,
) -> Endpoint {
    Endpoint {
        method,
        path,
        summary,
        door: Door::Both,
        parameters: Vec::new(),
        request: None,
        answer,
        refusals: Vec::new(),
        examples: Vec::new(),
    }
}

fn get(path: &'static str, summary: &'static str, answer: Shape) -> Endpoint {
    endpoint("GET", path, summary, Answer::Json(answer)).example("plain", &[], None, 200)
}

fn on_a_lease(
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    answer: Shape,
) -> Endpoint {
    endpoint(method, path, summary, Answer::Json(answer)).parameter(
        "lock_id",
        "path",
        &json!({ "type": "string" }),
        if method == "DELETE" {
            "The lease's identifier (a UUID), or its port."
        } else {
            "The lease's identifier (a UUID)."
        },
    )
}

impl Endpoint {
    fn door(mut self, door: Door) -> Self {
        self.door = door;
        self
    }

    fn body(mut self, request: Shape) -> Self {
        self.request = Some(request);
        self
    }

    fn parameter(
        mut self,
        name: &'static str,
        place: &'static str,
        schema: &Value,
        description: &'static str,
    ) -> Self {
        self.parameters.push(Parameter {
            name,
            place,
            schema: schema.clone(),
            description,
        });
        self
    }

    fn refuses(mut self, status: u16, meaning: &'static str) -> Self {
        self.refusals.push((status, meaning));
        self
    }

    fn example(
        mut self,
        name: &'static str,
        arguments: &[(&'static str, Value)],
        body: Option<Value>,
        status: u16,
    ) -> Self {
        self.examples.push(Example {
            name,
            arguments: arguments.to_vec(),
            body,
            status,
        });
        self
    }
}

/// All of them, in an order in which their examples can be run.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let mut all = about_the_daemon();
    all.extend(leases());
    all.extend(one_lease());
    all.extend(ports());
    all.extend(observation());
    all.extend(instances());
    all.extend(configuration());
    all.extend(control());
    all
}

fn about_the_daemon() -> Vec<Endpoint> {
    let text = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let format = json!({ "type": "string", "enum": ["json", "prometheus"], "default": "json" });
    vec![
        get(
            STATUS,
            "Whether the daemon runs. Without a token, texts that name files are left out.",
            shape::<StatusResponse>(),
        )
        .door(Door::Open),
        get(
            HEALTH,
            "Whether the daemon is well.",
            shape::<HealthResponse>(),
        ),
        endpoint(
            "GET",
            METRICS,
            "What was counted since the start of the daemon. Text if the query or the header \
             `Accept` asks for it.",
            Answer::JsonOrText(shape::<MetricsResponse>(), text),
        )
        .parameter(
            "format",
            "query",
            &format,
            "How to say it; anything else counts as `json`.",
        )
        .example("plain", &[], None, 200)
        .example("text", &[("format", json!("prometheus"))], None, 200),
        get(
            CIRCUIT_BREAKERS,
            "How often the kernel was asked for its list of sockets, and did not give it.",
            shape::<CircuitBreakersResponse>(),
        ),
        endpoint("GET", OPENAPI, "This document.", Answer::Document).example(
            "plain",
            &[],
            None,
            200,
        ),
    ]
}

fn leases() -> Vec<Endpoint> {
    vec![
        endpoint(
            "POST",
            ALLOCATE,
            "Lease a port.",
            Answer::Json(shape::<AllocateResponse>()),
        )
        .body(shape::<AllocateRequest>())
        .refuses(
            400,
            "Not of the contract, no such service type, or no port left.",
        )
        .refuses(409, "`strict`, and the port is taken.")
        .refuses(429, "The owner has as many leases as it may have.")
        .example(
            "dry_run",
            &[],
            Some(json!({ "service_type": "storybook", "dry_run": true })),
            200,
        )
        .example(
            "not_a_port",
            &[],
            Some(json!({ "service_type": "dev", "preferred_port": 70000 })),
            400,
        )
        .example(
            "service_with_its_port_of_last_time",
            &[],
            Some(json!({
                "service_type": "dev",
                "service_name": "web",
                "project_path": "/home/me/shop",
                "preferred_port": 5173,
                "instance_id": "agent-1",
                "ttl_seconds": 3600,
            })),
            200,
        )
        .example("smallest", &[], Some(json!({ "service_type": "api" })), 200)
        .example(
            "type_that_is_given_a_range",
            &[],
            Some(json!({ "service_type": "teapot" })),
            200,
        ),
        get(
            ALLOCATIONS,
            "Every lease, in ascending order of port.",
            shape::<AllocationsResponse>(),
        ),
    ]
}

fn one_lease() -> Vec<Endpoint> {
    let id = || [("lock_id", json!(LOCK_ID))];
    let no_id = || [("lock_id", json!(OTHER_LOCK_ID))];
    vec![
        on_a_lease(
            "PUT",
            "/allocate/{lock_id}/heartbeat",
            "Keep a lease alive that hangs on no process.",
            shape::<HeartbeatResponse>(),
        )
        .refuses(404, "No such lease.")
        .example("lease", &id(), None, 200)
        .example("no_lease", &no_id(), None, 404),
        on_a_lease(
            "POST",
            "/allocate/{lock_id}/listeners",
            "Tell that a process of the lease's tree has bound a port.",
            shape::<ReleaseResponse>(),
        )
        .body(shape::<ListenerReport>())
        .refuses(404, "No such lease.")
        .refuses(409, "The port belongs to another lease.")
        .refuses(429, "The lease has as many listeners as can be recorded.")
        .example(
            "lease",
            &id(),
            Some(json!({ "requested": 24678, "port": 20001 })),
            200,
        )
        .example(
            "no_lease",
            &no_id(),
            Some(json!({ "requested": 24678, "port": 20001 })),
            404,
        ),
        on_a_lease(
            "DELETE",
            "/allocate/{lock_id}",
            "Release a lease. It ends when nothing of it listens any more.",
            shape::<ReleaseResponse>(),
        )
        .refuses(400, "No such lease.")
        .example("lease", &id(), None, 200)
        .example("no_lease", &no_id(), None, 400),
        endpoint(
            "POST",
            CLEANUP,
            "End leases that nobody uses.",
            Answer::Json(shape::<CleanupResponse>()),
        )
        .body(shape::<CleanupRequest>())
        .example("plain", &[], None, 200)
        .example("force", &[], Some(json!({ "force": true })), 200),
    ]
}

fn ports() -> Vec<Endpoint> {
    let port = json!({ "type": "integer", "minimum": 1, "maximum": 65535 });
    let of_port = || [("port", json!(3000))];
    let no_port = || [("port", json!("abc"))];
    let number = |default: u16| json!({ "type": "integer", "default": default });
    vec![
        endpoint(
            "GET",
            "/check/{port}",
            "Whether a port is free, and who has it.",
            Answer::Json(shape::<CheckResponse>()),
        )
        .parameter("port", "path", &port, "The port.")
        .refuses(400, "Not a port.")
        .example("port", &of_port(), None, 200)
        .example("no_port", &no_port(), None, 400),
        endpoint(
            "GET",
            SCAN,
            "Ports that are leased or in use: at most 100, from the first one.",
            Answer::Json(shape::<ScanResponse>()),
        )
        .parameter(
            "start",
            "query",
            &number(3000),
            "The first port; what is no port counts as the default.",
        )
        .parameter(
            "end",
            "query",
            &number(9999),
            "The last port; what is no port counts as the default.",
        )
        .example("plain", &[], None, 200)
        .example(
            "range",
            &[("start", json!(8000)), ("end", json!(8010))],
            None,
            200,
        )
        .example(
            "nonsense",
            &[("start", json!("x")), ("end", json!(-1))],
            None,
            200,
        ),
    ]
}

fn observation() -> Vec<Endpoint> {
    let port = json!({ "type": "integer", "minimum": 1, "maximum": 65535 });
    let count = json!({ "type": "integer", "default": 5 });
    let of_port = || [("port", json!(3000))];
    let no_port = || [("port", json!("abc"))];
    vec![
        get(
            OBSERVE_ALL,
            "Every listening socket.",
            shape::<ObservationsResponse>(),
        ),
        endpoint(
            "GET",
            "/observe/{port}",
            "Who listens on a port.",
            Answer::Json(shape::<ObserveResponse>()),
        )
        .parameter("port", "path", &port, "The port.")
        .refuses(400, "Not a port.")
        .example("port", &of_port(), None, 200)
        .example("no_port", &no_port(), None, 400),
        get(
            OBSERVATION_STATS,
            "Listening ports, counted.",
            shape::<ObservationStatsResponse>(),
        ),
        endpoint(
            "GET",
            "/suggest/{service_type}",
            "Ports that a service of this type would get, one after the other.",
            Answer::Json(shape::<SuggestResponse>()),
        )
        .parameter(
            "service_type",
            "path",
            &json!({ "type": "string" }),
            "Kind of service; one that is not known counts as `dev`.",
        )
        .parameter(
            "count",
            "query",
            &count,
            "How many; 0 and what is no number count as 5, a negative number as none.",
        )
        .example("api", &[("service_type", json!("api"))], None, 200)
        .example(
            "three",
            &[("service_type", json!("dev")), ("count", json!(3))],
            None,
            200,
        ),
    ]
}

fn instances() -> Vec<Endpoint> {
    let id = |id: &str| [("instance_id", json!(id))];
    let path = json!({ "type": "string" });
    vec![
        endpoint("POST", REGISTER, "Tell that an instance (an agent, a session, an editor) is there.", Answer::Json(shape::<RegisterResponse>()))
            .body(shape::<RegisterRequest>())
            .refuses(400, "No name, or none that can be one.")
            .example("agent", &[], Some(json!({ "instance_id": "agent-1", "working_directory": "/home/me/shop", "metadata": { "session": 7 } })), 200)
            .example("no_name", &[], Some(json!({})), 400),
        endpoint("PUT", "/instance/{instance_id}/heartbeat", "Keep an instance alive.", Answer::Json(shape::<InstanceHeartbeatResponse>()))
            .parameter("instance_id", "path", &path, "The instance's name.")
            .refuses(404, "No such instance.")
            .example("instance", &id("agent-1"), None, 200)
            .example("no_instance", &id("nobody"), None, 404),
        endpoint("POST", REGISTER_PROCESS, "As `/instance/register`, for a process that may be known by its pid alone.", Answer::Json(shape::<RegisterResponse>()))
            .body(shape::<RegisterProcessRequest>())
            .refuses(400, "Neither a name nor a pid.")
            .example("name", &[], Some(json!({ "instance_id": "agent-2", "project_path": "/home/me/shop" })), 200)
            .example("neither", &[], Some(json!({})), 400),
        get(INSTANCES, "Every instance.", shape::<InstancesResponse>()),
    ]
}

fn configuration() -> Vec<Endpoint> {
    vec![
        get(
            CONFIG,
            "The configuration in force.",
            shape::<ConfigResponse>(),
        ),
        get(
            AUTO_ALLOCATION,
            "How types that are not known get a range, and the ranges that they got.",
            shape::<AutoAllocationResponse>(),
        ),
        endpoint(
            "PUT",
            AUTO_ALLOCATION,
            "Turn auto-allocation on or off.",
            Answer::Json(shape::<AutoAllocationResponse>()),
        )
        .body(shape::<AutoAllocationRequest>())
        .refuses(400, "Not of the contract.")
        .refuses(409, "A file says what it has to be, or is broken.")
        .example("off", &[], Some(json!({ "enabled": false })), 200)
        .example("on", &[], Some(json!({ "enabled": true })), 200)
        .example("nothing", &[], Some(json!({})), 400),
        endpoint(
            "DELETE",
            "/auto-allocation/{service_type}",
            "Take back the range that a type was given.",
            Answer::Json(shape::<UndoResponse>()),
        )
        .parameter(
            "service_type",
            "path",
            &json!({ "type": "string" }),
            "Kind of service.",
        )
        .refuses(
            400,
            "There is no such type, or its range was not made by auto-allocation.",
        )
        .refuses(
            409,
            "The type has leases, or a file says more about it, or is broken.",
        )
        .example("range", &[("service_type", json!("teapot"))], None, 200)
        .example("no_type", &[("service_type", json!("teapot"))], None, 400)
        .example("built_in", &[("service_type", json!("dev"))], None, 400),
        get(
            AUDIT,
            "The newest entries of the audit log.",
            shape::<AuditResponse>(),
        ),
    ]
}

fn control() -> Vec<Endpoint> {
    vec![
        endpoint(
            "POST",
            LISTEN,
            "Serve the API on this port of 127.0.0.1 too.",
            Answer::Json(shape::<ListenResponse>()),
        )
        .door(Door::Socket)
        .body(shape::<ListenRequest>())
        .refuses(
            409,
            "The port is taken, the API is served on another one, or the token cannot be used.",
        )
        .example("port", &[], Some(json!({ "port": 9876 })), 200),
        endpoint(
            "POST",
            TOKEN,
            "Make a new token; the old one is void.",
            Answer::Json(shape::<TokenResponse>()),
        )
        .door(Door::Socket)
        .example("plain", &[], None, 200),
    ]
}
