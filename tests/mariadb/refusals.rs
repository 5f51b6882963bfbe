//! Rows that the driver, a trigger or the commit refuses: only they fail, and nothing is in doubt.

use super::*;

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

/// Scenario 45.
#[test]
fn a_row_over_the_packet_limit_fails_alone_at_once_and_is_never_in_doubt() {
    let Some(server) = Mariadb::own(&["--max-allowed-packet=1M"]) else {
        return;
    };
    for (name, one_statement) in [("packets", false), ("packets_one_statement", true)] {
        let (opts, mut conn, builder) = prepared(&server, name, Once::Never, 500);
        conn.query_drop("ALTER TABLE readings MODIFY text mediumtext NOT NULL")
            .unwrap();
        let mut writer = writer(&opts, Once::Never);
        writer.one_statement = one_statement;
        let batcher = builder.linger(LONG).spawn(writer).unwrap();
        let text = |id: i64| {
            if id == 137 {
                "x".repeat(2 << 20)
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
        only_these_fail(&batcher, &[137]);
        let stats = batcher.stats();
        assert_eq!(
            (stats.retries, stats.split_retries),
            (0, 0),
            "nothing was tried again as it was: {stats:?}"
        );
        assert!(stats.calls <= 1 + 2 * 9, "{}", stats.calls);
        drop(batcher);
        assert_eq!(counts(&mut conn), (499, 499));
    }
}

/// Scenario 40: sixty bad rows side by side among 500, across the boundary of the halves.
#[test]
fn rows_that_a_trigger_refuses_fail_and_take_no_good_row_with_them() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    let (opts, mut conn, builder) = prepared(server, "trigger_refuses", Once::Key, 500);
    conn.query_drop(
        "CREATE TRIGGER refuse BEFORE INSERT ON readings FOR EACH ROW
            IF NEW.value < 0 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'negative'; END IF",
    )
    .unwrap();
    let bad: Vec<i64> = (220..280).collect();
    let batcher = builder
        .linger(LONG)
        .spawn(writer(&opts, Once::Key))
        .unwrap();
    let value = |id: i64| if bad.contains(&id) { -1.0 } else { 1.0 };
    batcher
        .add_many((0..500).map(|id| Row {
            value: value(id),
            ..row(id)
        }))
        .unwrap();
    only_these_fail(&batcher, &bad);
    assert_eq!(counts(&mut conn), (440, 440));
}
