//! The texts of the statements.

use crate::name::{Quoted, TableName, joined, list};

/// How a column's values are sent.
pub(crate) struct Sent {
    pub(crate) name: String,
    /// The type as SQL names it, without a length: a cast to a length would cut values.
    pub(crate) sql_type: String,
    /// As SQL names it, where it is not the database's own.
    pub(crate) collation: Option<String>,
    /// An array of values can be taken apart into the values.
    pub(crate) unnests: bool,
}

/// What is written, and what becomes of conflicts.
pub(crate) struct Target<'a> {
    pub(crate) table: &'a TableName,
    pub(crate) columns: &'a [Sent],
    /// The places of the key's columns.
    pub(crate) key: &'a [usize],
    pub(crate) conflicts: Conflicts<'a>,
}

#[derive(Clone, Copy)]
pub(crate) enum Conflicts<'a> {
    Fail,
    Ignore,
    Update(&'a [&'a str]),
}

/// The table that rows with arrays in them are sent to first.
pub(crate) struct Staging {
    pub(crate) create: String,
    pub(crate) copy: String,
    pub(crate) drop: String,
}

const STAGED: &str = "pg_temp.load_aware_batcher_rows";

impl Target<'_> {
    fn names(&self) -> String {
        list(self.columns.iter().map(|column| &*column.name))
    }

    fn key_names(&self) -> String {
        list(self.key.iter().map(|place| &*self.columns[*place].name))
    }

    /// The columns of the rows that come from arrays or from the staging table.
    fn values(&self) -> String {
        joined(0..self.columns.len(), |place| format!("x.c{place}"))
    }

    /// One value a column, to learn the types that the server expects.
    pub(crate) fn one_row(&self) -> String {
        let values = joined(1..=self.columns.len(), |number| format!("${number}"));
        format!(
            "INSERT INTO {} ({}) VALUES ({values})",
            self.table,
            self.names()
        )
    }

    pub(crate) fn copy(&self) -> String {
        format!(
            "COPY {} ({}) FROM STDIN (FORMAT binary)",
            self.table,
            self.names()
        )
    }

    /// `None` if the rows can go as arrays.
    pub(crate) fn staging(&self) -> Option<Staging> {
        if self.columns.iter().all(|column| column.unnests) {
            return None;
        }
        let columns = joined(self.columns.iter().enumerate(), |(place, column)| {
            format!("c{place} {}", column.sql_type)
        });
        let names = joined(0..self.columns.len(), |place| format!("c{place}"));
        Some(Staging {
            create: format!(
                "CREATE TEMPORARY TABLE {} ({columns}, place bigint GENERATED ALWAYS AS IDENTITY) ON COMMIT DROP",
                STAGED.trim_start_matches("pg_temp.")
            ),
            copy: format!("COPY {STAGED} ({names}) FROM STDIN (FORMAT binary)"),
            drop: format!("DROP TABLE {STAGED}"),
        })
    }

    /// The rows that were sent, as a table `x` with the columns `c0`, `c1`, … and `place`.
    fn rows(&self) -> String {
        if self.staging().is_some() {
            return format!("{STAGED} AS x");
        }
        self.unnest(&(0..self.columns.len()).collect::<Vec<_>>())
    }

    fn unnest(&self, places: &[usize]) -> String {
        let arrays = joined(places.iter().enumerate(), |(at, place)| {
            format!("${}::{}[]", at + 1, self.columns[*place].sql_type)
        });
        let names = joined(places, |place| format!("c{place}"));
        format!("unnest({arrays}) WITH ORDINALITY AS x ({names}, place)")
    }

    /// In the order in which the rows were sent: without a sort, as `unnest` gives them.
    pub(crate) fn insert(&self) -> String {
        let order = if self.staging().is_some() {
            " ORDER BY x.place"
        } else {
            ""
        };
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {}{order}{}",
            self.table,
            self.names(),
            self.values(),
            self.rows(),
            self.on_conflict()
        )
    }

    /// A value of the key, to be compared as the index compares it.
    fn key_value(&self, place: usize) -> String {
        match &self.columns[place].collation {
            Some(collation) => format!("x.c{place} COLLATE {collation}"),
            None => format!("x.c{place}"),
        }
    }

    /// The same, with one row left of those whose keys are equal to the server.
    pub(crate) fn insert_distinct(&self) -> String {
        let mut key: Vec<String> = self
            .key
            .iter()
            .map(|place| self.key_value(*place))
            .collect();
        // Nulls are equal to DISTINCT and not to the index.
        let nulls: Vec<String> = key
            .iter()
            .map(|column| format!("{column} IS NULL"))
            .collect();
        key.push(format!("CASE WHEN {} THEN x.place END", nulls.join(" OR ")));
        let key = key.join(", ");
        let direction = match self.conflicts {
            Conflicts::Update(_) => "DESC",
            Conflicts::Fail | Conflicts::Ignore => "ASC",
        };
        format!(
            "INSERT INTO {} ({}) SELECT DISTINCT ON ({key}) {} FROM {} ORDER BY {key}, x.place {direction}{}",
            self.table,
            self.names(),
            self.values(),
            self.rows(),
            self.on_conflict()
        )
    }

    /// The places, from 1, of the rows whose keys are in the table already. `None` if the keys
    /// cannot go as arrays.
    pub(crate) fn present(&self) -> Option<String> {
        let unnests = self.key.iter().all(|place| self.columns[*place].unnests);
        unnests.then(|| {
            let equal: Vec<String> = self
                .key
                .iter()
                .map(|place| format!("t.{} = x.c{place}", Quoted(&self.columns[*place].name)))
                .collect();
            format!(
                "SELECT x.place FROM {} WHERE EXISTS (SELECT FROM {} AS t WHERE {})",
                self.unnest(self.key),
                self.table,
                equal.join(" AND ")
            )
        })
    }

    /// Always with the key: without it another index's conflict would be swallowed.
    fn on_conflict(&self) -> String {
        let updated = match self.conflicts {
            Conflicts::Fail => return String::new(),
            Conflicts::Update(columns) if !columns.is_empty() => columns,
            Conflicts::Update(_) | Conflicts::Ignore => {
                return format!(" ON CONFLICT ({}) DO NOTHING", self.key_names());
            }
        };
        let set = joined(updated, |column| {
            format!("{0} = EXCLUDED.{0}", Quoted(column))
        });
        format!(" ON CONFLICT ({}) DO UPDATE SET {set}", self.key_names())
    }
}

/// The statements for the table of batch ids.
pub(crate) struct Batches {
    /// Stores an id, if it is not there.
    pub(crate) mark: String,
    /// Removes ids of an age in seconds.
    pub(crate) prune: String,
    pub(crate) create: String,
}

impl Batches {
    pub(crate) fn new(name: &TableName) -> Self {
        let index = Quoted(&format!("{}_at", name.table)).to_string();
        Self {
            mark: format!("INSERT INTO {name} (id) VALUES ($1::uuid) ON CONFLICT DO NOTHING"),
            prune: format!(
                "DELETE FROM {name} WHERE id IN (SELECT id FROM {name}
                 WHERE at < now() - make_interval(secs => $1::float8) LIMIT 10000)"
            ),
            create: format!(
                "CREATE TABLE {name} (id uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
                 CREATE INDEX {index} ON {name} (at)"
            ),
        }
    }
}
