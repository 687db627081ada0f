//! The commands beside serving.

use crate::support::{House, until};

#[test]
fn five_mistakes_are_five_lines() {
    let house = House::new(
        "[limits]\nidle = \"soon\"\nconections = 1\n[[provider]]\nname = \"Alpha\"\ndialect = \"soap\"\nurl = \"ftp://x\"\n",
    );
    let (code, text) = house.command(&["check"]);
    assert_eq!(code, 1);
    let keys: Vec<&str> = text.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        keys,
        ["limits.idle", "limits.conections", "provider[0].name", "provider[0].dialect", "provider[0].url"],
        "{text}"
    );
}

#[test]
fn mappings_are_listed_exported_and_imported_while_serving_and_not() {
    let broker = House::broker("alpha", 0, &["db"]);
    let alpha = broker.serve_broker();
    let house = House::in_front_of(&[("alpha", alpha.address, "\"db\"")]);
    let mut standpipe = house.serve();
    assert_eq!(standpipe.post("/db/pipes", r#"{"id":"web"}"#).status, 201);
    let (code, served) = house.command(&["mappings", "export"]);
    assert_eq!(code, 0, "{served}");
    assert!(served.contains(r#""id":"web""#) && served.contains(r#""origin":"created""#), "{served}");
    standpipe.kill();
    assert_eq!(house.command(&["mappings", "export"]), (0, served.clone()), "the same rows from the file");

    let other = House::in_front_of(&[("alpha", alpha.address, "\"db\"")]);
    let file = other.folder.path().join("rows");
    std::fs::write(&file, &served).unwrap();
    let (code, text) = other.command(&["mappings", "import", file.to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    let (code, shown) = other.command(&["mappings", "show", "pipe", "web", "--parent", "db"]);
    assert!(code == 0 && shown.contains("imported"), "{shown}");
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let house = House::new("[[listener]]\naddress = \"127.0.0.1:0\"\n");
    let _first = house.serve();
    let (code, text) = house.command(&["serve"]);
    assert!(code == 1 && text.contains("another standpipe (process"), "{text}");
}

#[test]
fn a_reload_takes_good_configurations_in_and_refuses_bad_ones() {
    let broker = House::broker("alpha", 0, &["db"]);
    let alpha = broker.serve_broker();
    let house = House::new("[[listener]]\naddress = \"127.0.0.1:0\"\n");
    let standpipe = house.serve();
    assert_eq!(standpipe.get("/providers/alpha/db/pipes").status, 404);
    let with = House::in_front_of(&[("alpha", alpha.address, "\"db\"")]);
    std::fs::copy(&with.config, &house.config).unwrap();
    standpipe.signal("-HUP");
    until("alpha is there", || standpipe.get("/providers/alpha/db/pipes").status == 200);
    std::fs::write(&house.config, "nonsense = 1").unwrap();
    standpipe.signal("-HUP");
    until("the mistake is logged", || standpipe.log().contains("unknown key"));
    assert_eq!(standpipe.get("/providers/alpha/db/pipes").status, 200);
}

#[test]
fn the_end_finishes_what_is_in_flight() {
    let house = House::new("[[listener]]\naddress = \"127.0.0.1:0\"\n");
    let mut standpipe = house.serve();
    standpipe.signal("-TERM");
    standpipe.ended();
    until("the end is logged", || standpipe.log().contains("finishing what is in flight"));
}

#[test]
fn pipes_are_rotated_through_the_running_broker_and_the_app_hears_of_it() {
    let broker = House::new(
        r#"
        [[listener]]
        address = "127.0.0.1:0"
        [[provider]]
        name = "apps"
        dialect = "cloudpipe"
        [provider.broker.resource.web]
        source = { kind = "command", command = ["./make.sh"] }
        sink = { kind = "env-file", path = "web.env" }
        "#,
    );
    let script = "#!/bin/sh\necho \"$STANDPIPE_EVENT\" >>events\necho \"{\\\"KEY\\\":\\\"$(wc -l <events | tr -d ' ')\\\"}\"\n";
    let file = broker.folder.path().join("make.sh");
    std::fs::write(
        &file,
        script.replace("events", &broker.folder.path().join("events").display().to_string()),
    )
    .unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let standpipe = broker.serve_broker();
    assert_eq!(standpipe.post("/web/pipes", r#"{"id":"db"}"#).status, 201);
    let env = || std::fs::read_to_string(broker.folder.path().join("web.env")).unwrap_or_default();
    assert!(
        env().contains("PIPE_DB_THIS_KEY='1'"),
        "beside the configuration, not where the process runs: {}",
        env()
    );
    let (code, text) = broker.command(&["pipes", "rotate", "web"]);
    assert_eq!((code, text.as_str()), (0, "all pipes of web at apps: made anew\n"));
    until("the app has the new key", || env().contains("PIPE_DB_THIS_KEY='2'"));
    assert_eq!(broker.command(&["pipes", "rotate", "web", "db"]).0, 0);
    until("the app has the newest key", || env().contains("PIPE_DB_THIS_KEY='3'"));
    let (code, text) = broker.command(&["pipes", "rotate", "web", "nobody"]);
    assert!(code == 1 && text.contains("web has no pipe nobody"), "{text}");
    let (code, text) = broker.command(&["pipes", "rotate", "shop"]);
    assert!(code == 1 && text.contains("there are: web"), "{text}");
}

#[test]
fn two_standpipes_do_not_share_a_port_and_a_question_makes_no_data() {
    let first = House::broker("alpha", 0, &["db"]).run_broker();
    let second = House::broker("beta", first.address.port(), &["db"]);
    let (code, text) = second.command(&["broker"]);
    assert!(code != 0 && text.contains("listener[0].address") && text.contains("in use"), "{text}");
    let elsewhere = House::before(first.address, "", "");
    for words in [["mappings", "list"], ["tokens", "list"], ["keys", "rotate"]] {
        let (code, text) = elsewhere.command(&words);
        assert!(code != 0 && text.contains("no standpipe has kept data"), "{words:?}: {text}");
    }
    let (code, text) = second.command(&["osb-broker"]);
    assert!(code != 0 && text.contains("with a table [provider.osb_broker]"), "{text}");
    assert!(!elsewhere.folder.path().join("standpipe-data").exists());
}

#[test]
fn check_prints_the_mistakes_of_all_stages_at_once() {
    let house = House::new(
        "[limits]\nidle = \"soon\"\n[[listener]]\naddress = \"127.0.0.1:0\"\ntls = { certificate = \"no.pem\", key = \"no.key\", client_roots = \"no.roots\" }\n\
         [[provider]]\nname = \"a\"\ndialect = \"cloudpipe\"\nurl = \"http://x\"\nresources = [\"a\", \"a\"]\ncredential = { kind = \"bearer\", token = \"hunter3\" }\n\
         [[provider]]\nname = \"b\"\ndialect = \"soap\"\nurl = \"http://x\"\nanything = 1\n",
    );
    let (code, text) = house.command(&["check"]);
    let mut paths: Vec<&str> = text.lines().filter_map(|line| line.split(": ").next()).collect();
    paths.sort_unstable();
    let expected = [
        "limits.idle",
        "listener[0].tls.certificate",
        "listener[0].tls.client_roots",
        "listener[0].tls.key",
        "provider[0].credential.token",
        "provider[0].resources",
        "provider[1].dialect",
    ];
    assert_eq!((code, paths.as_slice()), (1, expected.as_slice()), "{text}");
    assert!(!text.contains("hunter3"));
}

#[test]
fn check_reads_the_secrets_that_a_start_reads() {
    let house = House::new(
        "master_key = \"env:STANDPIPE_UNSET\"\n[[provider]]\nname = \"a\"\ndialect = \"cloudpipe\"\n\
         [provider.broker.resource.db]\nsource = { kind = \"http\", url = \"http://x\", token = \"env:STANDPIPE_UNSET\" }\n",
    );
    let (code, text) = house.command(&["check"]);
    let unset = "the environment variable STANDPIPE_UNSET is not set";
    let paths = ["master_key", "provider[0].broker.resource.db.source.token"];
    let starts: Vec<String> = paths.map(|path| format!("{path}: {unset}")).into();
    assert!(code == 1 && text.lines().zip(&starts).all(|(line, start)| line.starts_with(start)), "{text}");
    assert_eq!(text.lines().count(), starts.len(), "{text}");
    std::fs::write(house.folder.path().join("key"), "zzz").unwrap();
    std::fs::write(&house.config, "master_key = \"file:key\"\n").unwrap();
    let (code, text) = house.command(&["check"]);
    assert!(code == 1 && text.starts_with("master_key: ") && text.contains("openssl rand"), "{text}");
}

#[test]
fn what_can_never_be_asked_for_and_what_is_not_there_is_refused_by_name() {
    let house = House::in_front_of(&[("alpha", "127.0.0.1:9".parse().unwrap(), "\"db\"")]);
    let set =
        |kind: &str| house.command(&["mappings", "set", kind, "p", "--parent", "db", "--provider", "alpha"]);
    let (code, text) = house.command(&["mappings", "import", "nowhere.jsonl"]);
    assert!(code == 1 && text.starts_with("cannot read nowhere.jsonl: "), "{text}");
    let refused = "`sausage` is no kind of resource; known are resource, pipe, service_instance";
    let (code, text) = set("sausage");
    assert!(code == 1 && text.contains(refused), "{text}");
    assert_eq!(set("pipe").0, 0);
    let _standpipe = house.serve();
    let (code, text) = set("sausage");
    assert!(code == 1 && text.contains(refused), "while serving: {text}");
    assert_eq!(set("pipe").0, 0);
}

#[test]
fn check_names_each_file_of_a_provider_that_cannot_be_used_and_the_kinds_there_are() {
    let house = House::new(
        "[[provider]]\nname = \"a\"\ndialect = \"osb\"\nurl = \"https://x\"\n\
         tls = { roots = \"no.roots\", certificate = \"no.pem\", key = \"no.key\" }\n\
         [[quota]]\nkind = \"sausage\"\nmost = 1\n",
    );
    let (code, text) = house.command(&["check"]);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let expected = [
        ("provider[0].tls.certificate: ", "no.pem"),
        ("provider[0].tls.key: ", "no.key"),
        ("provider[0].tls.roots: ", "no.roots"),
        ("quota[0].kind: ", "known are resource, pipe, service_instance, service_binding"),
    ];
    assert_eq!((code, lines.len()), (1, expected.len()), "{text}");
    for (line, (key, part)) in lines.iter().zip(expected) {
        assert!(line.starts_with(key) && line.contains(part), "{line}");
    }
}

#[test]
fn a_mistake_hides_no_mistake_beside_it() {
    let house = House::new(
        "[extensions.osb]\ninstances = { all = \"never\" }\n[extensions.events]\nfollowers = \"x\"\nheartbeat = \"0s\"\n\
         [[provider]]\nname = \"a\"\ndialect = \"osb\"\nurl = \"http://x\"\nid_prefix = 3\nsign_context = \"none\"\n\
         credential = { kind = \"bearer\", token = \"hunter3\" }\n\
         [[provider]]\nname = \"b\"\ndialect = \"osb\"\n\
         [[provider.osb_broker.services]]\nid = \"s\"\nname = \"s\"\ndescription = \"d\"\nbindable = \"yes\"\nrequires = [\"luck\"]\n\
         plans = [{ id = \"p\", name = \"p\", description = \"d\", fre = true, schemas = { service = { create = {} } } }]\n\
         [provider.osb_broker.services.instances]\ncreate = { asyn = true, retry_after = \"soon\" }\n",
    );
    let (code, text) = house.command(&["check"]);
    let mut paths: Vec<&str> = text.lines().filter_map(|line| line.split(": ").next()).collect();
    paths.sort_unstable();
    let services = "provider[1].osb_broker.services[0]";
    let expected = [
        "extensions.events.followers",
        "extensions.events.heartbeat",
        "extensions.osb.instances.all",
        "provider[0].credential.token",
        "provider[0].id_prefix",
        "provider[0].sign_context",
    ]
    .map(str::to_owned);
    let inside = ["bindable", "instances.create.asyn", "instances.create.retry_after", "plans[0].fre"];
    let inside = inside.into_iter().chain(["plans[0].schemas.service", "requires[0]"]);
    let expected: Vec<String> =
        expected.into_iter().chain(inside.map(|key| format!("{services}.{key}"))).collect();
    assert_eq!((code, paths), (1, expected.iter().map(String::as_str).collect()), "{text}");
}
