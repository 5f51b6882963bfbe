//! The server over a plain `TcpStream`: what it answers, what it refuses, and that it ends.

mod client;

use std::error::Error;
use std::io::Read;
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

use load_aware_batcher::{Batch, BatchError, Batcher, LoadFeedback};
use load_aware_batcher_dashboard::Dashboard;

use client::{Events, get, send};

type Tested = Result<(), Box<dyn Error>>;

const SOON: Duration = Duration::from_secs(60);

fn batcher(name: &str) -> Batcher<u64> {
    let builder = Batcher::builder().name(name);
    builder
        .spawn(|_: &mut Batch<u64>| Ok(LoadFeedback::new()))
        .unwrap()
}

fn host(dashboard: &Dashboard) -> String {
    dashboard.address().to_string()
}

#[test]
fn every_page_is_answered_with_its_type_and_the_security_headers() -> Tested {
    let batcher = batcher("orders");
    let dashboard = Dashboard::start([batcher.observer()])?;
    for (path, kind) in [
        ("/", "text/html"),
        ("/page.js", "text/javascript"),
        ("/page.css", "text/css"),
        ("/uplot.js", "text/javascript"),
        ("/uplot.css", "text/css"),
        ("/stats.json", "application/json"),
        ("/metrics", "text/plain; version=0.0.4"),
    ] {
        let answer = get(&dashboard, path)?;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n"),
            "{path}: {answer}"
        );
        assert!(answer.contains(&format!("Content-Type: {kind}")), "{path}");
        assert!(
            answer.contains("Content-Security-Policy: default-src 'none';"),
            "{path}"
        );
        let length = answer.split("Content-Length: ").nth(1).unwrap();
        let length: usize = length.split("\r\n").next().unwrap().parse()?;
        assert_eq!(
            answer.split_once("\r\n\r\n").unwrap().1.len(),
            length,
            "{path}"
        );
    }
    assert!(get(&dashboard, "/no")?.starts_with("HTTP/1.1 404 "));
    Ok(())
}

#[test]
fn the_numbers_are_those_of_stats() -> Tested {
    let batchers = [batcher("orders"), batcher("readings")];
    let dashboard = Dashboard::start(batchers.iter().map(Batcher::observer))?;
    batchers[1].add_many(0..77)?;
    batchers[1].flush(SOON)?;
    let stats = batchers[1].stats();
    let json = get(&dashboard, "/stats.json")?;
    let readings = json.split(r#""name":"readings""#).nth(1).unwrap();
    for number in [
        format!(r#""added":{}"#, stats.added),
        format!(r#""handled":{}"#, stats.handled),
        format!(r#""calls":{}"#, stats.calls),
        format!(r#""queue_capacity":{}"#, stats.queue_capacity),
    ] {
        assert!(readings.contains(&number), "{number} in {readings}");
    }
    assert_eq!(stats.handled, 77);
    let metrics = get(&dashboard, "/metrics")?;
    assert!(
        metrics.contains("batcher_items_added_total{batcher=\"readings\"} 77"),
        "{metrics}"
    );
    Ok(())
}

#[test]
fn a_foreign_host_is_refused() -> Tested {
    let batcher = batcher("orders");
    let builder = Dashboard::builder().watch(batcher.observer());
    let dashboard = builder.host("ops.example").start()?;
    for (name, status) in [
        ("evil.example", "403"),
        ("127.0.0.1.evil.example:80", "403"),
        ("ops.example", "200"),
        ("localhost:1", "200"),
        ("[::1]", "200"),
    ] {
        for path in ["/", "/stats.json", "/metrics"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n");
            let answer = send(&dashboard, &request)?;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{name}: {answer}"
            );
        }
    }
    let events = send(
        &dashboard,
        "GET /events HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    )?;
    assert!(events.starts_with("HTTP/1.1 403 "), "{events}");
    let none = send(&dashboard, "GET / HTTP/1.1\r\n\r\n")?;
    assert!(none.starts_with("HTTP/1.1 403 "), "{none}");
    Ok(())
}

#[test]
fn only_get_is_answered() -> Tested {
    let batcher = batcher("orders");
    let dashboard = Dashboard::start([batcher.observer()])?;
    for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
        for path in ["/", "/control", "/events"] {
            let host = host(&dashboard);
            let request =
                format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n\r\na=b");
            let answer = send(&dashboard, &request)?;
            assert!(
                answer.starts_with("HTTP/1.1 405 "),
                "{method} {path}: {answer}"
            );
            assert!(answer.contains("\r\nAllow: GET\r\n"), "{answer}");
        }
    }
    Ok(())
}

#[test]
fn a_control_needs_its_token_and_a_choice_that_exists() -> Tested {
    let batcher = batcher("orders");
    let (pressed, presses) = mpsc::channel();
    let dashboard = Dashboard::builder()
        .watch(batcher.observer())
        .control("load", ["low", "high"], move |choice| {
            pressed.send(choice.to_owned()).unwrap();
        })
        .start()?;
    let hello = Events::open(&dashboard, "")?.next("hello")?;
    let token = hello
        .split(r#""token":""#)
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let press = |token: &str, body: &str| {
        let (host, length) = (host(&dashboard), body.len());
        let request = format!(
            "POST /control HTTP/1.1\r\nHost: {host}\r\nX-Dashboard-Token: {token}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        send(&dashboard, &request)
    };
    assert!(press("", "load=high")?.starts_with("HTTP/1.1 403 "));
    assert!(press("0123", "load=high")?.starts_with("HTTP/1.1 403 "));
    assert!(press(token, "load=middle")?.starts_with("HTTP/1.1 400 "));
    assert!(press(token, "other=high")?.starts_with("HTTP/1.1 400 "));
    assert!(presses.try_recv().is_err());
    assert!(press(token, "load=high")?.starts_with("HTTP/1.1 200 "));
    assert_eq!(presses.try_recv()?, "high");
    let mut events = Events::open(&dashboard, "")?;
    while !events.next("message")?.contains(r#""chosen":["high"]"#) {}
    Ok(())
}

#[test]
fn the_seventeenth_connection_is_refused_and_a_closed_one_makes_room() -> Tested {
    let batcher = batcher("orders");
    let dashboard = Dashboard::start([batcher.observer()])?;
    let mut open = Vec::new();
    for _ in 0..16 {
        let mut events = Events::open(&dashboard, "")?;
        events.next("hello")?;
        open.push(events);
    }
    let refused = get(&dashboard, "/")?;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    drop(open.pop());
    // The server notices at one of its next frames.
    for _ in 0..100 {
        if get(&dashboard, "/")?.starts_with("HTTP/1.1 200 ") {
            return Ok(());
        }
        open[0].next("message")?;
    }
    panic!("the place is not free after 100 frames");
}

#[test]
fn a_reload_has_history_and_a_reconnect_has_what_it_missed() -> Tested {
    let batcher = batcher("orders");
    batcher.add(1)?;
    batcher.flush(SOON)?;
    let dashboard = Dashboard::start([batcher.observer()])?;
    let mut first = Events::open(&dashboard, "")?;
    let one = first.next("message")?;
    // The calls of before the dashboard's start are there.
    assert!(one.contains(r#""calls":[["#), "{one}");
    let id = first.id.clone();
    let two = first.next("message")?;
    let three = first.next("message")?;
    drop(first);

    let mut reload = Events::open(&dashboard, "")?;
    let again = [
        reload.next("message")?,
        reload.next("message")?,
        reload.next("message")?,
    ];
    assert_eq!(again, [one.as_str(), two.as_str(), three.as_str()]);

    let mut reconnect = Events::open(&dashboard, &id)?;
    assert_eq!(reconnect.next("message")?, two);

    let mut of_another_run = Events::open(&dashboard, "0123-9999999")?;
    assert_eq!(of_another_run.next("message")?, one);
    Ok(())
}

#[test]
fn a_failed_row_is_in_the_log_and_its_text_ends_no_line_and_no_script() -> Tested {
    let batcher = Batcher::builder().name("</script>\n").spawn(
        |_: &mut Batch<u64>| -> Result<LoadFeedback, BatchError> {
            Err(BatchError::permanent(
                "a \"bad\" row\n\ndata: <script>alert(1)</script>",
            ))
        },
    )?;
    batcher.add(1)?;
    batcher.flush(SOON).unwrap_err();
    let dashboard = Dashboard::start([batcher.observer()])?;
    let mut events = Events::open(&dashboard, "")?;
    let hello = events.next("hello")?;
    assert!(
        hello.contains(r#""names":["\u003c/script\u003e\u000a"]"#),
        "{hello}"
    );
    let log = events.next("log")?;
    assert!(log.contains(r#""class":"permanent""#), "{log}");
    let text = r#"a \"bad\" row\u000a\u000adata: \u003cscript\u003ealert(1)\u003c/script\u003e"#;
    assert!(log.contains(text), "{log}");
    assert!(!get(&dashboard, "/stats.json")?.contains("<script>"));
    Ok(())
}

#[test]
fn what_is_too_large_or_not_http_is_refused() -> Tested {
    let batcher = batcher("orders");
    let dashboard = Dashboard::start([batcher.observer()])?;
    let host = host(&dashboard);
    for request in [
        "nonsense\r\n\r\n".to_owned(),
        format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n",
            "x".repeat(9000)
        ),
        format!("POST /control HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99999\r\n\r\n"),
    ] {
        let answer = send(&dashboard, &request)?;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    Ok(())
}

#[test]
fn a_client_that_sends_nothing_is_cut_off() -> Tested {
    let batcher = batcher("orders");
    let dashboard = Dashboard::start([batcher.observer()])?;
    let mut silent = TcpStream::connect(dashboard.address())?;
    silent.set_read_timeout(Some(SOON))?;
    let mut answer = String::new();
    // Returns since the server closes.
    silent.read_to_string(&mut answer)?;
    assert_eq!(answer, "");
    Ok(())
}

#[test]
fn the_drop_ends_every_connection_and_frees_the_port() -> Tested {
    let batcher = batcher("orders");
    let dashboard = Dashboard::start([batcher.observer()])?;
    let address = dashboard.address();
    let mut events = Events::open(&dashboard, "")?;
    events.next("message")?;
    let _silent = TcpStream::connect(address)?;
    drop(dashboard);
    while events.next("message").is_ok() {}
    assert!(TcpStream::connect(address).is_err());
    // It kept nothing open, and the batcher goes on.
    batcher.add(1)?;
    assert!(batcher.close(SOON).is_clean());
    Ok(())
}

#[test]
fn a_dropped_batcher_stays_with_its_last_numbers() -> Tested {
    let batcher = batcher("orders");
    let dashboard = Dashboard::start([batcher.observer()])?;
    batcher.add(1)?;
    drop(batcher);
    let json = get(&dashboard, "/stats.json")?;
    assert!(json.contains(r#""handled":1,"#), "{json}");
    assert!(json.contains(r#""phase":"done""#), "{json}");
    Ok(())
}

#[test]
fn a_dashboard_of_nothing_is_refused() {
    let error = Dashboard::start([]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}
