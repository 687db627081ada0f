//! Every command, once against a server behind a real socket and once against the table itself.

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use standpipe_api::{Mapping, Origin};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use super::mappings::{Command, Failure, MappingAccess, run};
use super::{AdminClient, LocalMappings};
use crate::admin::testing::{FakeEngine, FakeTable, Health, odd_rows, pipes, serve, service};
use crate::config::Admin;

#[derive(Parser)]
struct Words {
    #[command(subcommand)]
    command: Command,
}

/// A table, and both ways to it.
struct Bench {
    folder: TempDir,
    table: Arc<FakeTable>,
    ways: [(&'static str, Box<dyn MappingAccess>); 2],
}

impl Bench {
    fn with(rows: impl IntoIterator<Item = Mapping>) -> Self {
        let (folder, table) = (TempDir::new().unwrap(), FakeTable::with(rows));
        let socket = folder.path().join("admin.sock");
        serve(service(&table), &socket);
        let remote = AdminClient::new(&Admin::Socket(socket)).unwrap();
        let local = LocalMappings::new(table.clone(), Arc::new(FakeEngine::default()));
        Self { folder, table, ways: [("remote", Box::new(remote)), ("local", Box::new(local))] }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

async fn command(access: &dyn MappingAccess, words: &[&str]) -> Result<(ExitCode, String), Failure> {
    let words = Words::try_parse_from([&["mappings"], words].concat()).unwrap();
    let mut out = Vec::new();
    let code = run(words.command, access, &mut out).await?;
    Ok((code, String::from_utf8(out).unwrap()))
}

#[tokio::test]
async fn a_mapping_can_be_set_shown_listed_and_forgotten() {
    let work = async {
        let bench = Bench::with([]);
        for (way, access) in &bench.ways {
            let key = ["pipe", "a/b c", "--parent", "arn:db"];
            let set: Vec<_> = ["set"].iter().chain(&key).copied().chain(["--provider", "beta"]).collect();
            command(&**access, &set).await.unwrap();
            let show: Vec<_> = ["show"].iter().chain(&key).copied().collect();
            let (_, shown) = command(&**access, &show).await.unwrap();
            for line in ["kind      pipe", "parent    arn:db", "id        a/b c", "origin    imported"] {
                assert!(shown.lines().any(|shown| shown == line), "{way}: {line} is not in\n{shown}");
            }
            let (_, listed) = command(&**access, &["list"]).await.unwrap();
            assert!(listed.contains("pipe  arn:db  a/b c  beta      live   imported  "), "{way}: {listed}");
            let forget: Vec<_> = ["forget"].iter().chain(&key).copied().collect();
            command(&**access, &forget).await.unwrap();
            let again = command(&**access, &forget).await.unwrap_err();
            assert!(matches!(again, Failure::Unknown(_)), "{way}: {again}");
            let unknown = command(&**access, &show).await.unwrap_err().to_string();
            assert!(unknown.starts_with("there is no mapping of pipe arn:db/a/b c"), "{way}: {unknown}");
        }
    };
    LocalSet::new().run_until(work).await;
}

#[tokio::test]
async fn a_refusal_says_the_same_both_ways() {
    let work = async {
        let bench = Bench::with(pipes(1));
        for (set, reason) in [
            (&["set", "pipe", "x", "--provider", "gamma"][..], "no provider is named gamma"),
            (
                &["set", "pipe", "p0000000", "--parent", "db", "--provider", "beta"],
                "of origin learned is there",
            ),
        ] {
            for (way, access) in &bench.ways {
                let failure = command(&**access, set).await.unwrap_err().to_string();
                assert!(failure.contains(reason), "{way}: {failure}");
            }
        }
        assert_eq!(bench.table.rows().len(), 1);
    };
    LocalSet::new().run_until(work).await;
}

#[tokio::test]
async fn an_export_imports_as_the_same_rows() {
    let work = async {
        let full = Bench::with(odd_rows().into_iter().chain(pipes(2000)));
        for (index, (way, from)) in full.ways.iter().enumerate() {
            let empty = Bench::with([]);
            let file = empty.file("rows.jsonl");
            command(&**from, &["export", &file]).await.unwrap();
            let (code, said) = command(&*empty.ways[index].1, &["import", &file]).await.unwrap();
            assert_eq!(code, ExitCode::SUCCESS);
            assert_eq!(said, "2009 read, 2009 written, 0 refused\n", "{way}");
            let keys =
                |table: &FakeTable| table.rows().into_iter().map(|row| row.resource).collect::<Vec<_>>();
            assert_eq!(keys(&empty.table), keys(&full.table), "{way}");
            assert!(empty.table.rows().iter().all(|row| row.origin == Origin::Imported));
        }
    };
    LocalSet::new().run_until(work).await;
}

#[tokio::test]
async fn an_import_with_bad_lines_names_them_and_fails() {
    let work = async {
        let bench = Bench::with([]);
        let good = serde_json::to_string(&pipes(1).next().unwrap()).unwrap();
        fs::write(bench.file("rows"), format!("{good}\nnonsense\n{}\n", good.replace("alpha", "gamma")))
            .unwrap();
        for (way, access) in &bench.ways {
            let (code, said) = command(&**access, &["import", &bench.file("rows")]).await.unwrap();
            assert_eq!(code, ExitCode::FAILURE, "{way}");
            let lines: Vec<_> = said.lines().collect();
            assert!(lines[0].starts_with("line 2: no mapping: "), "{way}: {said}");
            assert_eq!(
                lines[1..],
                ["line 3: no provider is named gamma", "3 read, 1 written, 2 refused"],
                "{way}"
            );
        }
    };
    LocalSet::new().run_until(work).await;
}

#[tokio::test]
async fn an_export_that_breaks_leaves_the_older_file_alone() {
    let work = async {
        let bench = Bench::with(pipes(2000));
        fs::write(bench.file("rows"), "older").unwrap();
        bench.table.set_health(Health::FailingAfter(600));
        for (way, access) in &bench.ways {
            assert!(command(&**access, &["export", &bench.file("rows")]).await.is_err(), "{way}");
            assert_eq!(fs::read_to_string(bench.file("rows")).unwrap(), "older", "{way}");
        }
        assert_eq!(fs::read_dir(bench.folder.path()).unwrap().count(), 2, "the socket and the older file");
    };
    LocalSet::new().run_until(work).await;
}

#[tokio::test]
async fn a_list_can_be_filtered_and_written_as_json_lines() {
    let work = async {
        let bench = Bench::with(odd_rows().into_iter().chain(pipes(3)));
        for (way, access) in &bench.ways {
            let (_, lines) = command(&**access, &["list", "--json", "--parent", "db"]).await.unwrap();
            let rows: Vec<Mapping> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(rows, pipes(3).collect::<Vec<_>>(), "{way}");
            let (_, table) = command(&**access, &["list"]).await.unwrap();
            assert_eq!(table.lines().count(), 1 + 9 + 3, "{way}: an odd id is one line\n{table}");
        }
    };
    LocalSet::new().run_until(work).await;
}

#[tokio::test]
async fn an_absent_server_is_named() {
    let folder = TempDir::new().unwrap();
    let client = AdminClient::new(&Admin::Socket(folder.path().join("nobody.sock"))).unwrap();
    let failure = command(&client, &["list"]).await.unwrap_err().to_string();
    assert!(failure.contains("nobody.sock") && failure.contains("is the server still running?"), "{failure}");
}

#[tokio::test]
async fn over_tcp_the_token_is_sent_and_never_shown() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = TempDir::new().unwrap();
    let token_file = folder.path().join("token");
    fs::write(&token_file, "0123456789abcdef\n").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = AdminClient::new(&Admin::Tcp { address, token_file }).unwrap();
    assert!(!format!("{client:?}").contains("0123456789abcdef"));
    let server = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        String::from_utf8(head).unwrap()
    };
    let (head, listed) = tokio::join!(server, command(&client, &["list", "--json"]));
    assert!(head.contains("authorization: Bearer 0123456789abcdef\r\n"), "{head}");
    assert!(head.contains(&format!("host: {address}\r\n")), "{head}");
    assert_eq!(listed.unwrap().1, "");
}
