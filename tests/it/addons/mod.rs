//! `standpipe addons` as a user types it, against a standpipe in front of scripted brokers.

mod own;
mod strangers;

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::{Value, json};

use crate::support::osb::{front, message};
use crate::support::{House, Origin, Standpipe, until};

fn catalog() -> Value {
    let plan = |id: &str, name: &str, more: Value| {
        let mut plan = json!({ "id": id, "name": name, "description": "d" });
        plan.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        plan
    };
    let cost = json!({ "metadata": { "costs": [{ "amount": { "usd": 0.06 }, "unit": "HOURLY" }] } });
    json!({ "services": [
        { "id": "m", "name": "mysql", "description": "d", "bindable": true,
          "metadata": { "documentationUrl": "https://docs.example/mysql" },
          "plans": [plan("m-free", "free", json!({}))] },
        { "id": "r", "name": "amazon-rds-postgresql", "description": "d", "bindable": true, "plan_updateable": true,
          "plans": [plan("r-small", "small", json!({})), plan("r-medium", "medium", cost),
                    plan("r-huge", "huge", json!({})), plan("r-fixed", "fixed", json!({ "plan_updateable": false }))] },
        { "id": "slow", "name": "slow", "description": "d", "bindable": true, "bindings_retrievable": true,
          "plans": [plan("slow-one", "one", json!({}))] },
        { "id": "bare", "name": "bare", "description": "d", "bindable": false,
          "plans": [plan("bare-one", "one", json!({}))] },
    ] })
}

/// A broker that is synchronous but for the service `slow`, whose operations last until the test says so.
fn broker() -> Origin {
    Origin::new(|mut peer| {
        while let Some(request) = peer.request() {
            let (line, body) =
                (request.lines().next().unwrap().to_owned(), request.split("\r\n\r\n").nth(1).unwrap());
            let is_slow = line.contains("service_id=slow") || body.contains(r#""service_id":"slow""#);
            let (binding, poll) = (line.contains("/service_bindings/"), line.contains("/last_operation"));
            let credentials = r#"{"credentials":{"uri":"mysql://u:it's@h/d","port":3306}}"#;
            let answer = match line.split(' ').next().unwrap() {
                "GET" if line.contains("/v2/catalog") => message("200 OK", &catalog().to_string()),
                "GET" if poll && line.contains("operation=doomed") => {
                    message("200 OK", r#"{"state":"failed","description":"no room in the rack"}"#)
                }
                "GET" if poll && peer.told() => message("200 OK", r#"{"state":"succeeded"}"#),
                "GET" if poll => message("200 OK", r#"{"state":"in progress"}"#).replacen(
                    "\r\n",
                    "\r\nretry-after: 1\r\n",
                    1,
                ),
                "GET" if binding => message("200 OK", credentials),
                "PUT" if body.contains("\"doom\"") && !binding => {
                    message("202 Accepted", r#"{"operation":"doomed"}"#)
                }
                "PUT" | "DELETE" if is_slow && !binding => message("202 Accepted", r#"{"operation":"op"}"#),
                "PUT" if binding => message("201 Created", credentials),
                "PUT" => message("201 Created", r#"{"dashboard_url":"https://dash.example/i"}"#),
                "PATCH" if body.contains("r-huge") => {
                    message("422 No", r#"{"description":"huge is sold out"}"#)
                }
                _ => message("200 OK", "{}"),
            };
            peer.wire.send(answer);
        }
    })
}

/// A command for `myapp:development` in a folder.
fn command(standpipe: &Standpipe, folder: &Path, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_standpipe"));
    command.arg("addons").args(words.split(' ')).current_dir(folder);
    command.env("STANDPIPE_URL", format!("http://{}", standpipe.address));
    command.env("STANDPIPE_APP", "myapp").env("STANDPIPE_CHANNEL", "development");
    command.env_remove("STANDPIPE_USER").env_remove("STANDPIPE_TOKEN").stdin(Stdio::null());
    command
}

/// Its exit code, what it printed, and what it complained about.
fn run(mut command: Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// What was printed by a command that works.
fn good(command: Command) -> String {
    let (code, out, err) = run(command);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    out
}

/// What a command that fails complains about.
fn bad(command: Command) -> String {
    let (code, out, err) = run(command);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    err
}

fn sent<'a>(said: &'a [String], begins: &str) -> Vec<&'a str> {
    said.iter().map(String::as_str).filter(|said| said.starts_with(begins)).collect()
}

#[test]
fn the_commands_of_the_seed() {
    let alpha = broker();
    let standpipe = front(&[("alpha", &alpha, "")], "").run();
    let folder = tempfile::tempdir().unwrap();
    let typed = |words: &str| good(command(&standpipe, folder.path(), words));
    let table = typed("list");
    assert!(
        table.starts_with(
            "| Name                  | Plan   |\n+-----------------------|--------+\n| mysql                 | free   |\n"
        ),
        "{table}"
    );
    let added = "Adding mysql:free to myapp:development... done\nUse `standpipe addons docs mysql --plan free` to view the documentation\n";
    assert_eq!(typed("add mysql --plan free --env-file env"), added);
    let env = std::fs::read_to_string(folder.path().join("env")).unwrap();
    assert!(
        env.contains("\nMYSQL_URL='mysql://u:it'\\''s@h/d'\n") && env.contains("\nMYSQL_PORT='3306'\n"),
        "{env}"
    );
    assert_eq!(
        typed("add mysql --print-env"),
        "mysql:free is already added to myapp:development\nMYSQL_PORT='3306'\nMYSQL_URL='mysql://u:it'\\''s@h/d'\n"
    );
    assert_eq!(typed("dashboard mysql --no-browser"), "https://dash.example/i\n");
    assert_eq!(typed("docs mysql --no-browser"), "https://docs.example/mysql\n");
    typed("add amazon-rds-postgresql --plan small");
    assert_eq!(
        typed("update amazon-rds-postgresql --plan medium"),
        "Updating amazon-rds-postgresql for myapp:development... done\nYou are now being billed for this addon at $0.06/hour\n"
    );
    let said = alpha.said();
    let [patch] = sent(&said, "PATCH")[..] else { panic!("one update: {said:?}") };
    assert!(patch.contains(r#""previous_values":{"service_id":"r","plan_id":"r-small""#), "{patch}");
    let put = sent(&said, "PUT")[0];
    for field in [r#""platform":"standpipe""#, r#""organization_guid":"anonymous""#, r#""app_name":"myapp""#]
    {
        assert!(put.contains(field), "{put}");
    }
    assert!(typed("list --added").contains("| amazon-rds-postgresql | medium | development | ready |"));
    let shown: Value = serde_json::from_str(&typed("list --added --json")).unwrap();
    assert_eq!(shown["addons"].as_array().unwrap().len(), 2);
    assert!(!shown.to_string().contains("3306"), "no credentials where nobody asked for them");
    assert_eq!(typed("remove mysql --env-file env"), "Removing mysql:free from myapp:development... done\n");
    assert_eq!(std::fs::read_to_string(folder.path().join("env")).unwrap(), "");
    let deleted = alpha.said();
    let deleted = sent(&deleted, "DELETE");
    assert!(
        deleted[0].contains("/service_bindings/") && !deleted[1].contains("/service_bindings/"),
        "{deleted:?}"
    );
    assert_eq!(standpipe.get("/addons/myapp/development/mysql").status, 404);
}

#[test]
fn what_cannot_be_says_so_and_sends_nothing() {
    let (alpha, beta) = (broker(), broker_of_mysql());
    let standpipe = front(&[("alpha", &alpha, ""), ("beta", &beta, "")], "").run();
    let folder = tempfile::tempdir().unwrap();
    let typed = |words: &str| good(command(&standpipe, folder.path(), words));
    let refused = |words: &str| bad(command(&standpipe, folder.path(), words));
    until("all catalogs are there", || typed("list").contains("| mysql-beta "));
    for (words, text) in [
        ("add mysqk", "no add-on is named mysqk; did you mean mysql?"),
        ("add mysql --plan fre", "mysql has no plan fre; did you mean free?"),
        (
            "add amazon-rds-postgresql",
            "has more than one plan: small, medium, huge, fixed; choose one with --plan",
        ),
        ("remove mysql", "mysql is not added to myapp:development\nnothing is added to it"),
        ("update mysql --plan free", "mysql is not added to myapp:development"),
        ("docs bare", "bare has no documentation"),
        ("add mysql --parameters [1]", "--parameters must be a JSON object"),
    ] {
        let said = refused(words);
        assert!(said.contains(text), "{words}: {said}");
    }
    for (name, value) in [("STANDPIPE_APP", ""), ("STANDPIPE_CHANNEL", " ")] {
        let mut nameless = command(&standpipe, folder.path(), "add mysql");
        let said = bad({
            nameless.env(name, value);
            nameless
        });
        assert!(said.contains(" is empty; which "), "{said}");
    }
    let of_nobody = json!({ "name": "mysql", "app": " ", "channel": "development" }).to_string();
    let refused_too = standpipe.post("/addons", &of_nobody).json().to_string();
    assert!(refused_too.contains("`app` must be 1 to 128 letters, not blank"), "{refused_too}");
    for origin in [&alpha, &beta] {
        assert!(origin.said().iter().all(|said| said.starts_with("GET /v2/catalog")), "{:?}", origin.said());
    }
    let bare = typed("add bare --print-env");
    assert!(bare.ends_with("bare:one cannot be bound: it has no credentials\n"), "{bare}");
    assert!(serde_json::from_str::<Value>(&typed("add bare --json --env-file env")).is_ok());
    typed("add mysql-beta");
    assert!(refused("dashboard mysql-beta").contains("mysql-beta has no dashboard"));
    typed("add amazon-rds-postgresql --plan fixed");
    let said = refused("update amazon-rds-postgresql --plan small");
    assert!(said.contains("amazon-rds-postgresql:fixed cannot be moved to another plan"), "{said}");
    assert_eq!(sent(&alpha.said(), "PATCH").len(), 0);
    let said = refused("add amazon-rds-postgresql --plan small");
    assert!(said.contains("already added to myapp:development, as amazon-rds-postgresql:fixed"), "{said}");
    typed("remove amazon-rds-postgresql");
    typed("add amazon-rds-postgresql --plan small");
    let said = refused("update amazon-rds-postgresql --plan huge");
    assert_eq!(said, "Updating amazon-rds-postgresql for myapp:development... failed\nhuge is sold out\n");
    let shown = standpipe.get("/addons/myapp/development/amazon-rds-postgresql").json();
    assert_eq!((&shown["state"], &shown["plan"]), (&json!("ready"), &json!("small")), "the old plan stays");
}

/// Another broker with a service of the same name, whose instances have no dashboard.
fn broker_of_mysql() -> Origin {
    let services = [json!({ "id": "m2", "name": "mysql", "description": "d", "bindable": true,
        "plans": [{ "id": "m2-free", "name": "free", "description": "d" }] })];
    crate::support::osb::broker(&services, |_| Some(message("201 Created", r#"{"credentials":{"a":"b"}}"#)))
}

#[test]
fn what_fails_later_is_cleaned_up_and_can_be_added_again() {
    let alpha = broker();
    let standpipe = front(&[("alpha", &alpha, "")], "").run();
    let folder = tempfile::tempdir().unwrap();
    let mut doomed = command(&standpipe, folder.path(), "add mysql --parameters");
    doomed.arg(r#"{"doom":true}"#);
    assert_eq!(bad(doomed), "Adding mysql:free to myapp:development... failed\nno room in the rack\n");
    let said = alpha.said();
    let orphans = sent(&said, "DELETE");
    assert_eq!(orphans.len(), 1, "orphan mitigation: {orphans:?}");
    assert!(orphans[0].contains("service_id=m&plan_id=m-free"), "{orphans:?}");
    assert!(good(command(&standpipe, folder.path(), "add mysql")).contains("... done"));

    let late = bad(command(&standpipe, folder.path(), "add slow --timeout 0s"));
    assert!(late.contains("not done yet, it is provisioning; it goes on"), "{late}");
    let started = good(command(&standpipe, folder.path(), "add slow --no-wait"));
    assert_eq!(started, "Adding slow:one to myapp:development... started\n");
}

fn line(request: &str) -> &str {
    request.lines().next().unwrap_or_default()
}

fn start(standpipe: &Standpipe, folder: &Path, words: &str) -> Child {
    command(standpipe, folder, words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_killed_command_and_a_killed_standpipe_go_on_with_one_instance() {
    let alpha = broker();
    let house = front(&[("alpha", &alpha, "")], "");
    let mut standpipe = house.serve();
    let folder = tempfile::tempdir().unwrap();
    let mut interrupted = start(&standpipe, folder.path(), "add slow");
    until("the instance is asked for", || !sent(&alpha.said(), "PUT").is_empty());
    until("it is written down", || {
        standpipe.get("/addons/myapp/development/slow").json()["state"] == "provisioning"
    });
    interrupted.kill().unwrap();
    interrupted.wait().unwrap();
    standpipe.kill();
    let polls = sent(&alpha.said(), "GET /v2/service_instances").len();
    let standpipe = house.serve();
    until("a job asks how it goes, though no user does", || {
        sent(&alpha.said(), "GET /v2/service_instances").len() > polls
    });
    let mut again = start(&standpipe, folder.path(), "add slow --env-file env");
    alpha.tell();
    assert!(again.wait().unwrap().success());
    let env = std::fs::read_to_string(folder.path().join("env")).unwrap();
    assert!(env.contains("SLOW_URL="), "{env}");
    let instance = |put: &str| put.split(['/', '?']).nth(3).unwrap().to_owned();
    let said = alpha.said();
    let ids: HashSet<String> = sent(&said, "PUT").into_iter().map(instance).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let kept = standpipe.get("/addons/myapp/development/slow").json();
    assert_eq!(
        (kept["state"].as_str(), kept["instance"].as_str()),
        (Some("ready"), ids.iter().next().map(String::as_str))
    );
}

#[test]
fn a_standpipe_that_dies_before_it_knows_the_answer_asks_again_with_the_same_id() {
    let alpha = broker();
    let house = front(&[("alpha", &alpha, "")], "");
    let mut standpipe = house.serve_until("settle-before-write");
    let folder = tempfile::tempdir().unwrap();
    let mut interrupted = start(&standpipe, folder.path(), "add mysql");
    standpipe.ended();
    interrupted.kill().unwrap();
    interrupted.wait().unwrap();
    assert_eq!(sent(&alpha.said(), "PUT").len(), 1, "the broker has provisioned it");
    let standpipe = house.serve();
    until("the job adds it", || {
        let shown = standpipe.get("/addons?app=myapp").json();
        shown["addons"][0]["state"] == "ready"
    });
    let said = alpha.said();
    let puts = sent(&said, "PUT");
    assert_eq!(
        (puts.len(), line(puts[0])),
        (3, line(puts[1])),
        "provisioned again under the same id, then bound"
    );
    assert!(line(puts[2]).contains("/service_bindings/"), "{puts:?}");
    let known = good(command(&standpipe, folder.path(), "add mysql --print-env"));
    assert!(known.contains("MYSQL_PORT='3306'"), "{known}");
}

#[test]
fn nobody_does_under_addons_what_it_may_not_do_under_v2() {
    let alpha = broker();
    let password = crate::support::password_hash("pw");
    let caller = |name: &str| format!("[[caller]]\nname = \"{name}\"\npassword_hash = {password:?}\n");
    let top = format!(
        "{}{}[[access]]\ncallers = [\"basic:ann\"]\n[[access]]\ncallers = [\"basic:bob\"]\nmethods = [\"GET\"]\n",
        caller("ann"),
        caller("bob")
    );
    let house = front(&[("alpha", &alpha, "")], "");
    let config = std::fs::read_to_string(&house.config).unwrap();
    let config = config.replacen("address", "callers = [\"basic\"]\naddress", 1);
    std::fs::write(&house.config, format!("{config}\n{top}")).unwrap();
    let standpipe = house.run();
    let folder = tempfile::tempdir().unwrap();
    let typed = |user: &str, words: &str| {
        let mut command = command(&standpipe, folder.path(), words);
        command.env("STANDPIPE_USER", user).env("STANDPIPE_PASSWORD", "pw");
        command
    };
    assert!(
        bad(command(&standpipe, folder.path(), "list")).contains("set STANDPIPE_USER and STANDPIPE_PASSWORD")
    );
    assert!(good(typed("bob", "list")).contains("mysql"));
    let refused = bad(typed("bob", "add mysql"));
    assert!(
        refused.contains("PUT of a service instance at alpha is not allowed to this caller"),
        "{refused}"
    );
    good(typed("ann", "add mysql"));
    let others = bad(typed("bob", "remove mysql"));
    assert!(others.contains("mysql is not added to myapp:development"), "{others}");
    assert!(!good(typed("bob", "list --added")).contains("mysql"));
}

#[test]
fn an_addon_counts_as_what_it_is_made_of() {
    let alpha = broker();
    let quota = "[[quota]]\nkind = \"service_binding\"\nmost = 1\n";
    let standpipe = front(&[("alpha", &alpha, "")], quota).run();
    let folder = tempfile::tempdir().unwrap();
    let mut doomed = command(&standpipe, folder.path(), "add mysql --parameters");
    doomed.arg(r#"{"doom":true}"#);
    assert!(bad(doomed).contains("no room in the rack"), "an add-on that failed takes no room");
    good(command(&standpipe, folder.path(), "add mysql"));
    let said = alpha.said().len();
    let over = bad(command(&standpipe, folder.path(), "add slow"));
    assert!(over.contains("has 1 resources of the kind service_binding, which is its quota"), "{over}");
    assert_eq!(alpha.said().len(), said, "its instance is not made in vain");
    assert!(!good(command(&standpipe, folder.path(), "list --added")).contains("slow"));
    good(command(&standpipe, folder.path(), "add bare"));
    good(command(&standpipe, folder.path(), "remove mysql"));
}

#[test]
fn a_request_that_never_left_leaves_nothing_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).unwrap() > 0);
        stream.write_all(message("200 OK", &catalog().to_string()).as_bytes()).unwrap();
        // With its first answer the broker is gone.
    });
    let config = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[provider]]\nname = \"alpha\"\ndialect = \"osb\"\nurl = \"http://{address}\"\n"
    );
    let standpipe = House::new(&config).run();
    let folder = tempfile::tempdir().unwrap();
    until("the catalog is there", || good(command(&standpipe, folder.path(), "list")).contains("mysql"));
    let said = bad(command(&standpipe, folder.path(), "add mysql"));
    assert!(said.starts_with("Adding mysql:free to myapp:development... failed\n"), "{said}");
    assert_eq!(standpipe.get("/addons").json(), json!({ "addons": [] }));
}
