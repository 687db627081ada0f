//! `standpipe osb-broker` as a process: killed with SIGKILL while its hook works, and asked by strangers.

use crate::support::{Answer, House, Standpipe, password_hash, until};

/// A broker whose hook writes down what it is told, and ends once a file `go` lies beside it.
fn house() -> House {
    let house = House::new(
        r#"
threads = 1
[[listener]]
address = "127.0.0.1:0"
[[provider]]
name = "db"
dialect = "osb"
[provider.osb_broker]
[provider.osb_broker.instances]
create = { async = true, hook = { command = ["./hook.sh"] } }
[provider.osb_broker.bindings]
credentials = { uri = "db://{{binding_id}}:{{password}}@h/{{state.canary}}", fixed = "canary-of-credentials" }
[[provider.osb_broker.services]]
id = "s"
name = "db"
description = "d"
bindable = true
instances_retrievable = true
[[provider.osb_broker.services.plans]]
id = "p"
name = "p"
description = "d"
"#,
    );
    let hook = house.folder.path().join("hook.sh");
    let script = r#"#!/bin/sh
cd "$(dirname "$0")"
cat >> told
echo >> told
while [ ! -e go ]; do sleep 0.02; done
echo '{"state": {"canary": "canary-of-state"}}'
"#;
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    house
}

fn ask(broker: &Standpipe, method: &str, path: &str, body: &str) -> Answer {
    broker.call(method, &format!("/v2{path}"), &[("x-broker-api-version", "2.17")], body)
}

const PROVISION: &str = r#"{"service_id":"s","plan_id":"p","organization_guid":"o","space_guid":"p","parameters":{"secret":"canary-of-parameters"}}"#;

#[test]
fn a_provision_goes_on_after_a_kill_and_its_hook_hears_the_same_operation() {
    let house = house();
    let told = || -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(house.folder.path().join("told")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let mut broker = house.serve_osb_broker();
    let accepted = ask(&broker, "PUT", "/service_instances/i?accepts_incomplete=true", PROVISION);
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let operation = accepted.json()["operation"].as_str().unwrap().to_owned();
    until("the hook is asked", || told().len() == 1);
    broker.kill();
    let broker = house.serve_osb_broker();
    until("the hook is asked again", || told().len() == 2);
    let poll =
        || ask(&broker, "GET", &format!("/service_instances/i/last_operation?operation={operation}"), "");
    assert_eq!(poll().json()["state"], "in progress");
    assert_eq!(
        ask(&broker, "PUT", "/service_instances/i?accepts_incomplete=true", PROVISION).json(),
        accepted.json()
    );
    std::fs::write(house.folder.path().join("go"), "").unwrap();
    until("it is provisioned", || poll().json()["state"] == "succeeded");
    let told = told();
    assert!(told.iter().all(|told| told["operation_id"] == operation.as_str()), "{told:?}");
    assert_eq!(told.len(), 2);
    let body = r#"{"service_id":"s","plan_id":"p"}"#;
    let bound = ask(&broker, "PUT", "/service_instances/i/service_bindings/b", body).json();
    let uri = bound["credentials"]["uri"].as_str().unwrap();
    assert!(uri.ends_with("@h/canary-of-state"), "{uri}");
    let fetched = ask(&broker, "GET", "/service_instances/i", "").json();
    assert_eq!(fetched["parameters"]["secret"], "canary-of-parameters");
    for canary in ["canary-of-", &uri[5..30]] {
        assert!(!is_on_disk(&house, canary), "{canary} lies open in the data");
        assert!(!broker.log().contains(canary), "{canary} is in the log");
    }
}

#[test]
fn of_many_provisions_of_one_instance_exactly_one_begins() {
    let house = house();
    std::fs::write(house.folder.path().join("go"), "").unwrap();
    let broker = house.serve_osb_broker();
    let path = "/service_instances/i?accepts_incomplete=true";
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| ask(&broker, "PUT", path, PROVISION))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let mut operations: Vec<serde_json::Value> =
        answers.iter().filter(|answer| answer.status == 202).map(Answer::json).collect();
    operations.dedup();
    assert_eq!(operations.len(), 1, "{answers:?}");
    // Whoever came last may have found it done.
    assert!(answers.iter().all(|answer| [200, 202].contains(&answer.status)), "{answers:?}");
    let poll = || ask(&broker, "GET", "/service_instances/i/last_operation", "").json();
    until("it is provisioned", || poll()["state"] == "succeeded");
    let told = std::fs::read_to_string(house.folder.path().join("told")).unwrap();
    assert_eq!(told.lines().count(), 1, "{told}");
}

/// Whether a text stands in any file of the data directory.
fn is_on_disk(house: &House, text: &str) -> bool {
    let data = house.folder.path().join("standpipe-data");
    let files = std::fs::read_dir(data).unwrap().map(|file| file.unwrap().path());
    let read: Vec<Vec<u8>> =
        files.filter(|path| path.is_file()).map(|path| std::fs::read(path).unwrap()).collect();
    assert!(read.iter().any(|bytes| bytes.starts_with(b"SQLite format 3")), "there is a database");
    read.iter().any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

#[test]
fn a_token_of_nobody_does_not_open_it() {
    let house = house();
    let config = std::fs::read_to_string(&house.config).unwrap();
    let caller = format!(
        "[[caller]]\nname = \"platform\"\npassword_hash = '{}'\n[[provider]]",
        password_hash("hunter2")
    );
    let config =
        config.replace("address = \"127.0.0.1:0\"\n", "address = \"127.0.0.1:0\"\ncallers = [\"basic\"]\n");
    std::fs::write(&house.config, config.replacen("[[provider]]", &caller, 1)).unwrap();
    let broker = house.serve_osb_broker();
    // platform:hunter2
    for (authorization, status) in [("Bearer junk", 401), ("", 401), ("Basic cGxhdGZvcm06aHVudGVyMg==", 200)]
    {
        let headers = [("x-broker-api-version", "2.17"), ("authorization", authorization)];
        let answer = broker.call("GET", "/v2/catalog", &headers, "");
        assert_eq!(answer.status, status, "{authorization}");
    }
}
