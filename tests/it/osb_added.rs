//! Brokers that are new: what needs the catalog of one that was just registered waits until that was read; one that stands behind
//! another prefix than before is noted.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::osb::{call, put, said};
use crate::support::osb::{broker, front, message, service};
use crate::support::{Origin, until};

fn created(request: &str) -> Option<String> {
    Some(message(if request.starts_with("PUT") { "201 Created" } else { "404 Not Found" }, "{}"))
}

/// Gives its catalog to whoever registers it, and again only when the test says so.
fn slow() -> Origin {
    let (catalog, asked) = (json!({ "services": [service("b", "mq")] }).to_string(), AtomicUsize::new(0));
    Origin::new(move |mut peer| {
        while let Some(request) = peer.request() {
            if !request.starts_with("GET /v2/catalog ") {
                peer.wire.send(created(&request).unwrap());
                continue;
            }
            if asked.fetch_add(1, Ordering::Relaxed) > 0 {
                until("the test goes on", || peer.told());
            }
            peer.wire.send(message("200 OK", &catalog));
        }
    })
}

#[test]
fn what_needs_a_broker_that_was_just_registered_waits_for_its_catalog() {
    let (alpha, beta) = (broker(&[service("a", "db")], created), slow());
    let house = front(&[("alpha", &alpha, "")], "");
    let standpipe = house.serve();
    assert_eq!(put(&standpipe, "i", "a").status, 201);
    let table = json!({ "name": "beta", "dialect": "osb", "url": format!("http://{}", beta.address) });
    assert_eq!(house.admin("POST", "/providers", &table.to_string()).status, 201);
    std::thread::scope(|scope| {
        let catalog = scope.spawn(|| call(&standpipe, "GET", "/v2/catalog", ""));
        let created = scope.spawn(|| put(&standpipe, "j", "b"));
        // What does not need it goes on.
        assert_eq!(put(&standpipe, "k", "a").status, 201);
        assert_eq!(call(&standpipe, "GET", "/v2/service_instances/i", "").status, 404);
        until("its catalog is read", || said(&beta, "GET /v2/catalog") == 2);
        beta.tell();
        assert_eq!(created.join().unwrap().status, 201);
        assert_eq!(catalog.join().unwrap().json()["services"].as_array().unwrap().len(), 2);
    });
    assert_eq!((said(&alpha, "PUT"), said(&beta, "PUT")), (2, 1));
}

#[test]
fn a_start_that_gives_a_broker_another_prefix_says_so_once() {
    let alpha = broker(&[service("a", "db")], created);
    let house = front(&[("alpha", &alpha, "id_prefix = \"x.\"")], "");
    let noted = || house.figures().contains("note=\"ids-changed\"");
    let mut standpipe = house.serve();
    assert_eq!((put(&standpipe, "i", "x.a").status, noted()), (201, false));
    standpipe.kill();
    let config = std::fs::read_to_string(&house.config).unwrap();
    std::fs::write(&house.config, config.replace("\"x.\"", "\"y.\"")).unwrap();
    for (instance, is_told) in [("j", true), ("k", false)] {
        let mut standpipe = house.serve();
        assert_eq!((put(&standpipe, instance, "y.a").status, noted()), (201, is_told));
        standpipe.kill();
    }
}
