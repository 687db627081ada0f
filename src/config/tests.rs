use super::*;
use standpipe_api::Kind;
use std::path::Path;

fn known() -> Known {
    Known {
        dialects: vec!["cloudpipe", "osb"],
        faces: vec!["providers", "oidc", "peer", "cloudpipe", "osb", "events", "addons", "ends"],
        upstreams: vec!["broker", "osb_broker"],
        authenticators: vec!["anonymous", "basic", "mtls", "oidc"],
        credentials: vec!["none", "basic", "bearer", "passthrough", "exchange", "digest"],
        kinds: ["resource", "pipe", "service_instance"].map(Kind::of).into(),
        extensions: vec!["cloudpipe", "events", "osb", "osb-pipes"],
    }
}

fn lines(text: &str) -> Vec<String> {
    let problems = read(text, Path::new("/etc/standpipe"), &known()).expect_err("accepted");
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_file_serves_on_loopback() {
    let config = read("", Path::new("/etc/standpipe"), &known()).unwrap();
    assert_eq!(config.public_url, "http://127.0.0.1:8080");
    assert_eq!(config.listeners[0].callers, ["anonymous"]);
    assert_eq!(config.data_dir, Path::new("/etc/standpipe/standpipe-data"));
    assert_eq!(config.admin, Admin::Socket("/etc/standpipe/standpipe-data/admin.sock".into()));
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn five_mistakes_are_five_lines_with_their_key_paths() {
    let found = lines(
        r#"
        [limits]
        idle = "soon"
        [[listener]]
        address = "0.0.0.0:80"
        callers = ["anonymous"]
        [[provider]]
        name = "Alpha"
        dialect = "cloudpipe"
        url = "http://user@host"
        "#,
    );
    let keys: Vec<&str> = found.iter().map(|line| line.split_once(": ").unwrap().0).collect();
    assert_eq!(
        keys,
        ["listener[0].callers", "public_url", "limits.idle", "provider[0].name", "provider[0].url"]
    );
}

#[test]
fn a_provider_keeps_what_its_dialect_will_read() {
    let text = r#"
        [[provider]]
        name = "alpha"
        dialect = "cloudpipe"
        url = "http://127.0.0.1:9001/apps/"
        credential = { kind = "basic", username = "foo", password = "file:alpha.password" }
        breaker = { failures = 2 }
        resources = ["db"]
    "#;
    let config = read(text, Path::new("/etc/standpipe"), &known()).unwrap();
    let provider = &config.providers[0];
    assert_eq!(provider.at, At::Url("http://127.0.0.1:9001/apps".into()));
    assert_eq!(provider.dialect_settings.keys().collect::<Vec<_>>(), ["resources"]);
    assert_eq!(
        provider.credentials[0].table["password"].as_str(),
        Some("file:/etc/standpipe/alpha.password")
    );
    assert_eq!(provider.breaker.failures.get(), 2);
}

#[test]
fn a_rule_names_methods_that_there_are() {
    let text = "[[access]]\nmethods = [\"GET\", \"P*\", \"GTE\", \"get\"]\n";
    let problems = read(text, Path::new("/"), &known()).unwrap_err();
    let texts: Vec<&str> = problems.iter().map(|problem| problem.text.as_str()).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[0].starts_with("`GTE` is no method; known are GET, HEAD"), "{texts:?}");
}

#[test]
fn a_rule_and_a_quota_name_kinds_that_there_are() {
    let found = lines(
        "[[access]]\nkinds = [\"pipe\", \"serv*\", \"sausage\"]\n[[quota]]\nkind = \"sausage\"\nmost = 1\n[[quota]]\nmost = 1\n",
    );
    let told = "`sausage` is no kind of resource; known are resource, pipe, service_instance";
    assert_eq!(
        found,
        [
            format!("quota[0].kind: {told}"),
            "quota[1].kind: is missing".into(),
            format!("access[0].kinds: {told}")
        ]
    );
}

#[test]
fn names_that_nobody_brought_are_mistakes() {
    let found = lines(
        r#"
        [[listener]]
        address = "127.0.0.1:1"
        faces = ["soap"]
        [[provider]]
        name = "a"
        dialect = "soap"
        url = "http://a"
        credential = { kind = "magic" }
        [extensions.nobody]
        "#,
    );
    assert_eq!(
        found,
        [
            "listener[0].faces: `soap` is unknown; known are providers, oidc, peer, cloudpipe, osb, events, addons, ends",
            "provider[0].dialect: `soap` is unknown; known are cloudpipe, osb",
            "provider[0].credential.kind: `magic` is unknown; known are none, basic, bearer, passthrough, exchange, digest",
            "extensions.nobody: no extension has this name; known are cloudpipe, events, osb, osb-pipes",
        ]
    );
}

#[test]
fn a_syntax_error_has_its_line() {
    assert!(lines("a = 1\nb = = 2")[0].starts_with("line 2, column 5: "), "{:?}", lines("a = 1\nb = = 2"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let problems = load(Some(Path::new("/nonexistent/standpipe.toml")), &known()).unwrap_err();
    assert!(problems[0].text.contains("/nonexistent/standpipe.toml"));
}

/// `config/standpipe.toml` against the types of this module: no key is missing there, none is wrong, and what it says
/// of defaults is true.
mod reference {
    use std::collections::BTreeSet;

    use super::*;

    const TEXT: &str = include_str!("../../config/standpipe.toml");
    /// Keys whose commented value is an example: without them, there is nothing of the kind.
    const EXAMPLES: [&str; 15] = [
        "address",
        "callers",
        "credential",
        "credential_by",
        "credential_group",
        "credentials",
        "credentials_document",
        "faces",
        "groups",
        "master_key",
        "public_url",
        "tenant",
        "threads",
        "tls",
        "trusted_proxies",
    ];
    /// Keys that a dialect reads, whose defaults are its own.
    const DIALECT: [&str; 14] = [
        "catalog_refresh",
        "id_prefix",
        "api_version",
        "reconcile",
        "reconcile_after",
        "maximum_polling_duration",
        "force_delete_unknown",
        "sign_context",
        "give_up_after",
        "issuer",
        "jwks_url",
        "peer_bearer",
        "pipes",
        "resources",
    ];
    /// Words of the types that an operator writes otherwise.
    const WRITTEN: [(&str, &str); 17] = [
        ("admin_listener", "admin.listener"),
        ("roles", "[admin.role]"),
        ("at", "url"),
        ("client", "certificate"),
        ("dialect_settings", "resources"),
        // The file's own folder.
        ("folder", "data_dir"),
        ("id", "name"),
        ("listeners", "[listener]"),
        ("trusted_issuers", "[trusted_issuer]"),
        ("peers", "[peer]"),
        ("prefix", "trusted_proxies"),
        ("providers", "[provider]"),
        ("quotas", "[quota]"),
        ("table", "username"),
        ("trust", "issuer"),
        // Of one listener they are `callers`, of the file `[[caller]]`; nobody forgets the one and has the other.
        ("callers", "[caller]"),
        ("extensions", "[caller]"),
    ];

    /// The file with some of its commented lines in force, by their number. Where a key is then written twice, the
    /// line that was commented counts.
    fn with(lines: &BTreeSet<usize>) -> String {
        let uncommented = |line: &str| line.trim_start_matches("# ").to_owned();
        let mut kept: Vec<String> = TEXT.lines().map(str::to_owned).collect();
        for &at in lines {
            kept[at] = uncommented(&kept[at]);
            let (start, key) = (start_of_table(&kept, at), key_of(&kept[at]).map(str::to_owned));
            let end = (at + 1..kept.len()).find(|line| kept[*line].starts_with('[')).unwrap_or(kept.len());
            let same = |line: &usize| *line != at && key.is_some() && key_of(&kept[*line]) == key.as_deref();
            if let Some(other) = (start..end).find(same) {
                kept[other] = format!("# {}", kept[other]);
            }
        }
        kept.join("\n")
    }

    fn start_of_table(lines: &[String], at: usize) -> usize {
        (0..at).rev().find(|line| lines[*line].starts_with('[')).unwrap_or(0)
    }

    fn key_of(line: &str) -> Option<&str> {
        let (key, _) = line.split_once(" = ")?;
        (!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')).then_some(key)
    }

    /// The numbers and keys of commented keys; those of a commented table are left to that table.
    fn commented() -> Vec<(usize, &'static str)> {
        let mut inside = false;
        let mut keys = Vec::new();
        for (at, line) in TEXT.lines().enumerate() {
            inside = line.starts_with("# [") || (inside && line.starts_with('#'));
            match line.strip_prefix("# ").and_then(key_of) {
                Some(key) if !inside => keys.push((at, key)),
                _ => {}
            }
        }
        keys
    }

    /// The commented tables, each with its keys.
    fn commented_tables() -> Vec<BTreeSet<usize>> {
        let mut tables: Vec<BTreeSet<usize>> = Vec::new();
        let mut inside = false;
        for (at, line) in TEXT.lines().enumerate() {
            let begins = line.starts_with("# [");
            inside = begins || (inside && line.starts_with('#'));
            match tables.last_mut() {
                _ if begins && !line.starts_with("# [provider.") && !line.starts_with("# [[admin.") => {
                    tables.push(BTreeSet::from([at]))
                }
                Some(table) if inside && (begins || line.strip_prefix("# ").and_then(key_of).is_some()) => {
                    table.insert(at);
                }
                _ => {}
            }
        }
        tables
    }

    fn loaded(text: &str) -> Config {
        read(text, Path::new("/etc/standpipe"), &known())
            .unwrap_or_else(|found| panic!("{found:?} in\n{text}"))
    }

    #[test]
    fn every_commented_key_loads_and_stands_at_its_default() {
        let (plain, keys) = (loaded(TEXT), commented());
        assert!(keys.len() > 40, "{keys:?}");
        let token_file = keys.iter().find(|(_, key)| *key == "token_file").unwrap().0;
        for &(at, key) in &keys {
            let together =
                if key == "address" { BTreeSet::from([at, token_file]) } else { BTreeSet::from([at]) };
            let written = loaded(&with(&together));
            let example = EXAMPLES.contains(&key) || DIALECT.contains(&key);
            if key == "token_file" || !example {
                assert_eq!(written, plain, "{key} is not at its default");
            } else if !["public_url", "callers", "threads"].contains(&key) {
                assert_ne!(written, plain, "{key} changes nothing: it is a default, or not read");
            }
        }
    }

    #[test]
    fn every_commented_table_loads() {
        let tables = commented_tables();
        assert!(!tables.is_empty());
        for table in tables {
            assert_ne!(loaded(&with(&table)), loaded(TEXT), "{}", with(&table));
        }
    }

    /// With everything in force that can be at once, the types print the names of all their fields.
    #[test]
    fn every_field_of_the_configuration_is_in_the_reference() {
        let mut all: BTreeSet<usize> = commented()
            .into_iter()
            .filter(|(_, key)| !["socket", "credential"].contains(key))
            .map(|(at, _)| at)
            .collect();
        let mut tables = commented_tables();
        // A second provider would hide what the first one prints nothing of.
        tables.pop();
        all.extend(tables.into_iter().flatten());
        let printed = format!("{:#?}", loaded(&with(&all)));
        let fields: BTreeSet<&str> = printed
            .lines()
            .filter_map(|line| line.trim_start().split_once(": "))
            .map(|(field, _)| field)
            .filter(|field| field.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
            .collect();
        assert!(fields.len() > 50, "{fields:?}");
        for field in fields {
            let written =
                WRITTEN.iter().find(|(name, _)| *name == field).map_or(field, |(_, written)| written);
            let forms = [format!("{written} = "), format!("[{written}]")];
            let there = forms.iter().any(|form| TEXT.contains(form));
            assert!(there, "config/standpipe.toml does not mention `{field}`");
        }
    }
}

#[test]
fn an_admin_listener_for_callers_is_whole_or_refused() {
    let good = r#"
        [admin.listener]
        address = "10.0.0.1:9443"
        callers = ["basic"]
        tls = { certificate = "a.pem", key = "a.key" }
        hosts = ["admin.example"]
        [[admin.role]]
        role = "administrator"
        groups = ["operators"]
    "#;
    let config = read(good, Path::new("/etc/standpipe"), &known()).unwrap();
    assert_eq!(config.admin, Admin::Socket("/etc/standpipe/standpipe-data/admin.sock".into()), "beside it");
    let admin = config.admin_listener.unwrap();
    assert_eq!(
        (admin.roles[0].role, admin.listener.callers),
        (Role::Administrator, vec!["basic".to_owned()])
    );
    let loopback =
        good.replace("10.0.0.1", "127.0.0.1").replace("tls =", "# tls =").replace("hosts =", "# hosts =");
    assert!(read(&loopback, Path::new("/"), &known()).is_ok(), "on loopback without TLS");
    let missing = [
        ("tls = ", "# tls = ", "admin.listener.tls"),
        ("hosts = ", "# hosts = ", "admin.listener.hosts"),
        ("address = ", "# address = ", "admin.listener.address"),
        ("callers = ", "# callers = ", "admin.listener.callers"),
        ("callers = [\"basic\"]", "callers = [\"anonymous\"]", "admin.listener.callers"),
        ("callers = [\"basic\"]", "callers = [\"mtls\"]", "admin.listener.callers"),
        ("callers = [\"basic\"]", "callers = [\"oidc\"]", "trusted_issuer"),
        ("[\"admin.example\"]", "[\"a@b\"]", "admin.listener.hosts"),
        ("groups = ", "# groups = ", "admin.role[0].callers"),
        ("\"administrator\"", "\"root\"", "admin.role[0].role"),
        ("[[admin.role]]", "[admin.rule]", "admin.role"),
        ("[admin.listener]", "[admin.lstener]", "admin.role"),
    ];
    for (there, instead, key) in missing {
        let found = lines(&good.replace(there, instead));
        assert!(found.iter().any(|line| line.starts_with(&format!("{key}: "))), "{key}: {found:?}");
    }
    let found = lines("[admin]\naddress = \"0.0.0.0:9090\"\ntoken_file = \"t\"");
    assert!(found[0].contains("elsewhere callers come by [admin.listener]"), "{found:?}");
}

#[test]
fn a_provider_alone_is_read_as_the_configuration_reads_it() {
    let read = |text: &str| provider(&text.parse().unwrap(), Path::new("/etc/standpipe"), &known());
    let table = "name = 'alpha'\ndialect = 'cloudpipe'\nurl = 'http://a'\ntls = { roots = 'r.pem' }\n";
    let whole =
        super::read(&format!("[[provider]]\n{table}"), Path::new("/etc/standpipe"), &known()).unwrap();
    assert_eq!(read(table), (whole.providers[0].clone(), Vec::new()));
    let paths = |text: &str| -> Vec<String> { read(text).1.into_iter().map(|one| one.path).collect() };
    let wrong = "name = 'A'\ndialect = 'soap'\nbreaker = { failures = 0 }\ncredential = { kind = 'x' }\ntls = { key = 'k' }";
    assert_eq!(
        paths(wrong),
        ["name", "dialect", "url", "credential.kind", "breaker.failures", "tls.certificate"]
    );
    assert_eq!(paths("name = 'a'\ndialect = 'cloudpipe'\nbroker = {}"), ["broker"]);
}
