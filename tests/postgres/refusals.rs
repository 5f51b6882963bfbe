//! Rows that the driver refuses: only they fail, and nothing is in doubt.

use std::error::Error;

use postgres::types::{IsNull, Type, private::BytesMut, to_sql_checked};

use super::*;

/// An id. The driver cannot send one certain value of it.
#[derive(Debug)]
struct Picky(i64);

const REFUSED: i64 = 137;

impl ToSql for Picky {
    fn to_sql(
        &self,
        of: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        if self.0 == REFUSED {
            Err("not this one".into())
        } else {
            self.0.to_sql(of, out)
        }
    }

    fn accepts(of: &Type) -> bool {
        i64::accepts(of)
    }

    to_sql_checked!();
}

/// Scenario 45.
#[test]
fn a_value_that_the_driver_refuses_fails_alone_at_once_and_is_never_in_doubt() {
    let Some(server) = Postgres::shared() else {
        return;
    };
    for (name, stage) in [
        ("refused_in_transaction", Stage::Statement),
        ("refused_autocommit", Stage::Commit),
    ] {
        let (config, mut client, builder) = prepared(server, name, Dedup::None, 500);
        let mut writer = config.connect(NoTls).unwrap();
        let handler = move |batch: &mut Batch<Row>| {
            let insert =
                "INSERT INTO readings SELECT id, 0, '' FROM unnest($1::bigint[]) AS new (id)";
            let ids: Vec<Picky> = batch.iter().map(|row| Picky(row.id)).collect();
            if stage == Stage::Commit {
                writer
                    .execute(insert, &[&ids])
                    .map_err(|error| failed(error, stage))?;
            } else {
                let mut transaction = writer.transaction().map_err(|error| failed(error, stage))?;
                transaction
                    .execute(insert, &[&ids])
                    .map_err(|error| failed(error, stage))?;
                transaction
                    .commit()
                    .map_err(|error| failed(error, Stage::Commit))?;
            }
            Ok(LoadFeedback::new())
        };
        let batcher = builder.linger(LONG).spawn(handler).unwrap();
        batcher.add_many((0..500).map(Row::of)).unwrap();
        only_these_fail(&batcher, &[REFUSED]);
        let stats = batcher.stats();
        assert_eq!(
            (stats.retries, stats.split_retries),
            (0, 0),
            "nothing was tried again as it was: {stats:?}"
        );
        assert_eq!(counts(&mut client), (499, 499));
    }
}

/// Flushes, and asserts that exactly the rows with these ids fail.
fn only_these_fail(batcher: &Batcher<Row>, ids: &[i64]) {
    assert!(matches!(
        batcher.flush(LONG),
        Err(FlushError::Failed { .. })
    ));
    let failed = batcher.take_failed();
    let mut found: Vec<i64> = failed.iter().map(|failed| failed.item.id).collect();
    found.sort_unstable();
    assert_eq!(found, ids, "{:?}", failed.first());
    for failed in failed {
        assert!(
            failed.error.is_permanent() && !failed.in_doubt,
            "{failed:?}"
        );
    }
    assert_eq!(batcher.stats().in_doubt, 0);
}
