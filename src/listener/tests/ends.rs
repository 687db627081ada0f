//! The end, other sockets, ports.

use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::spawn_local;

use super::support::{Front, Stub, listener, on_a_core, until};
use crate::config::Limits;
use crate::listener::{Drain, Shared, bind, serve_unix};

#[test]
fn the_end_finishes_what_is_in_flight_and_takes_nothing_new() {
    on_a_core(async {
        let front = Front::start(&Limits::default());
        let (mut busy, mut idle, mut silent) =
            (front.connect().await, front.connect().await, front.connect().await);
        busy.send("GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await;
        idle.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        idle.read_to("\r\n\r\n").await;
        until(|| front.shared.in_flight() == 1 && front.shared.connections() == 3).await;
        front.drain.begin();
        assert_eq!((idle.rest().await, silent.rest().await), (String::new(), String::new()));
        until(|| front.shared.connections() == 1).await;
        assert!(tokio::net::TcpStream::connect(front.address).await.is_err());
        assert!(!front.serving.is_finished());
        front.stub.0.go.notify_one();
        let answer = busy.rest().await;
        assert!(answer.contains("connection: close") && answer.ends_with("waited"), "{answer}");
        front.serving.await.unwrap();
    });
}

#[test]
fn an_end_that_has_begun_is_seen_by_who_asks_later() {
    on_a_core(async {
        let drain = Drain::new();
        let waiting = spawn_local({
            let drain = drain.clone();
            async move { drain.begun().await }
        });
        tokio::task::yield_now().await;
        assert!(!drain.has_begun() && !waiting.is_finished());
        drain.begin();
        waiting.await.unwrap();
        drain.begun().await;
    });
}

#[test]
fn the_operators_socket_speaks_the_same() {
    on_a_core(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin");
        let socket = UnixListener::bind(&path).unwrap();
        let shared = Arc::new(Shared::new(&[], &Limits::default()).unwrap());
        let drain = Drain::new();
        let serving =
            spawn_local(serve_unix(socket, shared.clone(), Rc::new(Stub::default()), drain.clone()));
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(b"GET /who HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("http 0"), "{answer}");
        drain.begin();
        serving.await.unwrap();
    });
}

#[test]
fn all_cores_share_the_port_that_was_free() {
    let bound = bind(&[listener(None), listener(None)], 3).unwrap();
    let addresses = bound.addresses().to_vec();
    assert!(addresses.iter().all(|address| address.port() != 0) && addresses[0] != addresses[1]);
    for core in bound.into_cores() {
        let real: Vec<_> = core.0.iter().map(|(_, socket)| socket.local_addr().unwrap()).collect();
        assert_eq!(real, addresses);
    }
    let foreign = crate::config::Listener { address: "192.0.2.1:1".parse().unwrap(), ..listener(None) };
    let error = bind(&[listener(None), foreign], 1).err().unwrap().to_string();
    assert!(error.starts_with("listener[1].address: cannot listen on 192.0.2.1:1"), "{error}");
}
