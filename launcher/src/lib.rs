//! The launcher: everything that `styxy` does in the foreground.

pub mod supervise;
mod sys;
