//! `standpipe addons` at a broker that no standpipe stands in front of.

use std::collections::HashSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{bad, broker, catalog, good, line, sent};
use crate::support::osb::message;
use crate::support::{Origin, until};

/// A command for `myapp:development` of a folder, without a standpipe.
fn at_broker(broker: &Origin, folder: &Path, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_standpipe"));
    command.arg("addons").args(words.split(' ')).current_dir(folder).stdin(Stdio::null());
    command.env_remove("STANDPIPE_URL").env_remove("STANDPIPE_TOKEN");
    command.env("STANDPIPE_OSB_URL", format!("http://{}", broker.address));
    command.env("STANDPIPE_APP", "myapp").env("STANDPIPE_CHANNEL", "development");
    command.env("STANDPIPE_USER", "shop").env("STANDPIPE_PASSWORD", "pw");
    command
}

#[test]
fn any_broker_will_do_without_a_standpipe() {
    let alpha = broker();
    let folder = tempfile::tempdir().unwrap();
    let typed = |words: &str| good(at_broker(&alpha, folder.path(), words));
    assert!(typed("list").contains("| mysql "));
    typed("add mysql --env-file env");
    let env = || std::fs::read_to_string(folder.path().join("env")).unwrap();
    assert!(env().contains("MYSQL_PORT='3306'"), "{}", env());
    let said = alpha.said();
    assert!(said.iter().all(|said| said.contains("authorization: Basic c2hvcDpwdw==")), "{said:?}");
    assert!(sent(&said, "PUT")[0].contains(r#""organization_guid":"shop""#), "{said:?}");
    assert!(typed("list --added").contains("| mysql | free | development | ready |"));
    typed("add amazon-rds-postgresql --plan small");
    std::fs::write(folder.path().join("env"), "").unwrap();
    typed("update amazon-rds-postgresql --plan medium --env-file env");
    assert!(env().contains("AMAZON_RDS_POSTGRESQL_PORT="), "an update gives the credentials anew: {}", env());
    let refused = bad(at_broker(&alpha, folder.path(), "update amazon-rds-postgresql --plan huge"));
    assert!(refused.ends_with("failed\nhuge is sold out\n"), "{refused}");
    typed("add mysql --env-file env");
    let removed = typed("remove mysql");
    assert!(removed.starts_with("Removing mysql:free from myapp:development... done\n"), "{removed}");
    assert!(
        removed.ends_with("take them out with `standpipe addons remove mysql --env-file FILE`\n"),
        "{removed}"
    );
    assert!(env().contains("MYSQL_PORT="), "{}", env());
    let left = typed("remove mysql --env-file env");
    assert_eq!(left, "mysql is not added to myapp:development; its credentials are taken out of env\n");
    assert!(!env().contains("MYSQL_PORT="), "{}", env());
    let gone = bad(at_broker(&alpha, folder.path(), "remove mysql --env-file env"));
    assert!(gone.starts_with("mysql is not added to myapp:development\n"), "{gone}");
    let kept = folder.path().join(".standpipe");
    assert_eq!(std::fs::read_to_string(kept.join(".gitignore")).unwrap(), "*\n");

    let elsewhere = tempfile::tempdir().unwrap();
    good(at_broker(&alpha, elsewhere.path(), "add amazon-rds-postgresql --plan medium"));
    let said = alpha.said();
    let instances: HashSet<&str> = sent(&said, "PUT")
        .into_iter()
        .filter(|put| put.contains("\"service_id\":\"r\"") && !line(put).contains("service_bindings"))
        .map(|put| line(put).split(['/', '?']).nth(3).unwrap())
        .collect();
    assert_eq!(instances.len(), 1, "the same add-on of the same app is the same instance: {instances:?}");
}

#[test]
fn an_interrupted_command_without_a_standpipe_goes_on_with_one_instance() {
    let alpha = broker();
    let folder = tempfile::tempdir().unwrap();
    let started = good(at_broker(&alpha, folder.path(), "add slow --no-wait"));
    assert_eq!(started, "Adding slow:one to myapp:development... started\n");
    let mut interrupted = start_at(&alpha, folder.path(), "add slow");
    until("it polls", || !sent(&alpha.said(), "GET /v2/service_instances").is_empty());
    interrupted.kill().unwrap();
    interrupted.wait().unwrap();
    let later = bad(at_broker(&alpha, folder.path(), "add slow --timeout 0s"));
    assert!(later.contains("not done yet, it is provisioning; run the command again"), "{later}");
    alpha.tell();
    good(at_broker(&alpha, folder.path(), "add slow --env-file env"));
    let said = alpha.said();
    let provisions = sent(&said, "PUT").into_iter().filter(|put| !line(put).contains("service_bindings"));
    assert_eq!(provisions.count(), 1, "{said:?}");
    let env = || std::fs::read_to_string(folder.path().join("env")).unwrap();
    assert!(env().contains("SLOW_URL="));
    good(at_broker(&alpha, folder.path(), "remove slow --no-wait --env-file env"));
    assert_eq!(env(), "", "nobody waits, and nothing is left");
}

#[test]
fn what_keeps_a_command_without_a_standpipe_from_asking() {
    let alpha = broker();
    let folder = tempfile::tempdir().unwrap();
    let at = |url: &str, words: &str| {
        let mut command = at_broker(&alpha, folder.path(), words);
        command.env("STANDPIPE_OSB_URL", url);
        command
    };
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, text) in [
        ("broker.example", "`broker.example` is no URL of a broker; write it as https://broker.example"),
        ("http://broker.example", "is not encrypted: others could read your password or token; use https://"),
        ("ftp://127.0.0.1", "is no URL of a broker"),
        ("http://u:p@127.0.0.1", "is no URL of a broker"),
        (&format!("http://{nowhere}"), "broker"),
    ] {
        let said = bad(at(url, "list"));
        assert!(said.contains(text), "{url}: {said}");
    }
    assert!(alpha.said().is_empty());
    let locked = Origin::new(|mut peer| {
        while peer.request().is_some() {
            peer.wire.send(message("401 Unauthorized", "{}"));
        }
    });
    let said = bad(at(&format!("http://{}", locked.address), "list"));
    assert!(
        said.contains(&format!("(http://{}/)\nset STANDPIPE_USER and STANDPIPE_PASSWORD", locked.address)),
        "{said}"
    );
    let said = bad(at(&format!("http://{nowhere}"), "add mysql"));
    let expected = "no add-on is named mysql; what these offer is not known, for they have not answered: broker\ntry again later\nbroker ";
    assert!(said.starts_with(expected), "{said}");
    let mut waiting = start_at(&alpha, folder.path(), "add slow");
    until("it has begun", || !sent(&alpha.said(), "PUT").is_empty());
    let said = bad(at_broker(&alpha, folder.path(), "list"));
    assert!(said.contains("of this folder is asking this broker; wait until"), "{said}");
    waiting.kill().unwrap();
    waiting.wait().unwrap();
}

#[test]
fn a_broker_that_is_taken_for_a_standpipe_is_known_as_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Origin::new(|mut peer| {
        while let Some(request) = peer.request() {
            let is_catalog =
                request.starts_with("GET /v2/catalog") && request.contains("x-broker-api-version");
            peer.wire.send(match is_catalog {
                true => message("200 OK", &catalog().to_string()),
                false => message("412 Precondition Failed", "{}"),
            });
        }
    });
    for words in ["list", "add mysql", "remove mysql"] {
        let mut command = at_broker(&plain, folder.path(), words);
        command.env_remove("STANDPIPE_OSB_URL").env("STANDPIPE_URL", format!("http://{}", plain.address));
        let said = bad(command);
        let expected = "is a service broker and no standpipe with add-ons: name it with --osb-url";
        assert!(said.contains(expected), "{words}: {said}");
    }
}

fn start_at(broker: &Origin, folder: &Path, words: &str) -> Child {
    at_broker(broker, folder, words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
