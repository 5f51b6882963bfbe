//! The text of an `INSERT` of so many rows. A statement is prepared for one number of rows, so the
//! numbers are powers of two: each is prepared once a connection.

/// The most rows of one statement. Measured, three columns: per row the server needs as much time
/// as for `LOAD DATA` with 512, a tenth more with 128, and a third more with 4 096, whose
/// parameters no longer fit into the processor's cache.
const ROWS_MAX: usize = 512;
/// The protocol counts the parameters of a statement in 16 bits.
const PARAMETERS_MAX: usize = 65_535;

pub(crate) struct Statements {
    /// `INSERT INTO t (a, b) VALUES`
    head: String,
    /// `(?,?)`
    row: String,
    /// ` ON DUPLICATE KEY UPDATE …`
    tail: String,
    /// The text for 2 to the power of the index.
    texts: Vec<String>,
}

impl Statements {
    pub(crate) fn new(head: String, columns: usize, tail: String) -> Self {
        let row = format!("({})", vec!["?"; columns].join(","));
        let mut new = Self {
            head,
            row,
            tail,
            texts: Vec::new(),
        };
        let most = ROWS_MAX.min(PARAMETERS_MAX / columns.max(1)).max(1);
        new.texts = (0..=most.ilog2())
            .map(|log| new.text_of(1 << log))
            .collect();
        new
    }

    fn text_of(&self, rows: usize) -> String {
        format!(
            "{} {}{}",
            self.head,
            vec![&*self.row; rows].join(","),
            self.tail
        )
    }

    /// The most rows of one statement, a power of two.
    pub(crate) fn rows_max(&self) -> usize {
        1 << (self.texts.len() - 1)
    }

    /// The statement for `rows`, a power of two up to [`rows_max`](Self::rows_max).
    pub(crate) fn text(&self, rows: usize) -> &str {
        &self.texts[rows.ilog2() as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_has_at_most_512_rows_and_65535_parameters() {
        for (columns, rows) in [(1, 512), (127, 512), (128, 256), (4_096, 8), (65_535, 1)] {
            let statements = Statements::new("INSERT".to_owned(), columns, String::new());
            assert_eq!(statements.rows_max(), rows, "{columns}");
        }
        let statements = Statements::new(
            "INSERT INTO t (a, b) VALUES".to_owned(),
            2,
            " END".to_owned(),
        );
        assert_eq!(
            statements.text(2),
            "INSERT INTO t (a, b) VALUES (?,?),(?,?) END"
        );
    }
}
