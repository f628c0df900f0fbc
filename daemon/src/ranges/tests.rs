//! The arithmetic of ranges on the tables that there are, and on any others.

use proptest::prelude::*;
use styxy_protocol::Port;

use super::*;
use crate::service_types::Definition;

const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn add(settings: &mut Settings, name: &str, range: RangeInclusive<u16>) {
    let any = ServiceTypes::builtin().iter().next().unwrap().clone();
    settings.types.insert(Definition {
        name: name.parse().unwrap(),
        range,
        ..any
    });
}

/// What the type gets; afterwards it is known.
fn get(settings: &mut Settings, name: &str) -> Result<(u16, u16), NoRange> {
    let planned = plan(&name.parse().unwrap(), settings, &EPHEMERAL)?;
    add(settings, name, planned.range.clone());
    Ok(planned.range.into_inner())
}

fn placed(placement: PlacementRule) -> Settings {
    let mut settings = Settings::default();
    settings.auto_allocation.placement = placement;
    settings
}

#[test]
fn after_puts_one_behind_the_other_with_gaps() {
    let mut settings = placed(PlacementRule::After);
    assert_eq!(get(&mut settings, "a"), Ok((11_510, 11_519)));
    assert_eq!(get(&mut settings, "b"), Ok((11_530, 11_539)));
    assert_eq!(get(&mut settings, "monitoring-x"), Ok((11_550, 11_569)));
    assert_eq!(get(&mut settings, "database-x"), Ok((11_580, 11_584)));
    settings.auto_allocation.preserve_gaps = false;
    assert_eq!(get(&mut settings, "c"), Ok((11_585, 11_594)));
}

#[test]
fn before_puts_one_in_front_of_the_other_if_the_lowest_port_allows_it() {
    let mut settings = placed(PlacementRule::Before);
    assert_eq!(
        get(&mut settings, "a").unwrap_err().to_string(),
        "a range before the lowest one would begin at 2980, below min_port 10000"
    );
    settings.auto_allocation.min_port = port(2960);
    assert_eq!(get(&mut settings, "a"), Ok((2980, 2989)));
    assert_eq!(get(&mut settings, "b"), Ok((2960, 2969)));
    assert!(get(&mut settings, "c").is_err());
}

#[test]
fn smart_takes_the_first_gap_then_the_family_then_the_end() {
    let mut settings = placed(PlacementRule::Smart);
    assert_eq!(get(&mut settings, "a"), Ok((3210, 3219)));
    assert_eq!(get(&mut settings, "b"), Ok((3230, 3239)));
    // Nothing but one gap, behind the family.
    settings.types = ServiceTypes::default();
    settings.auto_allocation.gap_size = 0;
    add(&mut settings, "web", 10_000..=10_099);
    add(&mut settings, "web-a", 10_100..=10_199);
    add(&mut settings, "api", 10_200..=20_000);
    assert_eq!(get(&mut settings, "web-b"), Ok((20_001, 20_010)));
    settings.auto_allocation.default_chunk_size = 1000;
    assert_eq!(get(&mut settings, "my-api"), Ok((20_011, 21_010)));
}

#[test]
fn a_rule_says_how_many_where_and_from_where() {
    let mut settings = Settings::default();
    let rule = AutoAllocationRule {
        pattern: "m-*".to_owned(),
        chunk_size: Some(3),
        placement: Some(PlacementRule::Smart),
        preferred_range_start: None,
    };
    settings.rules.insert(0, rule.clone());
    assert_eq!(get(&mut settings, "m-1"), Ok((3210, 3212)));
    settings.rules[0].preferred_range_start = Some(port(20_000));
    assert_eq!(get(&mut settings, "m-2"), Ok((20_000, 20_002)));
    assert_eq!(get(&mut settings, "m-3"), Ok((20_013, 20_015)));
    // What begins where nothing may begin goes by the placement.
    settings.rules[0].preferred_range_start = Some(port(49_151));
    assert_eq!(get(&mut settings, "m-4"), Ok((3223, 3225)));
    settings.rules[0].chunk_size = Some(1);
    assert_eq!(get(&mut settings, "m-5"), Ok((3236, 3236)));
}

#[test]
fn ephemeral_ports_are_stepped_over_and_a_full_machine_is_told() {
    let mut settings = Settings::default();
    add(&mut settings, "high", 32_700..=32_750);
    assert_eq!(
        get(&mut settings, "a"),
        Ok((10_000, 10_009)),
        "no room behind"
    );
    settings.auto_allocation.max_port = port(65_535);
    assert_eq!(get(&mut settings, "b"), Ok((61_000, 61_009)));
    settings.auto_allocation.min_port = port(32_768);
    settings.auto_allocation.max_port = port(49_151);
    assert_eq!(
        get(&mut settings, "c").unwrap_err().to_string(),
        "no room for 10 ports between 32768 and 49151 with 10 free on both sides \
         (the kernel uses 32768-60999 for outgoing connections)"
    );
    settings.auto_allocation.enabled = false;
    assert_eq!(get(&mut settings, "c"), Err(NoRange::Disabled));
}

#[test]
fn patterns_are_anchored_and_only_the_star_is_special() {
    for (pattern, text, expected) in [
        ("a-*", "a-b", true),
        ("a-*", "a-", true),
        ("a-*", "xa-b", false),
        ("*-a", "b-a", true),
        ("*-a", "b-a-c", false),
        ("*", "", true),
        ("*", "anything", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c-b", false),
        ("aa*aa", "aaa", false),
        ("a**b", "ab", true),
        ("a.c", "abc", false),
        ("a", "ab", false),
        ("", "", true),
        ("", "a", false),
        ("(a|b)+", "a", false),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
}

fn settings() -> impl Strategy<Value = Settings> {
    let placement = prop_oneof![
        Just(PlacementRule::After),
        Just(PlacementRule::Before),
        Just(PlacementRule::Smart)
    ];
    let bounds = (1024_u16..=65_534, 1024_u16..=65_534);
    let taken = prop::collection::vec((1024_u16..=65_000, 0_u16..=500), 0..12);
    let start = prop::option::of(1024_u16..=65_535);
    (
        (placement, 1_u16..=1000, 0_u16..=1000, any::<bool>(), bounds),
        (taken, 1_u16..=1000, start),
    )
        .prop_map(
            |((placement, chunk, gap, preserve, bounds), (taken, rule_chunk, start))| {
                let mut settings = placed(placement);
                let general = &mut settings.auto_allocation;
                general.default_chunk_size = chunk;
                general.gap_size = gap;
                general.preserve_gaps = preserve;
                general.min_port = port(bounds.0.min(bounds.1));
                general.max_port = port(bounds.0.max(bounds.1) + 1);
                settings.rules[0].pattern = "rule-*".to_owned();
                settings.rules[0].chunk_size = Some(rule_chunk);
                settings.rules[0].preferred_range_start = start.map(port);
                settings.types = ServiceTypes::default();
                for (n, (first, size)) in taken.into_iter().enumerate() {
                    let range = first..=first + size;
                    let meets = |it: &RangeInclusive<u16>| {
                        first <= *it.end() && *it.start() <= *range.end()
                    };
                    if !settings.types.iter().any(|it| meets(&it.range)) {
                        add(&mut settings, &format!("taken-{n}"), range);
                    }
                }
                settings
            },
        )
}

proptest! {
    #[test]
    fn no_new_range_overlaps_leaves_the_bounds_or_narrows_a_gap(
        mut settings in settings(),
        names in prop::collection::vec("(rule|taken|x)-[a-z]{3}", 1..20),
    ) {
        for name in names {
            let name: ServiceType = name.parse().unwrap();
            if settings.types.get(&name).is_some() {
                continue;
            }
            let Ok(planned) = plan(&name, &settings, &EPHEMERAL) else {
                continue;
            };
            let (first, last) = planned.range.clone().into_inner();
            let general = &settings.auto_allocation;
            let is_rule = name.as_str().starts_with("rule-");
            let chunk = if is_rule { settings.rules[0].chunk_size.unwrap() } else { general.default_chunk_size };
            prop_assert_eq!(last - first + 1, chunk);
            let lowest_inner = settings.types.iter().map(|it| *it.range.start()).min();
            let is_inner = planned.placement == PlacementRule::Smart && lowest_inner < Some(first);
            prop_assert!(first >= general.min_port.get() || is_inner);
            prop_assert!(last <= general.max_port.get());
            prop_assert!(last < *EPHEMERAL.start() || *EPHEMERAL.end() < first);
            let gap = if general.preserve_gaps { general.gap_size } else { 0 };
            for other in settings.types.iter() {
                let below = i32::from(first) - i32::from(*other.range.end()) - 1;
                let above = i32::from(*other.range.start()) - i32::from(last) - 1;
                prop_assert!(below >= i32::from(gap) || above >= i32::from(gap), "{:?} beside {:?}", planned, other.range);
            }
            add(&mut settings, name.as_str(), planned.range);
        }
    }
}
