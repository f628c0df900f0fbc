//! Single values: what may stand there, and what is told where something else does.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use styxy_protocol::Port;
use styxy_protocol::api::PlacementRule;

use super::{Reader, Section};
use crate::config::document::{Entry, Format, Node, Value};
use crate::config::layer::Said;
use crate::config::problem::Mark;

/// Ports that anything may be configured with.
const PORTS: RangeInclusive<u16> = 1024..=u16::MAX;

impl Reader<'_> {
    /// What `read` makes, unless it finds a problem.
    pub(super) fn whole<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let before = self.problems.len();
        let made = read(self);
        made.filter(|_| self.problems.len() == before)
    }

    pub(super) fn unknown(&mut self, entry: &Entry, section: Section<'_>) {
        if self.source.format == Format::Toml {
            let keys: Vec<_> = section.keys.iter().map(|key| format!("`{key}`")).collect();
            let (prefix, key) = (section.prefix, entry.key.escape_debug());
            let message = format!("unknown key `{prefix}{key}`; known are {}", keys.join(", "));
            self.problem(&entry.key_span, message);
        }
    }

    pub(super) fn problem(&mut self, span: &Range<usize>, message: impl Into<String>) {
        let problem = self.mark(span).problem(message);
        self.problems.push(problem);
    }

    pub(super) fn mark(&self, span: &Range<usize>) -> Mark {
        Mark {
            source: Arc::clone(self.source),
            span: span.clone(),
        }
    }

    pub(super) fn said<T>(&self, value: T, node: &Node) -> Said<T> {
        let mark = self.mark(&node.span);
        Said { value, mark }
    }

    /// Tells that the value is another one than may stand there.
    pub(super) fn wrong<T>(
        &mut self,
        name: &str,
        node: &Node,
        allowed: impl fmt::Display,
    ) -> Option<T> {
        let written = written(&self.source.text[node.span.clone()]);
        self.problem(&node.span, format!("`{name}` is {written}, not {allowed}"));
        None
    }

    /// The entries of a table; what `null` stands for is not there.
    pub(super) fn entries<'n>(&mut self, node: &'n Node, name: &str) -> Vec<&'n Entry> {
        if let Value::Table(entries) = &node.value {
            let is_there = |entry: &&Entry| entry.node.value != Value::Nothing;
            return entries.iter().filter(is_there).collect();
        }
        self.wrong::<()>(name, node, "a table of keys and values");
        Vec::new()
    }

    pub(super) fn number<T>(
        &mut self,
        name: &str,
        node: &Node,
        allowed: RangeInclusive<T>,
    ) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + fmt::Display,
    {
        let number = match node.value {
            Value::Integer(number) => T::try_from(number).ok(),
            _ => None,
        };
        number
            .filter(|number| allowed.contains(number))
            .or_else(|| {
                let (first, last) = allowed.into_inner();
                self.wrong(name, node, format_args!("a number from {first} to {last}"))
            })
    }

    pub(super) fn port(&mut self, name: &str, node: &Node) -> Option<Port> {
        self.number(name, node, PORTS).and_then(Port::new)
    }

    pub(super) fn switch(&mut self, name: &str, node: &Node) -> Option<bool> {
        match node.value {
            Value::Switch(switch) => Some(switch),
            _ => self.wrong(name, node, "true or false"),
        }
    }

    pub(super) fn text(&mut self, name: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => self.wrong(name, node, "a text"),
        }
    }

    pub(super) fn list<T>(
        &mut self,
        name: &str,
        node: &Node,
        read: impl Fn(&mut Self, &str, &Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Value::List(list) = &node.value else {
            return self.wrong(name, node, "a list");
        };
        let read = list.iter().map(|node| read(self, name, node));
        let read: Vec<Option<T>> = read.collect();
        read.into_iter().collect()
    }

    pub(super) fn choice<T: Copy>(
        &mut self,
        name: &str,
        node: &Node,
        values: &[(&'static str, T)],
    ) -> Option<T> {
        if let Value::Text(text) = &node.value
            && let Some((_, value)) = values.iter().find(|it| it.0.eq_ignore_ascii_case(text))
        {
            return Some(*value);
        }
        let names: Vec<_> = values.iter().map(|it| format!("\"{}\"", it.0)).collect();
        self.wrong(name, node, names.join(" or "))
    }

    pub(super) fn placement(&mut self, name: &str, node: &Node) -> Option<PlacementRule> {
        let all = [
            PlacementRule::After,
            PlacementRule::Before,
            PlacementRule::Smart,
        ];
        let names = ["after", "before", "smart"];
        let values: Vec<_> = names.into_iter().zip(all).collect();
        self.choice(name, node, &values)
    }

    /// `range` and `port_range` are the same; who writes both has to say the same.
    pub(super) fn range(
        &mut self,
        name: &str,
        node: &Node,
        read: &mut Option<Said<RangeInclusive<u16>>>,
    ) {
        let Some(ports) = self.list(name, node, Self::port) else {
            return;
        };
        let range = match ports[..] {
            [first, last] if first <= last => first.get()..=last.get(),
            _ => {
                let allowed = "the first and the last port, such as [3000, 3099]";
                self.wrong::<()>(name, node, allowed);
                return;
            }
        };
        match read {
            Some(other) if other.value != range => {
                let message = format!("`{name}` says another range than {}", other.mark);
                self.problem(&node.span, message);
            }
            _ => *read = Some(self.said(range, node)),
        }
    }
}

/// What stands in the file, on one line and not too long.
fn written(text: &str) -> String {
    const MAX: usize = 60;
    let line: Vec<_> = text.split_whitespace().collect();
    let line = line.join(" ");
    match line.char_indices().nth(MAX) {
        Some((end, _)) => format!("`{}…`", &line[..end]),
        None => format!("`{line}`"),
    }
}
