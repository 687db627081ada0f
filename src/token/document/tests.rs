//! The documents of the seed, and what is said of those that are no good.

use super::*;

const YAML: &str = "
bindingName: 'Main-Creds'
broker:
  username: 'admin'
  password: 'l0gin'
projects:
- id: 'first-key'
  desc: 'the first key'
  publicKey: '12345'
  privatekey: 'pr1vate'
  roles:
  - groupId: '12345'        # a comment
- id: 'the 2nd key'
  publicKey: '12346'
  privateKey: 'pr2vate'
  roles:
  - groupId: '545454'
orgs:
- publicKey: '12347'
  privateKey: 'pr3vate'
  id: 'the org 1 key'
  roles:
  - orgId: '3030303030'
";
const JSON: &str = r#"{"broker":{"username":"u","password":"p"},"keys":{"one":{"publicKey":"a","privateKey":"b","orgID":"o1"}}}"#;

fn from(from: &[DocumentPlace]) -> DocumentSource {
    DocumentSource { from: from.to_vec(), kind: "digest".into(), take: Take::Keys }
}

fn usual() -> DocumentSource {
    from(&[DocumentPlace::Env("BROKER_APIKEYS".into()), DocumentPlace::Vcap])
}

fn load(source: &DocumentSource, variables: &[(&str, &str)]) -> Result<Document, String> {
    Document::find(source, &|name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

fn names(document: &Document) -> Vec<&str> {
    document.keys.iter().map(|key| key.name.as_str()).collect()
}

#[test]
fn the_seeds_document_is_read_from_a_variable_and_from_a_file_it_names() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), YAML).unwrap();
    for value in [YAML, file.path().to_str().unwrap()] {
        let document = load(&usual(), &[("BROKER_APIKEYS", value)]).unwrap();
        assert_eq!(names(&document), ["first-key", "the 2nd key", "the org 1 key"]);
        let first = &document.taken(Take::Keys)[0];
        assert_eq!(
            (first.username.as_str(), first.organisations.as_slice()),
            ("12345", &["12345".to_owned()][..])
        );
        assert_eq!(document.taken(Take::Login)[0].username, "admin");
        assert_eq!(document.secret("the org 1 key").unwrap().expose_secret(), "pr3vate");
        assert_eq!(document.secret("broker").unwrap().expose_secret(), "l0gin");
        assert!(!format!("{document:?}").contains("pr1vate"));
    }
}

#[test]
fn a_table_of_keys_in_json_is_read_too() {
    let document = load(&usual(), &[("BROKER_APIKEYS", JSON)]).unwrap();
    assert_eq!(
        (names(&document), document.keys[0].organisations.as_slice()),
        (vec!["one"], &["o1".to_owned()][..])
    );
}

#[test]
fn the_services_of_cloud_foundry_are_put_together() {
    let vcap = format!(
        r#"{{"credhub":[{{"name":"a","credentials":{JSON}}}],"user-provided":[{{"credentials":{{"keys":
        {{"two":{{"publicKey":"c","privateKey":"d","orgID":"o2"}},"one":{{"publicKey":"x","privateKey":"y","orgID":"o1"}}}}}}}},{{}}],"other":[7]}}"#
    );
    let document = load(&usual(), &[("VCAP_SERVICES", &vcap)]).unwrap();
    assert_eq!(names(&document), ["one", "two"]);
    assert_eq!(document.keys[0].username, "x", "the later one wins");
}

#[test]
fn a_mounted_directory_is_read_file_by_file_without_its_hidden_links() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), YAML).unwrap();
    fs::write(folder.path().join("b.json"), JSON).unwrap();
    fs::create_dir(folder.path().join("..data")).unwrap();
    fs::write(folder.path().join(".hidden"), "nonsense").unwrap();
    let document = load(&from(&[DocumentPlace::Directory(folder.path().into())]), &[]).unwrap();
    assert_eq!(names(&document), ["first-key", "the 2nd key", "the org 1 key", "one"]);
    assert_eq!(document.login.username, "u");
}

#[test]
fn each_mistake_has_its_error_and_the_next_source_does_not_cover_it_up() {
    let vcap = format!(r#"{{"credhub":[{{"credentials":{JSON}}}]}}"#);
    let without_broker = r#"{"user-provided":[{"credentials":{"keys":{"s3cret":{"publicKey":"a","privateKey":"s3cret","orgID":"o"}}}}]}"#;
    for (variables, text) in [
        (vec![("BROKER_APIKEYS", "gar bage"), ("VCAP_SERVICES", &vcap)], "cannot find BROKER_APIKEYS"),
        (vec![("BROKER_APIKEYS", r#"{"broker": s3cret"#)], "cannot find BROKER_APIKEYS"),
        (vec![("BROKER_APIKEYS", "broker: [s3cret")], "cannot find BROKER_APIKEYS"),
        (vec![("BROKER_APIKEYS", "/no/such/file")], "cannot find BROKER_APIKEYS"),
        (
            vec![(
                "BROKER_APIKEYS",
                r#"{"broker":{"username":"u","password":"s3cret"},"keys":{"a":{"publicKey":"a","privateKey":"b"}}}"#,
            )],
            "no API keys specified",
        ),
        (vec![("VCAP_SERVICES", without_broker)], "no broker credentials specified"),
        (vec![("VCAP_SERVICES", "{}")], "no broker credentials specified"),
        (vec![("VCAP_SERVICES", "[s3cret]")], "VCAP_SERVICES cannot be read"),
        (vec![], "none of BROKER_APIKEYS, VCAP_SERVICES is set"),
    ] {
        let error = load(&usual(), &variables).unwrap_err();
        assert!(error.contains(text) && !error.contains("s3cret"), "{error}");
    }
    let twice = YAML.replace("the 2nd key", "first-key");
    assert!(
        load(&usual(), &[("BROKER_APIKEYS", &twice)])
            .unwrap_err()
            .contains("two keys have the id `first-key`")
    );
}
