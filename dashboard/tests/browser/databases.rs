//! The demo over real databases: the same page, and the rows are there.

use load_aware_batcher_rusqlite::rusqlite::Connection;
use testkit::servers::postgres::Postgres;

use crate::demo::Demo;
use crate::webdriver::{Page, Tested};

const TABLES: [&str; 3] = [
    "load_aware_batcher_demo_1",
    "load_aware_batcher_demo_2",
    "load_aware_batcher_demo_3",
];

/// Rows that were shown as handled are in their table, through a broken backend too; at its end the
/// demo leaves no table behind. `count` counts rows, `None` without the table.
fn writes_what_it_shows(url: &str, mut count: impl FnMut(&str) -> Option<i64>) -> Tested {
    let mut demo = Demo::start(&["--url", url])?;
    let Some(page) = Page::wide(&demo.url)? else {
        return Ok(());
    };
    page.until("state.frames.at(-1)?.batchers.every((b) => b.handled > 500)")?;
    page.choose("break the backend")?;
    page.until("state.frames.at(-1).batchers.every((b) => b.failing_for != null)")?;
    page.run("window.broken = state.frames.at(-1).batchers.map((b) => b.handled)")?;
    page.choose("works")?;
    page.until("state.frames.at(-1).batchers.every((b, i) => b.handled > broken[i] + 500)")?;
    page.until("state.frames.at(-1).batchers.every((b) => b.failed === 0)")?;
    page.until("document.querySelector('[data-total=account]').textContent === '✓'")?;
    let handled = page.run("return state.frames.at(-1).batchers.map((b) => b.handled)")?;
    for (table, handled) in TABLES.into_iter().zip(handled.as_array().ok_or("a list")?) {
        let rows = count(table).ok_or("no table")?;
        assert!(rows >= handled.as_i64().ok_or("a count")?, "{table}");
    }
    assert_eq!(page.errors(false)?, Vec::<String>::new());
    assert!(demo.end()?.success());
    assert_eq!(TABLES.map(count), [None; 3]);
    Ok(())
}

#[test]
fn the_rows_that_the_page_shows_are_in_postgres() -> Tested {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let (_, mut client) = server.database("demo");
    let socket = server.socket();
    let folder = socket.parent().ok_or("a folder")?.display();
    let url = format!("host={folder} user=postgres dbname=demo");
    writes_what_it_shows(&url, |table| {
        let query = format!("SELECT count(*) FROM {table}");
        client.query_one(&query, &[]).ok().map(|row| row.get(0))
    })
}

#[test]
fn the_neighbours_lock_the_tables_of_postgres() -> Tested {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    server.database("neighbours");
    let socket = server.socket();
    // As a URL has it.
    let folder = socket.parent().ok_or("a folder")?.display().to_string();
    let folder = folder.replace('/', "%2F");
    let url = format!("postgres://postgres@{folder}/neighbours");
    let demo = Demo::start(&["--url", &url])?;
    let Some(page) = Page::wide(&demo.url)? else {
        return Ok(());
    };
    page.until("state.frames.at(-1)?.batchers.every((b) => b.handled > 0)")?;
    page.choose("neighbours")?;
    page.until("state.frames.at(-1).batchers.some((b) => b.signals.db_locks > 0)")?;
    assert_eq!(page.errors(false)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn the_rows_that_the_page_shows_are_in_sqlite() -> Tested {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("demo.db");
    let url = format!("sqlite:{}", file.display());
    writes_what_it_shows(&url, |table| {
        let connection = Connection::open(&file).ok()?;
        let query = format!("SELECT count(*) FROM {table}");
        connection.query_row(&query, [], |row| row.get(0)).ok()
    })
}
