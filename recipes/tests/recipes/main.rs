//! The recipes and the engine together, through the public interface only.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod docs;
mod examples;
mod injection;
mod properties;
mod sandbox;
mod user_recipes;
mod wrappers;
