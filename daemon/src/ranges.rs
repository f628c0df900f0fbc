//! Where the range of a service type goes that nobody has configured.
//!
//! Pure: the types there are and the settings decide. Invariant: a new range overlaps no other one, keeps the gaps
//! that are to be kept, and has no port that the kernel gives to outgoing connections.

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::RangeInclusive;

use styxy_protocol::ServiceType;
use styxy_protocol::api::{AutoAllocation, AutoAllocationRule, PlacementRule};

use crate::service_types::ServiceTypes;
use crate::settings::Settings;

/// A range that can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRange {
    /// Its ports.
    pub range: RangeInclusive<u16>,
    /// The rule that it was put by.
    pub placement: PlacementRule,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRange {
    /// Auto-allocation is off.
    Disabled,
    /// Before the lowest range there is no room above the lowest port.
    BelowMinPort {
        /// Where it would begin; negative where ports end.
        start: i32,
        /// The lowest port.
        min_port: u16,
    },
    /// There is no room anywhere.
    NoRoom {
        /// How many ports were looked for.
        chunk_size: u16,
        /// How many were to stay free beside them.
        gap_size: u16,
        /// Between these.
        bounds: RangeInclusive<u16>,
        /// But not here.
        ephemeral: RangeInclusive<u16>,
    },
}

impl fmt::Display for NoRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("auto-allocation is disabled"),
            Self::BelowMinPort { start, min_port } => write!(
                f,
                "a range before the lowest one would begin at {start}, below min_port {min_port}"
            ),
            Self::NoRoom {
                chunk_size,
                gap_size,
                bounds,
                ephemeral,
            } => write!(
                f,
                "no room for {chunk_size} ports between {} and {} with {gap_size} free on both sides \
                 (the kernel uses {}-{} for outgoing connections)",
                bounds.start(),
                bounds.end(),
                ephemeral.start(),
                ephemeral.end()
            ),
        }
    }
}

/// The range that a type of this name gets, on a machine with this ephemeral range.
///
/// # Errors
/// If auto-allocation is off, or there is no room where the settings allow a range.
pub fn plan(
    name: &ServiceType,
    settings: &Settings,
    ephemeral: &RangeInclusive<u16>,
) -> Result<NewRange, NoRange> {
    let general = &settings.auto_allocation;
    if !general.enabled {
        return Err(NoRange::Disabled);
    }
    let rule = rule_for(name, &settings.rules);
    let site = Site::of(
        &settings.types,
        general,
        rule.and_then(|rule| rule.chunk_size),
        ephemeral,
    );
    let placement = rule.and_then(|rule| rule.placement);
    let placement = placement.unwrap_or(general.placement);
    let wanted = rule.and_then(|rule| rule.preferred_range_start);
    let wanted = wanted.and_then(|start| site.first_room(start.get().into(), site.max));
    let start = match (wanted, placement) {
        (Some(start), _) => Ok(start),
        (None, PlacementRule::After) => site.after(),
        (None, PlacementRule::Before) => site.before(),
        (None, PlacementRule::Smart) => site
            .inside()
            .or_else(|| site.behind_family(name, &settings.types))
            .map_or_else(|| site.after(), Ok),
    }?;
    Ok(NewRange {
        range: narrow(start)..=narrow(start + site.chunk - 1),
        placement,
    })
}

/// The first rule whose pattern this name is of.
fn rule_for<'a>(
    name: &ServiceType,
    rules: &'a [AutoAllocationRule],
) -> Option<&'a AutoAllocationRule> {
    rules
        .iter()
        .find(|rule| matches(&rule.pattern, name.as_str()))
}

/// Whether the whole text is of this pattern, in which `*` stands for any text and everything else for itself.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    // Taking each part as early as possible leaves the most for those behind it.
    for part in parts {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// What is built already, and what may be built. Ports are counted in a wider type, so that sums may leave theirs.
struct Site {
    /// Ascending.
    taken: Vec<(u32, u32)>,
    chunk: u32,
    gap: u32,
    min: u32,
    max: u32,
    ephemeral: (u32, u32),
}

impl Site {
    fn of(
        types: &ServiceTypes,
        settings: &AutoAllocation,
        chunk_size: Option<u16>,
        ephemeral: &RangeInclusive<u16>,
    ) -> Self {
        let wide =
            |range: &RangeInclusive<u16>| (u32::from(*range.start()), u32::from(*range.end()));
        let mut taken: Vec<_> = types.iter().map(|it| wide(&it.range)).collect();
        taken.sort_unstable();
        Self {
            taken,
            chunk: chunk_size
                .unwrap_or(settings.default_chunk_size)
                .max(1)
                .into(),
            gap: if settings.preserve_gaps {
                settings.gap_size.into()
            } else {
                0
            },
            min: settings.min_port.get().into(),
            max: settings.max_port.get().into(),
            ephemeral: wide(ephemeral),
        }
    }

    /// Behind the highest range; where that leaves the bounds, the first place with room.
    fn after(&self) -> Result<u32, NoRange> {
        let highest = self.taken.iter().map(|(_, end)| *end).max();
        let start = highest.map_or(self.min, |end| end + self.gap + 1);
        self.first_room(start, self.max)
            .or_else(|| self.first_room(self.min, self.max))
            .ok_or_else(|| self.no_room())
    }

    /// Before the lowest range, and below the ephemeral ports where it would meet them.
    fn before(&self) -> Result<u32, NoRange> {
        let signed = |number: u32| i64::from(number);
        let lowest = self.taken.first().map(|(start, _)| signed(*start));
        let below = lowest.map_or(signed(self.max) + 1, |start| start - signed(self.gap));
        let mut start = below.min(signed(self.max) + 1) - signed(self.chunk);
        let (first, last) = (signed(self.ephemeral.0), signed(self.ephemeral.1));
        if start <= last && start + signed(self.chunk) > first {
            start = first - signed(self.chunk);
        }
        if start < signed(self.min) {
            return Err(NoRange::BelowMinPort {
                start: i32::try_from(start).unwrap_or(i32::MIN),
                min_port: narrow(self.min),
            });
        }
        u32::try_from(start).map_err(|_| self.no_room())
    }

    /// In the first gap between two ranges that has room, wherever the lowest port is: the gap is within bounds
    /// that somebody has drawn.
    fn inside(&self) -> Option<u32> {
        let mut end = self.taken.first()?.1;
        for &(start, next_end) in &self.taken[1..] {
            let last = start.saturating_sub(self.gap + 1).min(self.max);
            if let Some(found) = self.room_between(end + self.gap + 1, last) {
                return Some(found);
            }
            end = end.max(next_end);
        }
        None
    }

    /// Behind the highest type of the same family: of the same name up to the first hyphen, else of a name that
    /// is a word of this one.
    fn behind_family(&self, name: &ServiceType, types: &ServiceTypes) -> Option<u32> {
        let words: Vec<&str> = name.as_str().split('-').collect();
        let head = |other: &ServiceType| other.as_str().split('-').next() == words.first().copied();
        let word = |other: &ServiceType| words.contains(&other.as_str());
        let highest = |is_family: &dyn Fn(&ServiceType) -> bool| {
            let family = types.iter().filter(|it| is_family(&it.name));
            family.map(|it| u32::from(*it.range.end())).max()
        };
        let end = highest(&head).or_else(|| highest(&word))?;
        self.first_room(end + self.gap + 1, self.max)
    }

    /// The first place from `start` on, but not below the lowest port.
    fn first_room(&self, start: u32, last: u32) -> Option<u32> {
        self.room_between(start.max(self.min), last)
    }

    /// The first place between these two ports that overlaps nothing and keeps the gaps.
    fn room_between(&self, first: u32, last: u32) -> Option<u32> {
        let mut start = first;
        loop {
            let end = start + self.chunk - 1;
            if end > last {
                return None;
            }
            let in_the_way =
                |&&(from, to): &&(u32, u32)| from <= end + self.gap && start <= to + self.gap;
            let next = self
                .taken
                .iter()
                .find(in_the_way)
                .map(|(_, to)| to + self.gap + 1);
            let (first, last) = self.ephemeral;
            let next = next.or((first <= end && start <= last).then_some(last + 1));
            match next {
                Some(next) => start = next,
                None => return Some(start),
            }
        }
    }

    fn no_room(&self) -> NoRange {
        NoRange::NoRoom {
            chunk_size: narrow(self.chunk),
            gap_size: narrow(self.gap),
            bounds: narrow(self.min)..=narrow(self.max),
            ephemeral: narrow(self.ephemeral.0)..=narrow(self.ephemeral.1),
        }
    }
}

/// A number that is a port, as every one within the bounds is.
fn narrow(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
