//! Columns as wide as their contents, with headings between the rows where there are any.

/// A table of `N` columns. Cells are fit for a terminal already.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    lines: Vec<Line<N>>,
}

#[derive(Debug)]
enum Line<const N: usize> {
    Row([String; N]),
    Text(String),
}

impl<const N: usize> Table<N> {
    /// A table with these names of columns.
    pub(super) fn new(names: [&str; N]) -> Self {
        Self {
            lines: vec![Line::Row(names.map(str::to_owned))],
        }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: [String; N]) {
        self.lines.push(Line::Row(cells));
    }

    /// Adds lines that no column is aligned with.
    pub(super) fn text(&mut self, text: impl Into<String>) {
        self.lines.push(Line::Text(text.into()));
    }
}

impl<const N: usize> std::fmt::Display for Table<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut widths = [0; N];
        for line in &self.lines {
            if let Line::Row(cells) = line {
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = cell.chars().count().max(*width);
                }
            }
        }
        for line in &self.lines {
            match line {
                Line::Row(cells) => {
                    let cells = cells.iter().zip(widths);
                    let cells = cells.map(|(cell, width)| format!("{cell:width$}"));
                    let row = cells.collect::<Vec<_>>().join("  ");
                    writeln!(f, "{}", row.trim_end())?;
                }
                Line::Text(text) => writeln!(f, "{text}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_contents_and_text_is_as_long_as_it_is() {
        let mut table = Table::new(["A", "LONG", "LAST"]);
        table.row(["1".to_owned(), "x".to_owned(), "ünï".to_owned()]);
        table.text("a text that is longer than any cell");
        table.row(["22222".to_owned(), "y".to_owned(), String::new()]);
        insta::assert_snapshot!(table, @r"
        A      LONG  LAST
        1      x     ünï
        a text that is longer than any cell
        22222  y
        ");
    }
}
