//! The configuration of a running daemon: taking over what changes in its files, and writing down what it decides
//! by itself.
//!
//! Invariant: what is in force is a configuration that was whole at some time, and the ranges that were made since;
//! a file that is broken changes nothing until it is mended, and is never written over.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use styxy_protocol::api::{AllocateRequest, AutoAllocatedRange, NewRange, TypeSource};
use styxy_protocol::{Instances, Port, ServiceType};
use tracing::{info, warn};

use super::core::Core;
use super::{Authority, NoLease};
use crate::allocator::{Applicant, Grant};
use crate::audit::Audit;
use crate::config::{self, Change, ConfigError, FileText, Loaded, Texts, Watch, WriteError};
use crate::kernel;
use crate::ranges::{self, NoRange};
use crate::service_types::{Definition, first_ports};
use crate::settings::Settings;

/// How often a file is read anew that somebody else writes to in the same moment.
const ATTEMPTS: usize = 3;

/// The configuration and its files.
#[derive(Debug)]
pub(crate) struct Configuration {
    home: PathBuf,
    /// What was last whole, and what was written into `config.json` since.
    loaded: Loaded,
    /// The files when they were last looked at.
    seen: Texts,
    /// What is wrong with these.
    problem: Option<ConfigError>,
    /// Ranges that were made and are in no file.
    unsaved: Vec<Definition>,
    /// Why not.
    unsaved_because: Option<String>,
}

/// Why auto-allocation is not turned on or off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotSwitched {
    /// `config.toml` says what it has to be, here.
    Fixed(String),
    /// It cannot be written down, because of this.
    NotWritten(String),
}

/// Why a type keeps its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotUndone {
    /// There is no such type.
    Unknown,
    /// Its range was not made by auto-allocation.
    NotAutoAllocated,
    /// These ports of the type are leased.
    InUse(Vec<Port>),
    /// `config.toml` says more about the type, here.
    Fixed(String),
    /// It cannot be written down, because of this.
    NotWritten(String),
}

/// What is in force, and from where.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    /// The settings.
    pub(crate) settings: Arc<Settings>,
    /// The files that were read.
    pub(crate) files: Vec<PathBuf>,
    /// What is wrong with them.
    pub(crate) problem: Option<String>,
}

/// Somebody else has changed the file.
#[derive(Debug)]
struct Changed;

impl Configuration {
    /// That of this home, as far as it can be read.
    pub(crate) fn read(home: &Path) -> Self {
        let seen = Texts::read(home);
        let (loaded, problem) = config::load_what_can_be(home, &seen);
        Self {
            home: home.to_owned(),
            loaded,
            seen,
            problem,
            unsaved: Vec::new(),
            unsaved_because: None,
        }
    }

    /// These settings, which are in no file.
    #[cfg(test)]
    pub(super) fn unwritten(home: &Path, settings: Settings) -> Self {
        let mut configuration = Self::read(home);
        configuration.loaded.settings = settings;
        configuration
    }

    /// What is wrong with the files.
    pub(crate) fn problem(&self) -> Option<&ConfigError> {
        self.problem.as_ref()
    }

    /// What is in force: the files, and the ranges that could not be written into them.
    pub(super) fn settings(&self) -> Settings {
        let mut settings = self.loaded.settings.clone();
        for definition in &self.unsaved {
            settings.types.insert(definition.clone());
        }
        settings
    }

    /// Why something that should be in a file is not.
    pub(super) fn degraded(&self) -> Option<String> {
        let reason = self.unsaved_because.as_ref();
        reason.map(|reason| format!("new port ranges are not being saved: {reason}"))
    }

    fn files(&self) -> Vec<PathBuf> {
        let files = [
            (config::JSON, &self.seen.json),
            (config::TOML, &self.seen.toml),
        ];
        let there = files
            .into_iter()
            .filter(|(_, text)| **text != FileText::Absent);
        there.map(|(name, _)| self.home.join(name)).collect()
    }

    /// Looks at the files; whether they are others than before.
    fn look(&mut self) -> bool {
        let texts = Texts::read(&self.home);
        if texts == self.seen {
            return false;
        }
        match config::load_texts(&self.home, &texts) {
            Ok(loaded) => {
                info!("configuration read");
                self.loaded = loaded;
                self.problem = None;
            }
            Err(problem) => {
                warn!(%problem, "the configuration is broken; what was in force before stays");
                self.problem = Some(problem);
            }
        }
        self.seen = texts;
        let types = &self.loaded.settings.types;
        // A file may say something else by now about what it does not have from us.
        self.unsaved
            .retain(|definition| !types.meets(&definition.name, &definition.range));
        true
    }

    fn write(&mut self, changes: &[Change<'_>]) -> Result<Result<(), String>, Changed> {
        let path = self.home.join(config::JSON);
        if let Some(problem) = self
            .problem
            .as_ref()
            .filter(|problem| problem.is_about(&path))
        {
            return Ok(Err(problem.to_string()));
        }
        match config::write(&self.home, &self.seen.json, changes) {
            Ok(text) => {
                self.seen.json = FileText::Text(text);
                Ok(Ok(()))
            }
            Err(WriteError::Changed(_)) => Err(Changed),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// Writes down the ranges that are in no file yet, and this one; what cannot be written is kept in memory.
    fn save(&mut self, new: Option<&Definition>) -> Result<(), Changed> {
        let all: Vec<Definition> = self.unsaved.iter().chain(new).cloned().collect();
        let changes: Vec<_> = all.iter().map(Change::Add).collect();
        if changes.is_empty() {
            self.unsaved_because = None;
            return Ok(());
        }
        match self.write(&changes)? {
            Ok(()) => {
                self.unsaved.clear();
                self.unsaved_because = None;
                for definition in all {
                    self.loaded.settings.types.insert(definition);
                }
            }
            Err(reason) => {
                if self.unsaved_because.is_none() {
                    warn!(%reason, "a new port range is not being saved");
                }
                self.unsaved = all;
                self.unsaved_because = Some(reason);
            }
        }
        Ok(())
    }
}

impl Authority {
    /// What was decided by itself.
    pub(crate) fn audit(&self) -> &Audit {
        &self.audit
    }

    /// What is in force.
    pub(crate) fn configuration(&self) -> InForce {
        let core = self.lock();
        InForce {
            settings: Arc::clone(&core.settings),
            files: core.configuration.files(),
            problem: core.configuration.problem().map(ToString::to_string),
        }
    }

    /// Takes over every change of the files, as long as the home is there.
    pub(crate) async fn follow_configuration(self: Arc<Self>) {
        let home = self.lock().configuration.home.clone();
        let ended = match Watch::of(&home) {
            Ok(watch) => watch.run(|| self.refresh(&mut self.lock())).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            warn!(%error, "changes of the configuration are not noticed any more");
        }
    }

    /// Chooses a port for a type that is not known, and gives the type a range to take it from.
    pub(super) fn allocate_unknown(
        &self,
        core: &mut Core,
        request: &AllocateRequest,
        applicant: &Applicant<'_>,
    ) -> Result<(Grant, Option<NewRange>), NoLease> {
        let name = &request.service_type;
        let mut attempts = 0;
        loop {
            attempts += 1;
            self.refresh(core);
            if core.allocator.types().get(name).is_some() {
                let grant = core.allocator.allocate(request, applicant);
                return Ok((grant.map_err(NoLease::Refused)?, None));
            }
            let settings = core.configuration.settings();
            let planned = ranges::plan(name, &settings, core.allocator.ephemeral());
            let planned = planned.map_err(|reason| {
                // Whoever only asks, or has turned it off, wanted no range.
                if reason != NoRange::Disabled && !request.dry_run {
                    self.metrics.auto_allocation_errors.inc();
                }
                no_range(name, reason, &settings)
            })?;
            let definition = auto_allocated(name, &planned.range, applicant.wall);
            let grant = core.allocator.allocate_as(&definition, request, applicant);
            let grant = grant.map_err(NoLease::Refused)?;
            if request.dry_run {
                return Ok((grant, None));
            }
            match core.configuration.save(Some(&definition)) {
                Err(Changed) if attempts < ATTEMPTS => continue,
                Err(Changed) => core.configuration.unsaved.push(definition.clone()),
                Ok(()) => {}
            }
            self.put_in_force(core);
            return Ok((grant, Some(self.announce(name, &planned))));
        }
    }

    /// Turns auto-allocation on or off, now and for good.
    pub(crate) fn switch_auto_allocation(&self, enabled: bool) -> Result<(), NotSwitched> {
        let mut core = self.lock();
        let written = self.write_down(&mut core, |core| {
            if let Some(place) = &core.configuration.loaded.pins.enabled {
                return Err(NotSwitched::Fixed(place.clone()));
            }
            Ok(Change::Enable(enabled))
        })?;
        written.map_err(NotSwitched::NotWritten)?;
        let general = &mut core.configuration.loaded.settings.auto_allocation;
        let was_enabled = std::mem::replace(&mut general.enabled, enabled);
        self.put_in_force(&mut core);
        drop(core);
        if was_enabled != enabled {
            let action = if enabled { "ENABLED" } else { "DISABLED" };
            let action = format!("AUTO_ALLOCATION_{action}");
            self.audit.record(&action, json!({ "enabled": enabled }));
            info!(enabled, "auto-allocation switched");
        }
        Ok(())
    }

    /// Takes back the range that a type was given; the range.
    pub(crate) fn undo_range(&self, name: &ServiceType) -> Result<RangeInclusive<u16>, NotUndone> {
        let mut core = self.lock();
        self.refresh(&mut core);
        let range = undoable(&core, name)?;
        let unsaved = &mut core.configuration.unsaved;
        let at = unsaved
            .iter()
            .position(|definition| definition.name == *name);
        if let Some(at) = at {
            unsaved.remove(at);
        } else {
            let written = self.write_down(&mut core, |core| {
                undoable(core, name).map(|_| Change::Remove(name))
            })?;
            written.map_err(NotUndone::NotWritten)?;
            core.configuration.loaded.settings.types.remove(name);
        }
        self.put_in_force(&mut core);
        drop(core);
        let details = json!({ "service_type": name, "port_range": [range.start(), range.end()] });
        self.audit.record("AUTO_ALLOCATION_UNDO", details);
        info!(%name, ?range, "range taken back");
        Ok(range)
    }

    /// The ranges that auto-allocation has made, in ascending order, and how much they are used.
    pub(crate) fn auto_allocated_ranges(&self) -> Vec<AutoAllocatedRange> {
        let core = self.lock();
        let types = core.allocator.types().iter();
        let made = types.filter(|it| it.source == TypeSource::AutoAllocated);
        let mut ranges: Vec<_> = made
            .map(|definition| AutoAllocatedRange {
                service_type: definition.name.clone(),
                range: definition.ends(),
                auto_allocated_at: definition.auto_allocated_at.clone(),
                active_allocations: leased_ports(&core, &definition.name).count(),
            })
            .collect();
        ranges.sort_by_key(|range| range.range[0]);
        ranges
    }

    /// Looks at the files, and takes over what has changed in them.
    fn refresh(&self, core: &mut Core) {
        if core.configuration.look() {
            // Should somebody be at it just now, the next look finds it changed again.
            core.configuration.save(None).ok();
            self.put_in_force(core);
        }
    }

    /// Writes the change that `decide` makes of what is in force; why it cannot be written is the inner error.
    fn write_down<'a, E>(
        &self,
        core: &mut Core,
        decide: impl Fn(&Core) -> Result<Change<'a>, E>,
    ) -> Result<Result<(), String>, E> {
        for _ in 0..ATTEMPTS {
            self.refresh(core);
            let change = decide(core)?;
            if let Ok(written) = core.configuration.write(&[change]) {
                return Ok(written);
            }
        }
        Ok(Err("the file is being changed all the time".to_owned()))
    }

    fn put_in_force(&self, core: &mut Core) {
        let settings = core.configuration.settings();
        self.metrics.know(&settings.types);
        core.allocator.set_types(settings.types.clone());
        core.settings = Arc::new(settings);
        // What is due, and when, may be another thing now.
        self.deadline_moved.notify_one();
    }

    fn announce(&self, name: &ServiceType, planned: &ranges::NewRange) -> NewRange {
        let (first, last) = (*planned.range.start(), *planned.range.end());
        info!(%name, first, last, "new range");
        self.metrics.auto_allocations.inc();
        let chunk_size = last - first + 1;
        let details = json!({
            "service_type": name,
            "port_range": [first, last],
            "chunk_size": chunk_size,
            "placement": planned.placement,
        });
        self.audit.record("AUTO_ALLOCATION", details);
        NewRange {
            auto_allocated: true,
            allocated_range: crate::service_types::ends(&planned.range),
            chunk_size,
            placement: planned.placement,
        }
    }
}

fn no_range(name: &ServiceType, reason: NoRange, settings: &Settings) -> NoLease {
    NoLease::NoRange {
        service_type: name.clone(),
        reason,
        known: settings.types.iter().map(|it| it.name.clone()).collect(),
    }
}

fn auto_allocated(name: &ServiceType, range: &RangeInclusive<u16>, wall: u64) -> Definition {
    Definition {
        name: name.clone(),
        description: format!("auto-allocated range of {name}"),
        preferred: first_ports(range),
        range: range.clone(),
        instances: Instances::Multi,
        examples: Vec::new(),
        source: TypeSource::AutoAllocated,
        auto_allocated_at: Some(kernel::rfc3339(wall)),
    }
}

/// The range of this type, if it may be taken back.
fn undoable(core: &Core, name: &ServiceType) -> Result<RangeInclusive<u16>, NotUndone> {
    let definition = core.allocator.types().get(name).ok_or(NotUndone::Unknown)?;
    if definition.source != TypeSource::AutoAllocated {
        return Err(NotUndone::NotAutoAllocated);
    }
    if let Some(place) = core.configuration.loaded.pins.types.get(name) {
        return Err(NotUndone::Fixed(place.clone()));
    }
    let leased: Vec<Port> = leased_ports(core, name).collect();
    if leased.is_empty() {
        Ok(definition.range.clone())
    } else {
        Err(NotUndone::InUse(leased))
    }
}

fn leased_ports<'a>(core: &'a Core, name: &'a ServiceType) -> impl Iterator<Item = Port> + 'a {
    let leases = core.allocator.leases();
    leases
        .filter(move |lease| lease.service_type == *name)
        .map(|lease| lease.port)
}
