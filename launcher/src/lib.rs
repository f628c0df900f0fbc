//! (skeleton)

pub mod session;
mod sys;
