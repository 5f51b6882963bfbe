//! Rows that the driver, a trigger or the commit refuses: only they fail, and nothing is in doubt.

use std::error::Error;

use postgres::types::{IsNull, Type, private::BytesMut, to_sql_checked};

use super::*;
use crate::ingest::postgres_writer::failed;

/// An id that the driver cannot send if it is this one.
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
        let (config, mut client, builder) = prepared(server, name, Once::Never, 500);
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
        batcher.add_many((0..500).map(row)).unwrap();
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

/// Flushes; the rows with these ids fail for good, and no other.
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

/// Scenario 46.
#[test]
fn a_deferred_constraint_at_the_commit_fails_the_bad_row_alone_and_leaves_nothing_in_doubt() {
    let Some(server) = Postgres::shared() else {
        return;
    };
    let (config, mut client, builder) = prepared(server, "deferred", Once::Never, 200);
    client
        .batch_execute(
            "ALTER TABLE readings ADD UNIQUE (text) DEFERRABLE INITIALLY DEFERRED;
             INSERT INTO readings VALUES (-1, 0, 'taken')",
        )
        .unwrap();
    let batcher = builder
        .linger(LONG)
        .spawn(writer(&config, Once::Never))
        .unwrap();
    let text = |id: i64| {
        if id == 77 {
            "taken".to_owned()
        } else {
            id.to_string()
        }
    };
    batcher
        .add_many((0..200).map(|id| Row {
            text: text(id),
            ..row(id)
        }))
        .unwrap();
    only_these_fail(&batcher, &[77]);
    assert_eq!(batcher.stats().retries, 0);
    assert_eq!(
        counts(&mut client),
        (200, 200),
        "199 and the one that was there"
    );
}

/// Scenario 46.
#[test]
fn a_serialization_failure_at_the_commit_is_tried_again_and_leaves_nothing_in_doubt() {
    let Some(server) = Postgres::shared() else {
        return;
    };
    let (config, mut client, builder) = prepared(server, "serialization", Once::Never, 200);
    // A sequence keeps its value over a rollback: the first commit fails, the second goes through.
    client
        .batch_execute(
            "CREATE SEQUENCE commits;
             CREATE FUNCTION first_commit_fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.id = 0 AND nextval('commits') = 1 THEN
                     RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
                 END IF;
                 RETURN NULL;
             END $$;
             CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON readings DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION first_commit_fails()",
        )
        .unwrap();
    let batcher = builder
        .linger(LONG)
        .spawn(writer(&config, Once::Never))
        .unwrap();
    batcher.add_many((0..200).map(row)).unwrap();
    assert_eq!(batcher.flush(LONG), Ok(()));
    let stats = batcher.stats();
    assert_eq!((stats.handled, stats.in_doubt), (200, 0));
    assert_eq!(tried_again(&stats), 1);
    assert_eq!(counts(&mut client), (200, 200));
}

/// Scenario 40: sixty bad rows side by side among 500, across the boundary of the halves.
#[test]
fn rows_that_a_trigger_or_an_index_refuses_fail_and_take_no_good_row_with_them() {
    let Some(server) = Postgres::shared() else {
        return;
    };
    let bad: Vec<i64> = (220..280).collect();
    // No compression makes this fit into an index page.
    let mut long = String::new();
    let mut state = 1u64;
    while long.len() < 9_000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        long.push_str(&format!("{state:x}"));
    }
    let trigger = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF length(NEW.text) > 1000 THEN RAISE EXCEPTION 'too long'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON readings FOR EACH ROW EXECUTE FUNCTION refuse()";
    for (name, setup, code) in [
        ("trigger_refuses", trigger, "P0001"),
        ("index_refuses", "CREATE INDEX ON readings (text)", "54000"),
    ] {
        let (config, mut client, builder) = prepared(server, name, Once::Key, 500);
        client.batch_execute(setup).unwrap();
        let (tell, codes) = mpsc::channel();
        let mut writer = writer(&config, Once::Key);
        let handler = move |batch: &mut Batch<Row>| {
            writer
                .handle(batch)
                .inspect_err(|error| tell.send(code_of(error)).unwrap())
        };
        let batcher = builder.linger(LONG).spawn(handler).unwrap();
        let text = |id: i64| {
            if bad.contains(&id) {
                long.clone()
            } else {
                String::new()
            }
        };
        batcher
            .add_many((0..500).map(|id| Row {
                text: text(id),
                ..row(id)
            }))
            .unwrap();
        only_these_fail(&batcher, &bad);
        drop(batcher);
        assert!(codes.iter().all(|found| found.as_deref() == Some(code)));
        assert_eq!(counts(&mut client), (440, 440));
    }
}
