//! Who is known, for how long, and how much of it.

use serde_json::json;

use super::*;

const TTL: Duration = Duration::from_mins(5);

fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

fn seen(at: u64) -> Seen {
    Seen {
        at: Duration::from_secs(at),
        wall: at,
    }
}

fn instance(name: &str, at: u64) -> Instance {
    Instance {
        id: id(name),
        working_directory: None,
        pid: None,
        process: None,
        metadata: Metadata::new(),
        boot: "boot".to_owned(),
        registered_at: at,
        seen: seen(at),
    }
}

fn register(instances: &mut Instances, instance: Instance) {
    let record = instances.register(instance).unwrap();
    instances.apply(&record);
}

fn expire(instances: &mut Instances, at: u64, is_alive: bool) {
    for record in instances.expire(seen(at), TTL, &|_| is_alive) {
        instances.apply(&record);
    }
}

#[test]
fn names_are_bounded() {
    assert!("Agent_1-x".parse::<InstanceId>().is_ok());
    assert!("x".repeat(100).parse::<InstanceId>().is_ok());
    for text in ["", "inst 1!", "a/b", "ä", "a\n", &"x".repeat(101)] {
        let error = text.parse::<InstanceId>().unwrap_err().to_string();
        assert!(error.contains("1 to 100") && error.len() < 300, "{error}");
    }
}

#[test]
fn a_silent_instance_is_forgotten_and_one_that_is_heard_of_is_not() {
    let mut instances = Instances::default();
    assert_eq!(instances.next_deadline(TTL), None);
    register(&mut instances, instance("a", 0));
    register(&mut instances, instance("b", 0));
    assert_eq!(instances.next_deadline(TTL), Some(TTL));
    let record = instances.heartbeat(&id("a"), seen(200)).unwrap();
    instances.apply(&record);
    expire(&mut instances, 299, false);
    assert_eq!(instances.len(), 2);
    expire(&mut instances, 300, false);
    assert_eq!(instances.len(), 1);
    assert_eq!(instances.heartbeat(&id("b"), seen(300)), None);
    expire(&mut instances, 500, false);
    assert_eq!(instances.next_deadline(TTL), None);
}

#[test]
fn an_instance_with_a_process_lives_as_long_as_that() {
    let process = ProcessIdentity {
        pid: 7,
        start_time: 1,
    };
    let mut instances = Instances::default();
    register(
        &mut instances,
        Instance {
            process: Some(process),
            ..instance("a", 0)
        },
    );
    expire(&mut instances, 300, true);
    assert_eq!(instances.next_deadline(TTL), Some(Duration::from_mins(10)));
    expire(&mut instances, 600, false);
    assert_eq!(instances.len(), 0);
}

#[test]
fn there_is_a_limit_that_those_who_are_there_do_not_meet() {
    let mut instances = Instances::default();
    for number in 0..MAX_INSTANCES {
        register(&mut instances, instance(&format!("i{number}"), 0));
    }
    let refused = instances.register(instance("more", 0));
    assert_eq!(refused, Err(RegisterRefusal::Full));
    register(&mut instances, instance("i7", 9));
    assert_eq!(instances.len(), MAX_INSTANCES);
    assert_eq!(instances.by_age.len(), MAX_INSTANCES);
}

#[test]
fn metadata_are_bounded_in_length_and_depth() {
    let with = |value: Value| Instance {
        metadata: Metadata::from([("key".to_owned(), value)]),
        ..instance("a", 0)
    };
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    let instances = Instances::default();
    assert!(instances.register(with(nested(MAX_DEPTH - 1))).is_ok());
    let refused = instances.register(with(nested(MAX_DEPTH)));
    assert_eq!(refused, Err(RegisterRefusal::DeepMetadata));
    let overhead = r#"{"key":""}"#.len();
    assert!(
        instances
            .register(with(json!("x".repeat(MAX_METADATA - overhead))))
            .is_ok()
    );
    let refused = instances.register(with(json!("x".repeat(MAX_METADATA - overhead + 1))));
    assert_eq!(
        refused,
        Err(RegisterRefusal::LongMetadata(MAX_METADATA + 1))
    );
}

#[test]
fn a_snapshot_leads_to_the_same_state_and_another_boot_to_none() {
    let mut instances = Instances::default();
    register(&mut instances, instance("a", 1));
    register(&mut instances, instance("b", 2));
    let record = instances.heartbeat(&id("a"), seen(9)).unwrap();
    instances.apply(&record);
    let mut again = Instances::default();
    for record in instances.snapshot() {
        again.apply(&record);
    }
    assert!(again.iter().eq(instances.iter()));
    assert_eq!(again.by_age, instances.by_age);
    assert_eq!(again.recover("boot"), []);
    for record in again.recover("next") {
        again.apply(&record);
    }
    assert_eq!((again.len(), again.by_age.len()), (0, 0));
}
