//! Splits the text of a script into simple commands as a POSIX shell would, or says that it cannot.
//!
//! Nothing is expanded and nothing is run. What is not plainly a list of simple commands is [`Line::Opaque`].

/// A script as far as it is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Simple commands, in order.
    Commands(Vec<Simple>),
    /// Command substitution, subshells, unbalanced quotes and the like.
    Opaque,
}

/// One simple command: assignments, words, and the operator after it. Redirections are dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Simple {
    pub(crate) assignments: Vec<(String, String)>,
    pub(crate) words: Vec<String>,
    pub(crate) then: Then,
}

/// What stands after a simple command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing: it is the last one.
    #[default]
    End,
    /// `&&`
    And,
    /// `||`
    Or,
    /// `;` or a line break
    Next,
    /// `|`
    Pipe,
    /// `&`
    Background,
}

impl Then {
    fn needs_more(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Pipe)
    }
}

/// Splits `text`.
pub(crate) fn split(text: &str) -> Line {
    let mut splitter = Splitter {
        rest: text.chars().collect::<Vec<_>>().into_iter().peekable(),
        done: Vec::new(),
        simple: Simple::default(),
        word: None,
        quoted: false,
        redirect: false,
    };
    match splitter.run() {
        Some(()) => Line::Commands(splitter.done),
        None => Line::Opaque,
    }
}

struct Splitter {
    rest: std::iter::Peekable<std::vec::IntoIter<char>>,
    done: Vec<Simple>,
    simple: Simple,
    /// The word under construction.
    word: Option<String>,
    /// Whether any part of it was quoted: `"A=1"` is no assignment, `"2">x` no descriptor.
    quoted: bool,
    /// The next word is the target of a redirection.
    redirect: bool,
}

impl Splitter {
    /// `None` when the text is beyond simple commands.
    fn run(&mut self) -> Option<()> {
        while let Some(c) = self.rest.next() {
            match c {
                ' ' | '\t' | '\r' => self.end_word()?,
                '\n' | ';' => self.end_command(Then::Next)?,
                '&' if self.eat('&') => self.end_command(Then::And)?,
                '&' if self.rest.peek() == Some(&'>') => self.redirection()?,
                '&' => self.end_command(Then::Background)?,
                '|' if self.eat('|') => self.end_command(Then::Or)?,
                '|' => {
                    self.eat('&');
                    self.end_command(Then::Pipe)?;
                }
                '<' | '>' => self.redirection_from(c)?,
                '(' | ')' | '`' => return None,
                '#' if self.word.is_none() => return None,
                '\'' => self.single_quoted()?,
                '"' => self.double_quoted()?,
                '\\' => {
                    let escaped = self.rest.next()?;
                    self.push_quoted(escaped);
                }
                '$' => self.dollar()?,
                c => self.push(c),
            }
        }
        self.end_command(Then::End)
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.rest.next_if_eq(&wanted).is_some()
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn push_quoted(&mut self, c: char) {
        self.quoted = true;
        self.push(c);
    }

    /// `$NAME` and `${…}` stay in the word as they are; `$(` runs something.
    fn dollar(&mut self) -> Option<()> {
        self.push('$');
        match self.rest.peek() {
            Some('(' | '\'' | '"') => None,
            Some('{') => loop {
                let c = self.rest.next()?;
                if matches!(c, '`' | '(' | '\'' | '"' | '\\') {
                    return None;
                }
                self.push(c);
                if c == '}' {
                    return Some(());
                }
            },
            _ => Some(()),
        }
    }

    fn single_quoted(&mut self) -> Option<()> {
        self.quoted = true;
        self.word.get_or_insert_default();
        loop {
            match self.rest.next()? {
                '\'' => return Some(()),
                c => self.push(c),
            }
        }
    }

    fn double_quoted(&mut self) -> Option<()> {
        self.quoted = true;
        self.word.get_or_insert_default();
        loop {
            match self.rest.next()? {
                '"' => return Some(()),
                '`' => return None,
                '$' => {
                    if self.rest.peek() == Some(&'(') {
                        return None;
                    }
                    self.push('$');
                }
                '\\' => match self.rest.next()? {
                    c @ ('"' | '\\' | '$' | '`') => self.push(c),
                    '\n' => {}
                    c => {
                        self.push('\\');
                        self.push(c);
                    }
                },
                c => self.push(c),
            }
        }
    }

    /// `&>`: the `>` is still to come.
    fn redirection(&mut self) -> Option<()> {
        self.end_word()?;
        let arrow = self.rest.next()?;
        self.redirection_from(arrow)
    }

    fn redirection_from(&mut self, arrow: char) -> Option<()> {
        // A word of digits right before it is the descriptor, not an argument.
        let descriptor =
            |word: &String| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
        if !self.quoted && self.word.as_ref().is_some_and(descriptor) {
            self.word = None;
        }
        self.end_word()?;
        let heredoc_or_substitution = arrow == '<' && matches!(self.rest.peek(), Some('<' | '('));
        if heredoc_or_substitution || self.rest.peek() == Some(&'(') {
            return None;
        }
        while self
            .rest
            .next_if(|c| matches!(c, '>' | '&' | '|'))
            .is_some()
        {}
        self.redirect = true;
        Some(())
    }

    fn end_word(&mut self) -> Option<()> {
        let quoted = std::mem::take(&mut self.quoted);
        let Some(word) = self.word.take() else {
            return Some(());
        };
        if std::mem::take(&mut self.redirect) {
            return Some(());
        }
        if self.simple.words.is_empty() {
            if !quoted && is_compound_word(&word) {
                return None;
            }
            if let Some((name, value)) = assignment(&word) {
                self.simple
                    .assignments
                    .push((name.to_owned(), value.to_owned()));
                return Some(());
            }
        }
        self.simple.words.push(word);
        Some(())
    }

    fn end_command(&mut self, then: Then) -> Option<()> {
        self.end_word()?;
        if self.redirect {
            return None;
        }
        let empty = self.simple.words.is_empty() && self.simple.assignments.is_empty();
        match (empty, then) {
            // An operator that still waits for its right-hand side.
            (true, Then::End) if self.done.last().is_some_and(|last| last.then.needs_more()) => {
                None
            }
            // Blank lines, a trailing `;` and the end of the text end nothing.
            (true, Then::End | Then::Next) => Some(()),
            (true, _) => None,
            (false, _) => {
                self.simple.then = then;
                self.done.push(std::mem::take(&mut self.simple));
                Some(())
            }
        }
    }
}

/// Words that begin or end what is more than a simple command.
fn is_compound_word(word: &str) -> bool {
    const WORDS: [&str; 16] = [
        "if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "case", "esac",
        "{", "}", "function", "!",
    ];
    WORDS.contains(&word)
}

/// `NAME=value` of an assignment.
pub(crate) fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let mut bytes = name.bytes();
    let starts_well = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let goes_on_well = bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (starts_well && goes_on_well).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One command a line, words separated by `·`, then the operator.
    fn shown(text: &str) -> String {
        match split(text) {
            Line::Opaque => "opaque".to_owned(),
            Line::Commands(commands) => commands
                .iter()
                .map(|simple| {
                    let assignments = simple
                        .assignments
                        .iter()
                        .map(|(name, value)| format!("[{name}={value}]"));
                    let words: Vec<String> =
                        assignments.chain(simple.words.iter().cloned()).collect();
                    let then = match simple.then {
                        Then::End => "",
                        Then::And => " &&",
                        Then::Or => " ||",
                        Then::Next => " ;",
                        Then::Pipe => " |",
                        Then::Background => " &",
                    };
                    words.join("·") + then
                })
                .collect::<Vec<_>>()
                .join("  "),
        }
    }

    #[test]
    fn splits_as_a_shell_does() {
        for (text, expected) in [
            ("", ""),
            ("vite", "vite"),
            ("  vite   --host\t", "vite·--host"),
            ("storybook dev -p 6006", "storybook·dev·-p·6006"),
            (r#"a "b c" 'd "e' f\ g "" h"i"j"#, r#"a·b c·d "e·f g··hij"#),
            (r#"a "x\"y\\z\n""#, r#"a·x"y\z\n"#),
            (
                "PORT=3000 HOST= node x.js A=b",
                "[PORT=3000]·[HOST=]·node·x.js·A=b",
            ),
            ("tsc && vite", "tsc &&  vite"),
            ("a; b", "a ;  b"),
            ("a;", "a ;"),
            ("a & b", "a &  b"),
            ("a & ", "a &"),
            ("a | b || c", "a |  b ||  c"),
            ("a\nb\n", "a ;  b ;"),
            ("a > log 2>&1", "a"),
            ("a 2> log b", "a·b"),
            ("a &> log b", "a·b"),
            ("a >log&&b", "a &&  b"),
            ("a < in b", "a·b"),
            ("a b2>x", "a·b2"),
            ("a $PORT ${PORT:-3000}", "a·$PORT·${PORT:-3000}"),
            ("a b#c", "a·b#c"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_more_than_simple_commands_is_opaque() {
        for text in [
            "a $(b)",
            "a `b`",
            "(a)",
            "a && (b)",
            "a 'b",
            "a \"b",
            "a \"$(b)\"",
            "a <<EOF\nx\nEOF",
            "a <(b)",
            "if a; then b; fi",
            "for x in y; do z; done",
            "{ a; }",
            "! a",
            "a &&",
            "&& a",
            "a >",
            "f() { a; }",
            "a # b",
            "a \\",
            "a ${b",
            "a $'x'",
            "a | | b",
        ] {
            assert_eq!(shown(text), "opaque", "{text}");
        }
    }
}
