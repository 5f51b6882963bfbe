//! Commits whose answers are lost, and the recipe that stores their rows once.

use super::*;

fn through(proxy: &Proxy, name: &str) -> Opts {
    OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(proxy.port())
        .user(Some("root"))
        .db_name(Some(name))
        // Otherwise the driver would bypass the proxy.
        .prefer_socket(false)
        .into()
}

/// Every fourth commit is lost, in turn after and before it reaches the server.
fn every_fourth(number: u64) -> Fate {
    match number % 8 {
        3 => Fate::LoseAnswer,
        7 => Fate::LoseRequest,
        _ => Fate::Pass,
    }
}

#[test]
fn rows_with_a_key_are_stored_exactly_once_though_answers_are_lost() {
    let Some(server) = Mariadb::shared() else {
        return;
    };
    for (name, dedup) in [
        ("answers_key", Dedup::Key),
        ("answers_batch", Dedup::BatchId),
    ] {
        let (_, mut conn, builder) = prepared(server, name, dedup, 100);
        let proxy = Proxy::start(&server.socket(), every_fourth);
        let batcher = builder
            .spawn(writer(&through(&proxy, name), dedup))
            .unwrap();
        batcher.add_many((0..5_000).map(Row::of)).unwrap();
        assert_eq!(batcher.flush(LONG), Ok(()));
        drop(batcher);
        assert_eq!(counts(&mut conn), (5_000, 5_000));
        assert!(proxy.counts().1 >= 10, "{:?}", proxy.counts());
    }
}
