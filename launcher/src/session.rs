//! stub
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;
use styxy_protocol::Port;
use styxy_protocol::table::{Entry, PortTable};
#[derive(Debug)]
pub(crate) struct Session {
    table: PortTable,
}
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pin {
    pub(crate) requested: Port,
    pub(crate) real: Port,
}
#[derive(Debug)]
pub(crate) struct SessionPlan {
    pub(crate) pins: Vec<Pin>,
    pub(crate) spares: Vec<Port>,
    pub(crate) strict: bool,
}
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub(crate) struct SessionError;
impl Session {
    pub(crate) fn create(_r: &Path, _id: &str, plan: &SessionPlan) -> Result<Self, SessionError> {
        drop((&plan.pins, &plan.spares, plan.strict, PortTable::new(0)));
        Err(SessionError)
    }
    pub(crate) fn preload_value(&self, i: Option<&OsStr>) -> OsString {
        i.unwrap_or_default().into()
    }
    pub(crate) fn asan_options(i: Option<&OsStr>) -> OsString {
        i.unwrap_or_default().into()
    }
    pub(crate) fn table(&self) -> &PortTable {
        &self.table
    }
    pub(crate) fn remove(&self) {}
}
pub(crate) struct TableWatcher(Arc<Session>);
impl TableWatcher {
    pub(crate) fn new(s: Arc<Session>) -> Self {
        Self(s)
    }
    pub(crate) fn wait(&mut self) -> Vec<Entry> {
        std::thread::park();
        self.0.table().entries().collect()
    }
}
