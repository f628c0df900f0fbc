//! Tells flags, their values and other words of a command line apart.

use crate::invocation::Word;

/// A flag that was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag<'a> {
    /// `--port` of `--port=4000`; the whole word otherwise.
    pub(crate) name: &'a str,
    /// Position of the word.
    pub(crate) at: usize,
    /// Its value: position of the word that holds it, byte where it begins there, text.
    pub(crate) value: Option<(usize, usize, &'a str)>,
}

/// The words of a command line, sorted.
#[derive(Debug, Default)]
pub(crate) struct Options<'a> {
    pub(crate) flags: Vec<Flag<'a>>,
    /// Positions of the words that are neither flags nor values of flags.
    pub(crate) positionals: Vec<usize>,
    /// Position of the `--`.
    pub(crate) end: Option<usize>,
}

impl<'a> Options<'a> {
    /// Sorts all words up to `--`.
    pub(crate) fn all(words: &'a [Word], takes_value: impl Fn(&str) -> bool) -> Self {
        Self::scan(words, takes_value, false)
    }

    /// Sorts the words up to the first that is no flag: what stands before the command of a wrapper.
    /// The command begins at [`Self::rest`].
    pub(crate) fn leading(words: &'a [Word], takes_value: impl Fn(&str) -> bool) -> Self {
        Self::scan(words, takes_value, true)
    }

    fn scan(words: &'a [Word], takes_value: impl Fn(&str) -> bool, leading_only: bool) -> Self {
        let mut options = Self::default();
        let mut at = 0;
        while let Some(word) = words.get(at) {
            let text = word.as_str();
            if text == "--" {
                options.end = Some(at);
                break;
            }
            if !word.is_flag() {
                options.positionals.push(at);
                if leading_only {
                    break;
                }
            } else if let Some((name, value)) = text.split_once('=') {
                options.flags.push(Flag {
                    name,
                    at,
                    value: Some((at, name.len() + 1, value)),
                });
            } else if takes_value(text) && at + 1 < words.len() {
                options.flags.push(Flag {
                    name: text,
                    at,
                    value: Some((at + 1, 0, words[at + 1].as_str())),
                });
                at += 1;
            } else {
                options.flags.push(Flag {
                    name: text,
                    at,
                    value: None,
                });
            }
            at += 1;
        }
        options
    }

    /// Where the command behind leading flags begins; the number of words if there is none.
    pub(crate) fn rest(&self, words: &[Word]) -> usize {
        match (self.positionals.first(), self.end) {
            (Some(&at), _) => at,
            (None, Some(end)) => end + 1,
            (None, None) => words.len(),
        }
    }

    pub(crate) fn has(&self, names: &[&str]) -> bool {
        self.flags.iter().any(|flag| names.contains(&flag.name))
    }

    /// The last value of one of these flags.
    pub(crate) fn value(&self, names: &[&str]) -> Option<&'a str> {
        self.flags
            .iter()
            .rev()
            .filter(|flag| names.contains(&flag.name))
            .find_map(|flag| flag.value)
            .map(|(_, _, value)| value)
    }
}
