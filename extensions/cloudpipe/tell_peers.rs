//! Tells peers that sit next to a provider where a pipe was created, so that they need not search for it.

use async_trait::async_trait;
use http::{Request, Response};
use standpipe_api::{
    Body, Call, Delivery, Extension, Federation, Injection, Mapping, Resource, Result, Route, Target,
    Timestamp,
};

use super::dialect::{NAME, PIPE, RESOURCE, pipe_id};
use crate::path;

/// The extension.
pub struct TellPeers;

/// What a request brings into being.
#[derive(Clone)]
struct New {
    resource: String,
    /// The pipe's id, when the request gives it one.
    pipe: Option<String>,
}

#[async_trait(?Send)]
impl Extension for TellPeers {
    fn name(&self) -> &'static str {
        "cloudpipe-tell-peers"
    }

    fn routes(&self) -> Vec<Route> {
        let sides = ["offers", "needs"].iter().flat_map(|side| {
            [
                Route::post(&format!("/{{resource}}/{side}/{{blueprint}}")),
                Route::post(&format!("/{{resource}}/{side}/{{blueprint}}/bindings")),
                Route::post(&format!("/{side}/{{*blueprint}}")),
            ]
        });
        sides.chain([Route::post("/{resource}/pipes"), Route::post("/pipes")]).collect()
    }

    async fn before_forward(
        &self,
        call: &mut Call,
        request: &mut Request<Body>,
        to: &Target,
        fed: &dyn Federation,
    ) -> Result<()> {
        let (resource, _) = path::split_first(request.uri().path());
        if let Some(resource) = path::decode(resource)
            && !fed.peers_beside(&to.provider).is_empty()
        {
            let pipe = request.body().as_bytes().and_then(pipe_id);
            call.notes.insert(New { resource: resource.into_owned(), pipe });
        }
        Ok(())
    }

    async fn after_forward(
        &self,
        call: &mut Call,
        response: &mut Response<Body>,
        from: &Target,
        fed: &dyn Federation,
    ) -> Result<()> {
        let Some(New { resource, pipe }) = call.notes.remove::<New>() else { return Ok(()) };
        let speaks = |provider: standpipe_api::Provider| provider.dialect == NAME;
        if !response.status().is_success() || !fed.provider(&from.provider).is_some_and(speaks) {
            return Ok(());
        }
        let pipe = pipe.map(|id| Resource::new(PIPE, id).within(&*resource));
        let place = |resource: Resource| {
            let mut mapping = Mapping::learned(resource, from.provider.clone(), Timestamp::now());
            mapping.endpoint.clone_from(&from.endpoint);
            mapping.remote_scope.clone_from(&from.remote_scope);
            Injection::Resource(mapping)
        };
        let told: Vec<Injection> =
            pipe.into_iter().chain([Resource::new(RESOURCE, &*resource)]).map(place).collect();
        for peer in fed.peers_beside(&from.provider) {
            // The pipe is there whatever peers know of it.
            if let Err(error) = fed.inject(&peer, &told, Delivery::Outbox).await {
                tracing::warn!(%peer, error = error.log_text(), "a peer is not told of a new pipe");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Method, StatusCode};
    use standpipe_api::testing::{FakeFederation, call};

    fn federation() -> FakeFederation {
        let silent = |_: &Target, _: &standpipe_api::Query| unreachable!("nobody is asked");
        FakeFederation::new(NAME, &["alpha"], silent)
    }

    async fn told(federation: &FakeFederation, status: StatusCode, body: &'static str) -> Vec<String> {
        let mut call = call(Method::POST, "/pipes?resource=db", &[]);
        let target = Target::provider("alpha".into());
        let mut request = Request::new(Body::from(body));
        *request.uri_mut() = "/db/pipes".parse().unwrap();
        TellPeers.before_forward(&mut call, &mut request, &target, federation).await.unwrap();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        TellPeers.after_forward(&mut call, &mut response, &target, federation).await.unwrap();
        let injected = federation.injected().into_iter();
        injected
            .map(|(peer, injection)| match injection {
                Injection::Resource(mapping) => {
                    format!("{peer}: {} at {}", mapping.resource, mapping.provider)
                }
                Injection::Token { .. } => panic!("a token"),
            })
            .collect()
    }

    #[tokio::test]
    async fn a_peer_beside_the_provider_hears_of_a_new_pipe_and_its_resource() {
        let federation = federation().with_peer("west");
        let told = told(&federation, StatusCode::CREATED, r#"{"id":"web"}"#).await;
        assert_eq!(told, ["west: pipe db/web at alpha", "west: resource db at alpha"]);
    }

    #[tokio::test]
    async fn a_pipe_whose_id_the_broker_chooses_is_found_through_its_resource() {
        let federation = federation().with_peer("west");
        assert_eq!(told(&federation, StatusCode::CREATED, "{}").await, ["west: resource db at alpha"]);
    }

    #[tokio::test]
    async fn nobody_hears_of_what_was_refused() {
        let federation = federation().with_peer("west");
        assert!(told(&federation, StatusCode::CONFLICT, r#"{"id":"web"}"#).await.is_empty());
        let alone = super::tests::federation();
        assert!(told(&alone, StatusCode::CREATED, r#"{"id":"web"}"#).await.is_empty());
    }
}
