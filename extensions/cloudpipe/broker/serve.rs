//! From a method and path to what it does, and the log line that says which call arrived.

use http::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use serde_json::Value;
use standpipe_api::{Body, ResourceId, bearer};

use super::answer::{self, Refusal};
use super::core::{Broker, PIPE_BYTES};
use super::list::Listing;
use super::pipe::{BlueprintName, PipeId, Side, TemplateId};
use super::update::By;
use super::wire::Setup;
use super::wish::Wish;

/// What a path names, relative to the broker.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Pipes(ResourceId),
    Pipe(ResourceId, PipeId),
    RotatePipe(ResourceId, PipeId),
    Rotate(ResourceId),
    Blueprints(ResourceId, Side),
    Blueprint(ResourceId, Side, BlueprintName),
    Bindings(ResourceId, Side, BlueprintName),
    Templates(ResourceId, Side, BlueprintName, Kind),
    Template(ResourceId, Side, BlueprintName, Kind, TemplateId),
}

/// Which templates of a blueprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Protos,
    Adapters,
}

impl Place {
    pub(crate) fn read(path: &str) -> Option<Self> {
        let decode = |segment| percent_decode_str(segment).decode_utf8().ok().map(String::from);
        let segments: Option<Vec<String>> = path.strip_prefix('/')?.split('/').map(decode).collect();
        let segments = segments?;
        if segments.iter().any(String::is_empty) {
            return None;
        }
        let words: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (&resource, rest) = words.split_first()?;
        let resource = ResourceId::from(resource);
        let name = |name: &str| BlueprintName(name.to_owned());
        Some(match rest {
            ["pipes"] => Self::Pipes(resource),
            ["pipes", id] => Self::Pipe(resource, PipeId::read(id)?),
            ["pipes", id, "rotate"] => Self::RotatePipe(resource, PipeId::read(id)?),
            ["rotate"] => Self::Rotate(resource),
            [word] => Self::Blueprints(resource, side(word)?),
            [word, blueprint] => Self::Blueprint(resource, side(word)?, name(blueprint)),
            [word, blueprint, "bindings"] => Self::Bindings(resource, side(word)?, name(blueprint)),
            [word, blueprint, kind] => {
                Self::Templates(resource, side(word)?, name(blueprint), Kind::read(kind)?)
            }
            [word, blueprint, kind, id] => {
                let id = TemplateId((*id).to_owned());
                Self::Template(resource, side(word)?, name(blueprint), Kind::read(kind)?, id)
            }
            _ => return None,
        })
    }

    /// Its methods, as `Allow` says them.
    pub(crate) const fn allow(&self) -> &'static str {
        match self {
            Self::Pipes(_) | Self::Blueprint(..) | Self::Bindings(..) => "GET, HEAD, POST",
            Self::Pipe(..) => "GET, HEAD, POST, PATCH, DELETE",
            Self::RotatePipe(..) | Self::Rotate(_) => "POST",
            Self::Blueprints(..) | Self::Templates(..) | Self::Template(..) => "GET, HEAD",
        }
    }
}

fn side(word: &str) -> Option<Side> {
    [Side::Offers, Side::Needs].into_iter().find(|side| side.word() == word)
}

impl Kind {
    fn read(word: &str) -> Option<Self> {
        match word {
            "protos" => Some(Self::Protos),
            "adapters" => Some(Self::Adapters),
            _ => None,
        }
    }
}

impl Broker {
    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, mut body) = request.into_parts();
        let answered = match bearer(&head.headers).map(SecretString::from) {
            // Callers' credentials end at the engine: a token that comes here is another broker's.
            Some(token) => self.hear(&head.method, head.uri.path(), &token, &mut body).await,
            None => self.handle(&head.method, head.uri.path(), &mut body).await,
        };
        let mut response = answered.unwrap_or_else(Refusal::into_response);
        if head.method == Method::HEAD {
            *response.body_mut() = Body::empty();
        }
        let status = response.status().as_u16();
        tracing::info!(broker = %self.name, method = %head.method, path = head.uri.path(), status, "served");
        response
    }

    async fn handle(&self, method: &Method, path: &str, body: &mut Body) -> Result<Response<Body>, Refusal> {
        let place = Place::read(path)
            .ok_or_else(|| Refusal::unknown("this broker has nothing at this path".to_owned()))?;
        let setup = self.setup()?;
        let word = if method == Method::HEAD { "GET" } else { method.as_str() };
        if !place.allow().split(", ").any(|allowed| allowed == word) {
            return Err(Refusal::method(place.allow()));
        }
        match word {
            "GET" => self.read(&setup, &place).await,
            "DELETE" => match &place {
                Place::Pipe(resource, id) => {
                    self.remove(&setup, resource, id).await?;
                    Ok(answer::empty(StatusCode::NO_CONTENT))
                }
                _ => Err(Refusal::method(place.allow())),
            },
            // POST and PATCH, which a pipe does not tell apart.
            _ => {
                let body = body.bytes(PIPE_BYTES).await?;
                self.write(&setup, &place, &body).await
            }
        }
    }

    /// Another broker has something to say of the pipe that it is the other end of.
    async fn hear(
        &self,
        method: &Method,
        path: &str,
        token: &SecretString,
        body: &mut Body,
    ) -> Result<Response<Body>, Refusal> {
        let is_change = *method == Method::PATCH || *method == Method::POST;
        let Some(Place::Pipe(resource, id)) = Place::read(path).filter(|_| is_change) else {
            return Err(Refusal::unauthenticated());
        };
        let body = body.bytes(PIPE_BYTES).await?;
        self.hear_news(&self.setup()?, &resource, &id, token, &body).await?;
        Ok(answer::empty(StatusCode::ACCEPTED))
    }

    async fn write(&self, setup: &Setup, place: &Place, body: &[u8]) -> Result<Response<Body>, Refusal> {
        match place {
            Place::Pipes(resource) => {
                setup.resource(resource)?;
                let pipe = self.create(setup, resource, Wish::read(body)?, None).await?;
                let location = setup.location(resource, &pipe.id);
                Ok(answer::located(StatusCode::CREATED, &setup.pipe(resource, &pipe), &location))
            }
            Place::Blueprint(resource, side, name) | Place::Bindings(resource, side, name) => {
                setup.blueprint(resource, *side, name)?;
                let pipe = self.create(setup, resource, Wish::read(body)?, Some((*side, name))).await?;
                let location = setup.location(resource, &pipe.id);
                Ok(answer::located(StatusCode::ACCEPTED, &setup.binding(resource, &pipe), &location))
            }
            Place::Pipe(resource, id) => {
                self.update(setup, resource, id, By::Caller, body).await?;
                Ok(answer::empty(StatusCode::ACCEPTED))
            }
            Place::RotatePipe(resource, id) => {
                self.rotate(setup, resource, id).await?;
                Ok(answer::empty(StatusCode::ACCEPTED))
            }
            Place::Rotate(resource) => {
                self.rotate_all(setup, resource).await?;
                Ok(answer::empty(StatusCode::ACCEPTED))
            }
            Place::Blueprints(..) | Place::Templates(..) | Place::Template(..) => {
                Err(Refusal::method(place.allow()))
            }
        }
    }

    async fn read(&self, setup: &Setup, place: &Place) -> Result<Response<Body>, Refusal> {
        let shown = match place {
            Place::Pipes(resource) => {
                setup.resource(resource)?;
                return self.list(setup, resource, Listing::All).await;
            }
            Place::Bindings(resource, side, name) => {
                setup.blueprint(resource, *side, name)?;
                return self.list(setup, resource, Listing::Bound(*side, name.clone())).await;
            }
            Place::Pipe(resource, id) => {
                setup.resource(resource)?;
                setup.pipe(resource, &self.get(resource, id).await?.pipe)
            }
            Place::Blueprints(resource, side) => {
                let blueprints = setup.resource(resource)?.blueprints.iter();
                blueprints.filter(|blueprint| blueprint.side == *side).map(|known| known.wire()).collect()
            }
            Place::Blueprint(resource, side, name) => setup.blueprint(resource, *side, name)?.wire(),
            Place::Templates(resource, side, name, kind) => {
                let blueprint = setup.blueprint(resource, *side, name)?;
                match kind {
                    Kind::Protos => blueprint.wire_templates(&blueprint.protos).into(),
                    Kind::Adapters => blueprint.wire_templates(&blueprint.adapters).into(),
                }
            }
            Place::Template(resource, side, name, kind, id) => {
                template(setup, resource, *side, name, *kind, id)?
            }
            Place::RotatePipe(..) | Place::Rotate(_) => return Err(Refusal::method(place.allow())),
        };
        Ok(answer::json(StatusCode::OK, &shown))
    }
}

fn template(
    setup: &Setup,
    resource: &ResourceId,
    side: Side,
    name: &BlueprintName,
    kind: Kind,
    id: &TemplateId,
) -> Result<Value, Refusal> {
    let blueprint = setup.blueprint(resource, side, name)?;
    let (word, templates) = match kind {
        Kind::Protos => ("proto", &blueprint.protos),
        Kind::Adapters => ("adapter", &blueprint.adapters),
    };
    let found = templates.iter().find(|template| template.id == *id);
    let found = found.ok_or_else(|| Refusal::unknown(format!("{name} of {resource} has no {word} {id}")))?;
    Ok(found.wire(side))
}
