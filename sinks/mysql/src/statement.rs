//! The text of an `INSERT` of so many rows. A statement is prepared for one number of rows, so the
//! numbers are powers of two: each is prepared once a connection.

/// The most rows of one statement. Measured: 4 096 rows reach the speed of the server's own bulk
/// load, more are no faster.
const ROWS_MAX: usize = 4_096;
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
    fn a_statement_has_at_most_4096_rows_and_65535_parameters() {
        for (columns, rows) in [
            (1, 4_096),
            (15, 4_096),
            (16, 2_048),
            (4_096, 8),
            (65_535, 1),
        ] {
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
