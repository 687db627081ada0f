//! What standpipe finds out by itself where nobody asks in time, or nobody was told.

use std::thread;

use crate::osb::{call, put, said};
use crate::osb_operations::events;
use crate::support::osb::{Answered, front, message, service, telling};
use crate::support::{House, Origin, Standpipe, until};

const INSTANCE: &str = "/v2/service_instances/i";

fn house(alpha: &Origin, settings: &str) -> (House, Standpipe) {
    let house = front(&[("alpha", alpha, &format!("reconcile = true\n{settings}"))], "");
    let standpipe = served(&house);
    (house, standpipe)
}

fn served(house: &House) -> Standpipe {
    let standpipe = house.serve();
    until("the catalog is there", || call(&standpipe, "GET", "/v2/catalog", "").status == 200);
    standpipe
}

fn is(house: &House, state: &str) -> bool {
    house.command(&["mappings", "show", "service_instance", "i"]).1.contains(state)
}

fn state(word: &str) -> Answered {
    Some(message("200 OK", &format!(r#"{{"state":"{word}"}}"#)))
}

#[test]
fn nothing_is_deleted_for_being_late_before_its_broker_was_asked() {
    let alpha = telling(&[service("a", "db")], |request, _| match request.split(' ').next() {
        Some("PUT") => Some(message("202 Accepted", r#"{"operation":"c1"}"#)),
        Some("DELETE") => Some(message("200 OK", "{}")),
        _ => state("succeeded"),
    });
    // Late after a second, and nobody asks within a minute.
    let (house, standpipe) = house(&alpha, "maximum_polling_duration = \"1s\"");
    assert_eq!(put(&standpipe, "i", "a").status, 202);
    until("it settles", || events(&standpipe).contains(&"operation.settled".to_owned()));
    assert_eq!(events(&standpipe), ["operation.started", "operation.settled", "instance.created"]);
    assert!(is(&house, "live"));
    assert_eq!(said(&alpha, "DELETE"), 0);
}

#[test]
fn what_is_lost_while_what_was_there_is_deleted_is_cleaned_up_after() {
    let alpha = telling(&[service("a", "db")], |request, told| match (request.split(' ').next(), told) {
        (Some("PUT"), false) => Some(message("201 Created", "{}")),
        (Some("DELETE"), false) => Some(message("202 Accepted", r#"{"operation":"d1"}"#)),
        (Some("PUT"), true) => Some(message("500 Oops", "{}")),
        (Some("DELETE"), true) => Some(message("200 OK", "{}")),
        // The older deletion goes on until the creation was refused.
        _ if request.contains("operation=d1") && told => state("succeeded"),
        _ => state("in progress"),
    });
    let (house, standpipe) = house(&alpha, "reconcile_after = \"1s\"");
    assert_eq!(put(&standpipe, "i", "a").status, 201);
    assert_eq!(call(&standpipe, "DELETE", &format!("{INSTANCE}?accepts_incomplete=true"), "").status, 202);
    alpha.tell();
    assert_eq!(put(&standpipe, "i", "a").status, 500);
    until("what the second creation left is deleted", || said(&alpha, "DELETE") == 2);
    until("that is written down", || is(&house, "gone"));
}

#[test]
fn a_deletion_that_was_on_its_way_at_a_crash_is_asked_for_again() {
    let alpha = telling(&[service("a", "db")], |request, told| match request.split(' ').next() {
        Some("PUT") => Some(message("201 Created", "{}")),
        Some("DELETE") => told.then(|| message("200 OK", "{}")),
        _ => Some(message("404 Not Found", "{}")),
    });
    let (house, mut standpipe) = house(&alpha, "reconcile_after = \"1s\"");
    assert_eq!(put(&standpipe, "i", "a").status, 201);
    let address = standpipe.address;
    let platform = thread::spawn(move || {
        let request = format!(
            "DELETE {INSTANCE}?service_id=a&plan_id=a-small HTTP/1.1\r\nhost: x\r\nx-broker-api-version: 2.17\r\n\r\n"
        );
        crate::support::exchange(address, request.as_bytes())
    });
    until("it is on its way", || said(&alpha, "DELETE") == 1);
    standpipe.kill();
    alpha.tell();
    drop(platform.join());
    let standpipe = served(&house);
    until("it is gone", || events(&standpipe).contains(&"instance.deleted".to_owned()));
    assert_eq!(said(&alpha, "DELETE"), 2);
    assert!(is(&house, "gone"));
}

#[test]
fn what_standpipe_asks_by_itself_leaves_room_for_callers() {
    let alpha = telling(&[service("a", "db")], |request, told| match request.split(' ').next() {
        Some("PUT") => Some(message("202 Accepted", "{}")),
        _ if told => state("succeeded"),
        _ => None,
    });
    let (_house, standpipe) =
        house(&alpha, "reconcile_after = \"1s\"\nconcurrency = 2\nqueue_wait = \"100ms\"");
    for instance in ["i", "j", "k"] {
        assert_eq!(put(&standpipe, instance, "a").status, 202);
    }
    // As many as there are turns, if it may take them all.
    until("one is asked about", || said(&alpha, "GET /v2/service_instances/") > 0);
    assert_eq!(put(&standpipe, "l", "a").status, 202);
    alpha.tell();
}

#[test]
fn a_creation_that_is_lost_after_one_that_was_refused_while_the_older_goes_is_cleaned_up_after() {
    let alpha = telling(&[service("a", "db")], |request, told| match (request.split(' ').next(), told) {
        (Some("PUT"), false) => Some(message("201 Created", "{}")),
        (Some("PUT"), true) if request.contains("busy") => {
            Some(message("422 Unprocessable Entity", r#"{"error":"ConcurrencyError"}"#))
        }
        (Some("PUT"), true) => Some(message("500 Oops", "{}")),
        (Some("DELETE"), false) => Some(message("202 Accepted", r#"{"operation":"d1"}"#)),
        (Some("DELETE"), true) => Some(message("200 OK", "{}")),
        _ if request.contains("operation=d1") && told => state("succeeded"),
        _ => state("in progress"),
    });
    let (house, standpipe) = house(&alpha, "reconcile_after = \"3s\"");
    assert_eq!(put(&standpipe, "i", "a").status, 201);
    assert_eq!(call(&standpipe, "DELETE", &format!("{INSTANCE}?accepts_incomplete=true"), "").status, 202);
    alpha.tell();
    let busy = r#"{"service_id":"a","plan_id":"a-small","parameters":{"busy":true}}"#;
    assert_eq!(call(&standpipe, "PUT", INSTANCE, busy).status, 422);
    assert_eq!(put(&standpipe, "i", "a").status, 500);
    until("what the last creation left is deleted", || said(&alpha, "DELETE") == 2);
    until("that is written down", || is(&house, "gone"));
}
