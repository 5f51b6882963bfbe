//! Connections by TLS, to a server whose certificate nobody but the test trusts.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio, id};
use std::sync::Arc;

use load_aware_batcher_postgres::Postgres;
use load_aware_batcher_postgres::postgres::config::SslMode;
use load_aware_batcher_postgres::postgres::{Config, NoTls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use testkit::servers::postgres::Postgres as Server;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::rows::{Database, KEYED, LONG, builder, columns, reading, until, whole};

/// For `localhost`, by itself and no authority.
const CERTIFICATE: &str = "[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = localhost
[extensions]
subjectAltName = DNS:localhost
basicConstraints = critical, CA:FALSE
";

/// Makes a certificate and its key, if there is a program for that.
fn certificate(folder: &Path) -> bool {
    let config = folder.join("certificate.cnf");
    fs::write(&config, CERTIFICATE).unwrap();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"])
        .args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-config"])
        .arg(&config)
        .arg("-keyout")
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(folder.join("certificate.pem"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    made.is_ok_and(|status| status.success())
}

/// A connector that trusts this certificate, or none.
fn trusting(certificate: Option<&Path>) -> MakeRustlsConnect {
    let mut roots = RootCertStore::empty();
    if let Some(path) = certificate {
        roots
            .add(CertificateDer::from_pem_file(path).unwrap())
            .unwrap();
    }
    let config = ClientConfig::builder().with_root_certificates(Arc::new(roots));
    MakeRustlsConnect::new(config.with_no_client_auth())
}

#[test]
fn rows_go_by_tls_and_a_server_that_is_not_trusted_is_named() {
    // Not over the socket, which has no TLS: at an address of the loopback network of its own.
    let [.., high, low] = id().to_be_bytes();
    let address = Ipv4Addr::new(127, 77, high, low);
    let Some(server) = Server::own(&[&format!("listen_addresses={address}")]) else {
        return;
    };
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    if !certificate(folder.path()) {
        eprintln!("SKIPPED: there is no openssl");
        return;
    }
    let file = |name| folder.path().join(name);
    for path in [folder.path(), &file("key.pem"), &file("certificate.pem")] {
        server.own_folder(path);
    }
    let mut database = Database::new(&server, "tls", KEYED);
    for (setting, value) in [
        ("ssl_key_file", file("key.pem").display().to_string()),
        (
            "ssl_cert_file",
            file("certificate.pem").display().to_string(),
        ),
        ("ssl", "on".to_owned()),
    ] {
        database.run(&format!("ALTER SYSTEM SET {setting} = '{value}'"));
    }
    database.run("SELECT pg_reload_conf()");

    let mut config = Config::new();
    config
        .host("localhost")
        .hostaddr(address.into())
        .user("postgres")
        .dbname("tls")
        .ssl_mode(SslMode::Require);
    let trusting_it = trusting(Some(&file("certificate.pem")));
    until(|| config.connect(trusting_it.clone()).is_ok());
    let sink = columns(Postgres::new(config.clone())).tls(trusting_it);
    let batcher = whole(100).sink(sink).unwrap();
    batcher.add_many((0..1_000).map(reading)).unwrap();
    batcher.flush(LONG).unwrap();
    let by_tls = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE datname = 'tls' AND ssl";
    assert!(database.number(by_tls) >= 1, "the writer's connection");
    assert!(batcher.close(LONG).is_clean());
    assert_eq!(database.counts(), (1_000, 1_000));

    let refused = |sink| {
        let refused = builder(1).sink(sink).expect_err("it does not connect");
        refused.to_string()
    };
    let not_trusted = refused(columns(Postgres::new(config.clone())).tls(trusting(None)));
    assert!(
        not_trusted.starts_with("cannot connect to localhost:5432: ")
            && not_trusted.contains("certificate"),
        "{not_trusted}"
    );
    let without = refused(columns(Postgres::new(config)).tls(NoTls));
    assert!(
        without.starts_with("cannot connect to localhost:5432: ") && without.contains("TLS"),
        "{without}"
    );
}
