//! A mapping that is out of date: what it names is at another provider by now.

use std::net::SocketAddr;

use crate::support::{House, Origin, Standpipe, until};

const LISTED: &str = "\"shared\"";

struct World {
    one: Standpipe,
    two: Standpipe,
    house: House,
    standpipe: Standpipe,
}

impl World {
    /// Both brokers have the resource; `listed` says whether the configuration knows.
    fn new(listed: &str) -> Self {
        let [one, two] = ["one", "two"].map(|name| House::broker(name, 0, &["shared"]).run_broker());
        let house = House::in_front_of(&[("one", one.address, listed), ("two", two.address, listed)]);
        let standpipe = house.serve();
        Self { one, two, house, standpipe }
    }

    /// The configuration says from now on that only the second has it.
    fn move_the_resource(&self) {
        self.list("", LISTED);
        let lists = |answer: crate::support::Answer| answer.header("standpipe-provider") == Some("two");
        until("the second has it alone", || lists(self.standpipe.get("/shared/pipes")));
    }

    fn list(&self, one: &str, two: &str) {
        let (first, second) = (self.one.address, self.two.address);
        let with = House::in_front_of(&[("one", first, one), ("two", second, two)]);
        std::fs::copy(&with.config, &self.house.config).unwrap();
        self.standpipe.signal("-HUP");
    }

    fn create_at_one(&self) {
        let pinned = self.standpipe.call("POST", "/shared/pipes", &[("standpipe-provider", "one")], PIPE);
        assert_eq!(pinned.status, 201, "{pinned:?}");
    }

    /// What no mapping hears of.
    fn move_the_pipe(&self) {
        assert_eq!(self.one.call("DELETE", "/shared/pipes/mv1", &[], "").status, 204);
        assert_eq!(self.two.post("/shared/pipes", PIPE).status, 201);
    }

    fn read(&self) -> (u16, Option<String>) {
        let answer = self.standpipe.get("/shared/pipes/mv1");
        (answer.status, answer.header("standpipe-provider").map(str::to_owned))
    }

    fn patch(&self) -> u16 {
        self.standpipe.call("PATCH", "/shared/pipes/mv1", &[], r#"{"other":{"data":{"a":"b"}}}"#).status
    }

    fn shown(&self) -> String {
        let text = self.house.command(&["mappings", "show", "pipe", "mv1", "--parent", "shared"]).1;
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

const PIPE: &str = r#"{"id":"mv1"}"#;

fn at(provider: &str) -> (u16, Option<String>) {
    (200, Some(provider.to_owned()))
}

#[test]
fn a_pipe_that_moved_with_its_resource_is_found_and_its_mapping_corrected() {
    let world = World::new(LISTED);
    world.create_at_one();
    world.move_the_pipe();
    world.move_the_resource();
    assert_eq!(world.patch(), 404, "a write follows the mapping");
    assert_eq!(world.read(), at("two"));
    assert!(
        world.shown().contains("provider two") && world.shown().contains("state live"),
        "{}",
        world.shown()
    );
    assert_eq!(world.patch(), 202);
    assert_eq!(world.standpipe.call("DELETE", "/shared/pipes/mv1", &[], "").status, 204);
    assert_eq!(world.two.get("/shared/pipes/mv1").status, 404);
}

#[test]
fn the_links_of_a_pipe_that_moved_are_those_of_where_it_is() {
    let broker = |answer: &'static str, body: &'static str| {
        Origin::new(move |mut peer| {
            while let Some(request) = peer.request() {
                let host =
                    request.to_lowercase().split("host: ").nth(1).unwrap().lines().next().unwrap().to_owned();
                let body = body.replace("HOST", &host);
                let length = body.len();
                peer.wire.send(format!("HTTP/1.1 {answer}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"));
            }
        })
    };
    let one = broker("404 Not Found", "{}");
    let two = broker("200 OK", r#"{"id":"mv1","_links":{"self":{"href":"http://HOST/shared/pipes/mv1"}}}"#);
    let house = House::in_front_of(&[("one", one.address, ""), ("two", two.address, LISTED)]);
    let standpipe = house.serve();
    stale(&house);
    let read = standpipe.get("/shared/pipes/mv1").json();
    assert_eq!(read["_links"]["self"]["href"], format!("http://{}/shared/pipes/mv1", standpipe.address));
}

/// An operator's row says that the pipe is at the first.
fn stale(house: &House) {
    let set = house.command(&["mappings", "set", "pipe", "mv1", "--parent", "shared", "--provider", "one"]);
    assert_eq!(set.0, 0, "{}", set.1);
}

#[test]
fn of_the_providers_that_list_a_resource_each_is_asked_for_its_pipe() {
    let world = World::new(LISTED);
    world.create_at_one();
    world.move_the_pipe();
    assert_eq!(world.read(), at("two"), "an index that names both decides nothing");
    assert!(world.shown().contains("provider two"), "{}", world.shown());
}

#[test]
fn where_no_list_tells_the_resource_is_searched_for() {
    for both in [true, false] {
        let one = House::broker("one", 0, if both { &["shared"] } else { &["else"] }).run_broker();
        let two = House::broker("two", 0, &["shared"]).run_broker();
        let house = House::in_front_of(&[("one", one.address, ""), ("two", two.address, "")]);
        let standpipe = house.serve();
        stale(&house);
        assert_eq!(two.post("/shared/pipes", PIPE).status, 201);
        let world = World { one, two, house, standpipe };
        assert_eq!(world.read(), at("two"), "at both: {both}");
        assert!(world.shown().contains("provider two"), "{}", world.shown());
    }
}

#[test]
fn a_pipe_that_nobody_has_is_gone_and_its_tombstone_keeps_no_read_from_where_it_turns_up() {
    let world = World::new(LISTED);
    world.create_at_one();
    assert_eq!(world.one.call("DELETE", "/shared/pipes/mv1", &[], "").status, 204);
    assert_eq!(world.read(), (404, Some("one".to_owned())));
    assert!(
        world.shown().contains("provider one") && world.shown().contains("state gone"),
        "{}",
        world.shown()
    );
    assert_eq!(world.two.post("/shared/pipes", PIPE).status, 201);
    world.move_the_resource();
    assert_eq!(world.read(), at("two"));
    assert!(
        world.shown().contains("provider two") && world.shown().contains("state live"),
        "{}",
        world.shown()
    );
    assert_eq!(world.standpipe.call("DELETE", "/shared/pipes/mv1", &[], "").status, 204);
    assert_eq!(world.two.get("/shared/pipes/mv1").status, 404);
}

#[test]
fn a_write_is_not_kept_by_a_tombstone_but_a_repeated_delete_is() {
    let world = World::new(LISTED);
    world.create_at_one();
    assert_eq!(world.standpipe.call("DELETE", "/shared/pipes/mv1", &[], "").status, 204);
    assert_eq!(world.two.post("/shared/pipes", PIPE).status, 201);
    assert_eq!(world.read(), (404, Some("one".to_owned())), "the first lists it still, and has deleted it");
    world.move_the_resource();
    let deleted = world.standpipe.call("DELETE", "/shared/pipes/mv1", &[], "");
    assert_eq!((deleted.status, deleted.header("standpipe-provider")), (404, Some("one")));
    assert_eq!(world.patch(), 202);
    assert!(
        world.shown().contains("provider two") && world.shown().contains("state live"),
        "{}",
        world.shown()
    );
}

#[test]
fn one_silent_provider_that_may_have_it_makes_an_outage_of_a_404_and_corrects_nothing() {
    let mut world = World::new(LISTED);
    world.create_at_one();
    world.move_the_pipe();
    world.move_the_resource();
    let back: SocketAddr = world.two.address;
    world.two.kill();
    for _ in 0..2 {
        let told = world.standpipe.get("/shared/pipes/mv1");
        assert_eq!((told.status, &told.json()["candidates"]), (503, &serde_json::json!(["two"])), "{told:?}");
        assert!(told.header("retry-after").is_some());
    }
    assert!(
        world.shown().contains("provider one") && world.shown().contains("state live"),
        "{}",
        world.shown()
    );
    world.two = House::broker("two", back.port(), &["shared"]).run_broker();
    until("the second is asked again", || world.read().0 != 503);
    assert_eq!(world.read().0, 404, "both were asked");
    assert!(world.shown().contains("state gone"), "{}", world.shown());
}

#[test]
fn a_pinned_read_corrects_nothing() {
    let world = World::new(LISTED);
    world.create_at_one();
    world.move_the_pipe();
    world.move_the_resource();
    let pinned = |name| world.standpipe.call("GET", "/shared/pipes/mv1", &[("standpipe-provider", name)], "");
    assert_eq!((pinned("one").status, pinned("two").status), (404, 200));
    assert!(
        world.shown().contains("provider one") && world.shown().contains("state live"),
        "{}",
        world.shown()
    );
}
