//! What no platform should send and some do: a broker's answer to it is its own.

use serde_json::json;

use super::super::platform::Ask;
use super::steps::{binding, ids, instance, provisioned, wanted};
use super::{Offer, Suite, Talk, Verdict};

const LATER: &str = "?accepts_incomplete=true";

/// Sends it, whatever comes back.
fn whatever(talk: &mut Talk<'_>, ask: &Ask) -> Verdict {
    talk.ask(ask);
    Ok(())
}

pub fn cases(suite: &mut Suite) {
    bodies(suite);
    paths(suite);
    suite.each("odd: a method that no instance has", |talk, offer| {
        let path = instance(&provisioned(talk, offer)?);
        for method in ["POST", "HEAD", "OPTIONS"] {
            whatever(talk, &Ask::new(method, format!("{path}?{}", ids(offer))))?;
        }
        Ok(())
    });
    suite.each("odd: a version in no form, an old one, one to come", |talk, offer| {
        let path = instance(&provisioned(talk, offer)?);
        for version in ["banana", "2", "2.13", "2.99", "3.0", " ", "2.17, 2.17"] {
            whatever(talk, &Ask::new("GET", format!("{path}?{}", ids(offer))).version(Some(version)))?;
        }
        Ok(())
    });
    suite.each("odd: an originating identity in no form", |talk, offer| {
        let path = instance(&provisioned(talk, offer)?);
        for identity in ["", "cloudfoundry", "cloudfoundry !!!", "a b c"] {
            let ask = Ask::new("GET", format!("{path}?{}", ids(offer)));
            whatever(talk, &ask.field("x-broker-api-originating-identity", identity))?;
        }
        Ok(())
    });
    suite.each("odd: accepts_incomplete said in other ways", |talk, offer| {
        for query in ["TRUE", "1", "", "true&accepts_incomplete=false", "%74rue"] {
            let path = format!("{}?accepts_incomplete={query}", instance(&talk.id(&query.len().to_string())));
            whatever(talk, &Ask::new("PUT", path).body(&wanted(offer)))?;
        }
        Ok(())
    });
}

fn bodies(suite: &mut Suite) {
    suite.each("odd: a body that is no object, with a known instance", |talk, offer| {
        let path = instance(&provisioned(talk, offer)?);
        for body in ["", "{", "[]", "null", "7", "{\"service_id\":7}", "{} {}", "\u{feff}{}"] {
            for method in ["PUT", "PATCH"] {
                whatever(talk, &Ask::new(method, path.clone() + LATER).text(body))?;
            }
            whatever(talk, &Ask::new("PUT", format!("{path}/service_bindings/b{LATER}")).text(body))?;
        }
        Ok(())
    });
    suite.each("odd: members twice, in another case, and unknown ones", |talk, offer| {
        let text = wanted(offer).to_string();
        let inner = text.trim_start_matches('{');
        for (word, text) in [
            ("twice", format!("{{\"service_id\":\"Invalid\",{inner}")),
            ("case", format!("{{\"Service_ID\":\"Invalid\",{inner}")),
            ("unknown", format!("{{\"x-more\":{{\"a\":[1.0,2e5]}},{inner}")),
            ("escaped", text.replace("service_id", "service\\u005fid")),
        ] {
            let path = instance(&talk.id(word)) + LATER;
            whatever(talk, &Ask::new("PUT", path.clone()).text(&text))?;
            whatever(talk, &Ask::new("GET", path))?;
        }
        Ok(())
    });
    suite.each("odd: a body of another type, and one in chunks", |talk, offer| {
        for (word, kind) in
            [("none", ""), ("text", "text/plain"), ("charset", "application/json; charset=utf-8")]
        {
            let ask = Ask::new("PUT", instance(&talk.id(word)) + LATER).body(&wanted(offer));
            whatever(talk, &ask.content_type(kind))?;
        }
        whatever(talk, &Ask::new("PUT", instance(&talk.id("chunks")) + LATER).body(&wanted(offer)).chunked())
    });
    suite.each("odd: a body with much in it", |talk, offer| {
        let mut body = wanted(offer);
        body["parameters"] = json!({"much": "x".repeat(300_000)});
        let path = instance(&talk.id("instance"));
        whatever(talk, &Ask::new("PUT", path.clone() + LATER).body(&body))?;
        whatever(talk, &Ask::new("GET", path))
    });
}

fn paths(suite: &mut Suite) {
    suite.each("odd: ids that must be encoded, in several spellings", |talk, offer: &Offer| {
        for (one, other) in
            [("a%20b", "a%20b"), ("%61~%7e", "a%7E~"), ("%C3%A4%26%3F", "%c3%a4&%3f"), ("a+b", "a%2Bb")]
        {
            let id = talk.id("i");
            let [path, again] = [one, other].map(|spelling| instance(&format!("{id}-{spelling}")));
            whatever(talk, &Ask::new("PUT", path.clone() + LATER).body(&wanted(offer)))?;
            for path in [path, again] {
                whatever(talk, &Ask::new("GET", format!("{path}/last_operation")))?;
            }
        }
        Ok(())
    });
    suite.each("odd: paths that no broker has", |talk, offer| {
        let id = provisioned(talk, offer)?;
        for path in [
            format!("{}/", instance(&id)),
            format!("{}/unknown", instance(&id)),
            format!("{}/service_bindings", instance(&id)),
            format!("{}/unknown/way", binding(&id, "b")),
            format!("{}/last_operation/more", instance(&id)),
        ] {
            for method in ["GET", "POST"] {
                whatever(talk, &Ask::new(method, format!("{path}?{}", ids(offer))))?;
            }
        }
        Ok(())
    });
    for path in
        ["/v2", "/v2/", "/v2/unknown", "/v2/service_instances", "/v2/service_instances/", "/v2/catalog/"]
    {
        suite.once(format!("odd: {path}"), |talk| whatever(talk, &Ask::new("GET", path)));
    }
    for method in ["HEAD", "POST", "OPTIONS"] {
        suite.once(format!("odd: {method} of the catalog"), |talk| {
            whatever(talk, &Ask::new(method, "/v2/catalog"))
        });
    }
    suite
        .once("odd: the catalog with a query", |talk| whatever(talk, &Ask::new("GET", "/v2/catalog?x=1&x=")));
}
