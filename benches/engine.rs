//! What the engine's tables cost: routes compiled once, mappings behind their cache, callers known by their tokens.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that cannot go on must stop and say where"
)]

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use bytes::Bytes;
use criterion::{BatchSize, Bencher, Criterion, criterion_group, criterion_main};
use http::{Method, Request, Response};
use serde_json::{Value, json};
use standpipe::config::TrustedIssuer;
use standpipe::identify::Oidc;
use standpipe::jwt::{Algorithm, Issuers};
use standpipe::route::Router;
use standpipe::store::{Mappings, MasterKey, Options, Sqlite, Store};
use standpipe_api::{
    Answer, Authenticator as _, Connection, Extension, Identified, Kind, Mapping, Outbound, Resource, Result,
    Timestamp,
};
use tokio::runtime::{Builder, Runtime};

/// The tables compared.
const ROWS: [u32; 2] = [1_000, 1_000_000];
/// Rows written in one transaction.
const BATCH: u32 = 10_000;
/// Keys looked up in turn from memory: far fewer than either table has.
const HOT: u32 = 500;

fn routing(bench: &mut Criterion) {
    let extensions: Vec<Arc<dyn Extension>> =
        standpipe_extensions::all().into_iter().map(Arc::from).collect();
    let router = Router::build(&extensions, standpipe_extensions::RESERVED).unwrap();
    let mut group = bench.benchmark_group("routing");
    for (name, path) in [
        ("pipe", "/arn:rds:analytics-db/pipes/web"),
        ("aggregated", "/offers"),
        ("unknown", "/db/some/deeper/path/that/no/operation/names"),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let way = router.way(black_box(path)).unwrap();
                black_box(router.find(&Method::GET, &way))
            });
        });
    }
    group.finish();
}

/// A database of so many mappings.
struct Table {
    rows: u32,
    store: Arc<dyn Store>,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Table {
    fn with(rows: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(folder.path(), &MasterKey::from_bytes([1; 32]), &Options::default());
        let store: Arc<dyn Store> = Arc::new(store.unwrap());
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        for first in (0..rows).step_by(BATCH as usize) {
            let batch = first..rows.min(first + BATCH);
            let batch = batch.map(|number| Mapping::learned(pipe(number), "alpha".into(), Timestamp::now()));
            runtime.block_on(store.import(batch.collect())).unwrap();
        }
        Self { rows, store, runtime, _folder: folder }
    }

    /// Looks mappings up one after the other; the time of one.
    fn look_up(&self, bencher: &mut Bencher<'_>, mappings: &Mappings, keys: u32) -> Duration {
        let (one, random) = (Cell::new(Duration::ZERO), Cell::new(fastrand::Rng::with_seed(7)));
        bencher.iter_custom(|times| {
            let mut draw = random.take();
            let wanted: Vec<Resource> = (0..times).map(|_| pipe(draw.u32(..keys))).collect();
            random.set(draw);
            let took = self.runtime.block_on(async {
                let start = Instant::now();
                for resource in &wanted {
                    assert!(black_box(mappings.get(resource).await).unwrap().is_some());
                }
                start.elapsed()
            });
            one.set(took / u32::try_from(times).unwrap_or(u32::MAX));
            took
        });
        one.get()
    }
}

fn pipe(number: u32) -> Resource {
    Resource::new(Kind::of("pipe"), format!("pipe-{number:07}")).within("arn:rds:analytics-db")
}

/// From memory, and past it: a cache that holds nothing sends every lookup to a reading thread.
fn mapping_lookup(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("mapping lookup");
    let mut times: Vec<[Duration; 2]> = Vec::new();
    for rows in ROWS {
        let table = Table::with(rows);
        let (cached, uncached) =
            (Mappings::new(table.store.clone(), 100_000), Mappings::new(table.store.clone(), 0));
        let mut took = [Duration::ZERO; 2];
        let [from_memory, from_disk] = &mut took;
        group.bench_function(format!("cached, {rows} rows"), |bencher| {
            *from_memory = table.look_up(bencher, &cached, HOT);
        });
        group.bench_function(format!("uncached, {rows} rows"), |bencher| {
            *from_disk = table.look_up(bencher, &uncached, table.rows);
        });
        times.push(took);
    }
    group.finish();
    if let [small, large] = times.as_slice() {
        for (what, small, large) in [("cached", small[0], large[0]), ("uncached", small[1], large[1])] {
            let ratio = large.as_secs_f64() / small.as_secs_f64();
            println!(
                "mapping lookup, {what}: {small:?} in {} rows, {large:?} in {}: ratio {ratio:.2}",
                ROWS[0], ROWS[1]
            );
        }
    }
}

/// A claim is what stands between a creating call and its provider.
fn claiming(bench: &mut Criterion) {
    let table = Table::with(ROWS[0]);
    let mut next = 0;
    bench.bench_function("claim, durable", |bencher| {
        bencher.iter_batched(
            || {
                next += 1;
                Mapping::learned(pipe(10_000_000 + next), "alpha".into(), Timestamp::now())
            },
            |mapping| table.runtime.block_on(table.store.claim(mapping, None)).unwrap(),
            BatchSize::PerIteration,
        );
    });
}

/// Where the callers' tokens come from.
const ISSUER: &str = "https://login.example";

/// What the issuer answers, whoever asks.
struct Documents(Value);

#[async_trait]
impl Outbound for Documents {
    async fn fetch(&self, _request: Request<Bytes>, _limit: Duration) -> Result<Answer> {
        Ok(Response::new(Bytes::from(self.0.to_string())))
    }

    async fn fetch_named(&self, request: Request<Bytes>, limit: Duration) -> Result<Answer> {
        self.fetch(request, limit).await
    }
}

/// The issuer's keys, and a token that it signed.
fn signed() -> (Documents, String) {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let (x, y) = key.public_key().as_ref().split_at(33);
    let (x, y) = (BASE64URL.encode(x.split_first().unwrap().1), BASE64URL.encode(y));
    let jwk = json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": "one", "x": x, "y": y});
    let documents = json!({"issuer": ISSUER, "jwks_uri": format!("{ISSUER}/keys"), "keys": [jwk]});
    let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 3600;
    let claims =
        json!({"iss": ISSUER, "aud": "standpipe", "sub": "ann", "exp": end, "groups": ["ops", "dev"]});
    let header = json!({"alg": "ES256", "kid": "one", "typ": "JWT"});
    let text = format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()));
    let signature = key.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
    (Documents(documents), format!("{text}.{}", BASE64URL.encode(signature)))
}

/// A caller's token at first sight, with the issuer's keys at hand, and when it is remembered.
fn callers(bench: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (documents, token) = signed();
    let trusted = TrustedIssuer {
        name: "corp".into(),
        issuer: ISSUER.into(),
        audience: "standpipe".into(),
        algorithms: vec![Algorithm::ES256],
        jwks_url: None,
        caller_claim: "sub".into(),
        tenant_claim: None,
        groups_claim: Some("groups".into()),
        leeway: Duration::from_secs(30),
    };
    let oidc = Oidc::new(vec![trusted], Issuers::new(None, Arc::new(documents)));
    let request = Request::get("/").header("authorization", format!("Bearer {token}")).body(()).unwrap();
    let (head, ()) = request.into_parts();
    let connection = Connection { peer: None, scheme: "http", client_certificate: None };
    let mut group = bench.benchmark_group("caller by token");
    group.bench_function("first sight, ES256", |bencher| {
        bencher.iter(|| runtime.block_on(oidc.verify(black_box(&token))).unwrap().unwrap());
    });
    let identified = runtime.block_on(oidc.identify(&head, &connection));
    assert!(matches!(identified, Identified::Caller(_)));
    group.bench_function("remembered", |bencher| {
        bencher.iter(|| oidc.recall(black_box(&head), &connection).unwrap());
    });
    group.finish();
}

criterion_group!(benches, routing, mapping_lookup, claiming, callers);
criterion_main!(benches);
