use super::*;
use std::path::Path;

fn known() -> Known {
    Known {
        dialects: vec!["cloudpipe"],
        faces: vec!["providers", "cloudpipe"],
        upstreams: vec!["broker"],
        authenticators: vec!["anonymous", "basic"],
        credentials: vec!["none", "basic", "bearer", "passthrough"],
        extensions: vec!["cloudpipe"],
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
fn names_that_nobody_brought_are_mistakes() {
    let found = lines(
        r#"
        [[listener]]
        address = "127.0.0.1:1"
        faces = ["osb"]
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
            "listener[0].faces: `osb` is unknown; known are providers, cloudpipe",
            "provider[0].dialect: `soap` is unknown; known are cloudpipe",
            "provider[0].credential.kind: `magic` is unknown; known are none, basic, bearer, passthrough",
            "extensions.nobody: no extension has this name; known are cloudpipe",
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
