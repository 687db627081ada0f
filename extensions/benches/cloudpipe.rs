//! What the cloudpipe face adds to an answer: links rewritten, many lists made one.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot go on must stop and say where")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use standpipe_api::testing::{FakeFederation, call, json_answer, provider};
use standpipe_api::{Body, Dialect as _, Extension, Flow, Provider, Target};
use standpipe_extensions::cloudpipe::{Aggregate, CloudpipeDialect, Rewrite};
use tokio::runtime::{Builder, Runtime};

/// Providers that are asked for their pipes, and pipes that each answers with.
const LISTS: usize = 32;
const PIPES: usize = 20;

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// A pipe as a broker answers with it: about 1 KiB, three links.
fn one_pipe(broker: &str, id: usize) -> Value {
    let end = |name: &str| {
        json!({
            "uri": format!("{broker}/db/pipes/{id}#{name}"),
            "issuer": broker,
            "data": { "URI": format!("postgres://{name}.example:5432/{id}"), "USERNAME": name, "CA": "x".repeat(300) },
        })
    };
    let link = |rest: &str| json!({ "href": format!("{broker}/db/pipes/{id}{rest}") });
    json!({
        "id": format!("pipe-{id}"), "this": end("this"), "other": end("other"), "schema": { "type": "object" },
        "_links": { "self": link(""), "proto": link("/proto"), "adapters": [link("/adapters/conn:https")] },
    })
}

fn link_rewriting(bench: &mut Criterion) {
    let (runtime, federation) =
        (runtime(), FakeFederation::new("cloudpipe", &["alpha"], |_, _| panic!("nobody is asked")));
    let (rewrite, target) = (Rewrite::new(Arc::default()), Target::provider("alpha".into()));
    let mut group = bench.benchmark_group("link rewriting");
    for (name, body) in [
        ("pipe with links", one_pipe("http://alpha.test", 1).to_string()),
        ("1 KiB without links", json!({ "pad": "0".repeat(1010) }).to_string()),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        let mut call = call(Method::GET, "/db/pipes/1", &[]);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut response = Response::new(Body::from(body.clone()));
                let rewritten = rewrite.after_forward(&mut call, &mut response, &target, &federation);
                runtime.block_on(rewritten).unwrap();
                black_box(response)
            });
        });
    }
    group.finish();
}

fn merging(bench: &mut Criterion) {
    let dialect = CloudpipeDialect::new(Arc::default());
    let named = |number: usize| {
        let settings = dialect.provider_settings(&toml::toml! { resources = ["db"] }).unwrap();
        Provider { settings, ..provider(&format!("broker-{number}"), "cloudpipe") }
    };
    let pipes: Vec<Value> = (0..PIPES).map(|id| one_pipe("http://broker.test", id)).collect();
    let answer = json_answer(StatusCode::OK, &Value::from(pipes));
    let federation = FakeFederation::new("cloudpipe", &[], move |_, _| Ok(answer.clone()))
        .with_providers((0..LISTS).map(named).collect());
    let (runtime, aggregate) = (runtime(), Aggregate::new(Arc::default()));
    bench.bench_function(&format!("merging {LISTS} lists of {PIPES} pipes"), |bencher| {
        bencher.iter(|| {
            let mut call = call(Method::GET, "/pipes", &[]);
            let mut request = Request::new(Body::empty());
            match runtime.block_on(aggregate.take_over(&mut call, &mut request, &federation)).unwrap() {
                Flow::Respond(response) => black_box(response),
                other => panic!("not answered: {other:?}"),
            }
        });
    });
}

criterion_group!(benches, link_rewriting, merging);
criterion_main!(benches);
