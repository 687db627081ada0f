//! The rules' promises, without a server.

use std::sync::Arc;

use standpipe_api::{CallerId, Kind};

use super::*;

pub(super) fn access(rules: &str) -> Access {
    let table: toml::Table = rules.parse().unwrap();
    let texts = |rule: &toml::Value, key: &str| {
        let list = rule.get(key)?.as_array()?;
        Some(list.iter().map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>())
    };
    let rules: Vec<AccessRule> = table["access"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(at, rule)| AccessRule {
            name: format!("access[{at}]"),
            callers: texts(rule, "callers"),
            tenants: texts(rule, "tenants"),
            groups: texts(rule, "groups"),
            providers: texts(rule, "providers"),
            resources: texts(rule, "resources"),
            kinds: texts(rule, "kinds"),
            methods: texts(rule, "methods"),
        })
        .collect();
    Access::compile(&rules)
}

pub(super) fn caller(id: &str, tenant: Option<&str>, groups: &[&str]) -> Arc<Caller> {
    Arc::new(Caller {
        id: CallerId::from(id),
        tenant: tenant.map(str::to_owned),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        authenticator: "basic",
    })
}

fn pipe(parent: &str, id: &str) -> [Resource; 2] {
    [Resource::new(Kind::of("pipe"), id).within(parent), Resource::new(Kind::of("resource"), parent)]
}

#[test]
fn without_a_rule_everybody_does_everything_and_with_one_nobody_else_does_anything() {
    let (ann, alpha) = (caller("basic:ann", None, &[]), "alpha".into());
    let delete = |access: &Access| access.judge(Some(&ann), &alpha, &pipe("db", "web"), &Method::DELETE);
    assert_eq!(delete(&Access::default()), Judgement::LetIn);
    assert_eq!(delete(&access("[[access]]\ncallers = [\"basic:bob\"]")), Judgement::Unseen);
    assert_eq!(delete(&access("[[access]]\ncallers = [\"basic:*\"]")), Judgement::LetIn);
}

#[test]
fn all_keys_of_one_rule_must_hold_and_one_rule_is_enough() {
    let rules = access(
        r#"
        [[access]]
        tenants = ["blue"]
        groups = ["ops", "dev*"]
        providers = ["alpha"]
        methods = ["GET"]
        [[access]]
        callers = ["basic:root"]
        "#,
    );
    let (alpha, beta) = ("alpha".into(), "beta".into());
    let judge = |caller: &Caller, provider, method| rules.judge(Some(caller), provider, &[], &method);
    let dev = caller("basic:dev", Some("blue"), &["x", "developers"]);
    assert_eq!(judge(&dev, &alpha, Method::GET), Judgement::LetIn);
    assert_eq!(judge(&dev, &alpha, Method::POST), Judgement::Seen);
    assert_eq!(judge(&dev, &beta, Method::GET), Judgement::Unseen);
    for other in
        [caller("a", Some("green"), &["ops"]), caller("a", None, &["ops"]), caller("a", Some("blue"), &[])]
    {
        assert_eq!(judge(&other, &alpha, Method::GET), Judgement::Unseen, "{other:?}");
    }
    assert_eq!(judge(&caller("basic:root", None, &[]), &beta, Method::DELETE), Judgement::LetIn);
}

#[test]
fn a_resources_pattern_is_for_what_is_within_and_never_for_a_name_inside_of_another() {
    let rules = access("[[access]]\nresources = [\"web\"]");
    let ann = caller("basic:ann", None, &[]);
    let sees = |resources: &[Resource]| rules.sees(Some(&ann), &"alpha".into(), resources);
    assert!(sees(&pipe("web", "db")) && sees(&pipe("web", "db")[..1]) && sees(&pipe("web", "db")[1..]));
    assert!(!sees(&pipe("db", "web")), "a pipe that is called web, of another resource");
    assert!(!sees(&pipe("db", "web")[..1]));
    assert!(!sees(&[]), "a call that names nothing cannot be held against a name");
    let pipes = access("[[access]]\nkinds = [\"pipe\"]");
    assert!(pipes.sees(Some(&ann), &"alpha".into(), &pipe("db", "web")));
    assert!(!pipes.sees(Some(&ann), &"alpha".into(), &pipe("db", "web")[1..]));
}

#[test]
fn a_pattern_does_not_take_an_id_that_steps_out_of_itself() {
    let rules = access("[[access]]\nresources = [\"web-*\"]");
    let ann = caller("basic:ann", None, &[]);
    let sees = |id: &str| rules.sees(Some(&ann), &"alpha".into(), &pipe(id, "p"));
    assert!(sees("web-a") && sees("web-a/b") && sees("web-..a"));
    assert!(!sees("web-/../db") && !sees("web-\\..\\db") && !sees("web-a/./b"));
}

#[test]
fn whom_only_a_provider_knows_is_nobody_unless_a_rule_says_so() {
    let alpha = "alpha".into();
    assert!(!access("[[access]]\ncallers = [\"basic:*\"]").sees_provider(None, &alpha));
    assert!(access("[[access]]\ncallers = [\"stranger\"]").sees_provider(None, &alpha));
    assert!(!access("[[access]]\ngroups = [\"ops\"]").sees_provider(None, &alpha));
}

#[test]
fn an_explanation_names_the_rule_or_what_each_one_lacks() {
    let rules = access(
        r#"
        [[access]]
        callers = ["basic:bob"]
        [[access]]
        providers = ["alpha"]
        resources = ["db"]
        methods = ["GET"]
        "#,
    );
    let ann = caller("basic:ann", None, &[]);
    let call =
        |provider: &str, method, of| rules.explain_call(&ann, &provider.into(), &pipe(of, "p"), &method);
    assert_eq!(call("alpha", Method::GET, "db"), "let in by access[1]");
    assert_eq!(
        call("alpha", Method::PUT, "db"),
        "refused (403): access[0] is not for the caller basic:ann; access[1] is not for the method PUT"
    );
    assert!(call("alpha", Method::GET, "web").ends_with("access[1] is not for the resource web"));
    assert!(call("beta", Method::GET, "db").starts_with("not seen"));
    assert_eq!(
        rules.explain_provider(&ann, &"alpha".into()),
        "seen by access[1] (some resources and methods)"
    );
}
