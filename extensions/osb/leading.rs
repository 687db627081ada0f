//! What no table can tell alone: a plan that the caller does not see, offerings that several brokers share, and an instance of
//! one broker with a service of another.

use http::{Method, Request, StatusCode};
use standpipe_api::{
    Body, Call, Error, Federation, Flow, Mapping, MappingState, ProviderId, Query, Result, Target,
};

use super::Brokers;
use super::catalog::{Generation, Member};
use super::client::binding;
use super::dialect::{NAME, verdict};
use super::ids::Ids;
use super::question;
use super::recording::{ids, instance, is_poll, mapping};
use super::settings::ProviderSettings;
use crate::incoming;

/// Bytes of a body that are read for its ids; the engine reads no more either by default.
const LONGEST: usize = 1 << 20;

impl Brokers {
    /// Decides where a call goes, or that it goes nowhere, as far as that is not the engine's to find out.
    ///
    /// # Errors
    /// Somebody who could know did not answer, or the store does not.
    pub(super) async fn lead(
        &self,
        call: &Call,
        request: &mut Request<Body>,
        fed: &dyn Federation,
    ) -> Result<Flow> {
        let now = self.catalogs.now();
        let binds = call.method == Method::PUT && !call.params.get("binding").is_empty();
        let is_led = fed.pinned().is_none() && (binds || !now.shared.is_empty());
        if self.visibility().is_none() && !is_led {
            return Ok(Flow::Continue);
        }
        let ids = read_ids(call, request).await?;
        if let Some(told) = self.hidden(&now, (call, request, &ids), fed).await? {
            return Ok(Flow::Respond(told));
        }
        if binds && ids.service.is_none() {
            return lead_rotation(call, ids.predecessor.as_deref(), fed).await;
        }
        let shared = ids.service.as_deref().filter(|service| now.shared.contains(*service));
        match shared.filter(|_| fed.pinned().is_none()) {
            Some(service) => self.lead_in_group(&now, call, service, fed).await,
            None => Ok(Flow::Continue),
        }
    }

    /// Lets a call wait for catalogs that are read for the first time, if nothing else tells where it goes.
    ///
    /// # Errors
    /// The body cannot be read, or the store does not answer.
    pub(super) async fn wait_for_catalogs(
        &self,
        call: &Call,
        request: &mut Request<Body>,
        fed: &dyn Federation,
    ) -> Result<()> {
        let ids = read_ids(call, request).await?;
        let is_known =
            |service: &String| self.catalogs.now().members.iter().any(|member| member.knows(service));
        if !ids.service.as_ref().is_some_and(is_known) && mapping(fed, &instance(call)).await?.is_none() {
            self.first_round(fed).await;
        }
        Ok(())
    }

    /// A service that several brokers offer alike: an instance stays where it is; one that nobody has written down is asked
    /// for first, because only all of them together can say that it does not exist (decision 49).
    async fn lead_in_group(
        &self,
        now: &Generation,
        call: &Call,
        service: &str,
        fed: &dyn Federation,
    ) -> Result<Flow> {
        let instance = instance(call);
        let creates = call.method == Method::PUT && call.params.get("binding").is_empty();
        // A tombstone routes polls and repeated deletes, and never a creation.
        let known = mapping(fed, &instance).await?;
        if known.is_some_and(|mapping| !creates || mapping.state != MappingState::Gone) {
            return Ok(Flow::Continue);
        }
        let seen: Vec<&Member> = now.group(service, |id| Self::sees(fed, id)).collect();
        if seen.len() < 2 {
            return Ok(Flow::Continue);
        }
        let question = |member: &Member| -> Option<(Target, Query)> {
            let version = ProviderSettings::of(&member.provider).api_version;
            Some((Target::from(&member.provider), question::read(&instance, &version)?))
        };
        let questions = seen.iter().filter_map(|member| question(member)).collect();
        let (mut yes, mut silent) = (Vec::new(), Vec::new());
        // Where instances cannot be fetched, a broker's 404 says nothing.
        let is_fetched = |member: &&Member| {
            member.service(service).is_some_and(|service| service.says("instances_retrievable"))
        };
        let speaks = |id: &ProviderId| seen.iter().filter(|member| member.provider.id == *id).all(is_fetched);
        for (target, answer) in fed.query_each(questions).await {
            match answer.map(|answer| answer.status()) {
                Ok(status) if status.is_success() => yes.push(target),
                Ok(StatusCode::NOT_FOUND | StatusCode::GONE) if speaks(&target.provider) => {}
                // Nor could it ever say more; something new has to begin somewhere.
                Ok(status) if creates && status.is_client_error() && !speaks(&target.provider) => {}
                Ok(_) | Err(_) => silent.push(target.provider),
            }
        }
        match (yes.len(), silent.is_empty()) {
            (1, _) => Ok(yes.pop().map_or(Flow::Continue, Flow::To)),
            (0, true) if creates => Ok(Flow::Continue),
            // One that cannot be put to work may offer the service too.
            (0, true) => match self.catalogs.unheard(&fed.left_out(NAME)) {
                left_out if left_out.is_empty() => Ok(Flow::Respond(nowhere(call))),
                left_out => Err(Error::could_not_ask(&instance, left_out)),
            },
            (0, false) => Err(Error::could_not_ask(&instance, silent)),
            _ => Err(Error::ambiguous(&instance, yes.into_iter().map(|target| target.provider).collect())),
        }
    }

    /// An instance of one provider with a service of another: the one conflict that only standpipe can see, because neither
    /// broker knows both.
    ///
    /// # Errors
    /// The conflict; or the store does not answer.
    pub(super) async fn refuse_swap(
        &self,
        call: &Call,
        request: &Request<Body>,
        to: &Target,
        fed: &dyn Federation,
    ) -> Result<()> {
        if !matches!(call.method, Method::PUT | Method::PATCH) {
            return Ok(());
        }
        let Some(service) = ids(&call.method, request).service else { return Ok(()) };
        let now = self.catalogs.now();
        let here = now.member(&to.provider).is_some_and(|member| member.knows(&service));
        let elsewhere = || {
            let mut others = now.members.iter().filter(|member| member.provider.id != to.provider);
            others.any(|member| member.knows(&service) && Self::sees(fed, &member.provider.id))
        };
        if here || !elsewhere() {
            return Ok(());
        }
        let instance = instance(call);
        let lives = |mapping: Mapping| mapping.provider == to.provider && mapping.state != MappingState::Gone;
        if !mapping(fed, &instance).await?.is_some_and(lives) {
            return Ok(());
        }
        Err(Error::conflict(format!("{instance} is not of the service {service}")))
    }
}

/// The ids that a call says; its body is read for them.
async fn read_ids(call: &Call, request: &mut Request<Body>) -> Result<Ids> {
    read(call, request).await?;
    Ok(ids(&call.method, request))
}

/// Reads the body of a call that says ids in it, unless it is here.
///
/// # Errors
/// It is too long, or does not arrive.
pub(super) async fn read(call: &Call, request: &mut Request<Body>) -> Result<()> {
    if matches!(call.method, Method::PUT | Method::PATCH) && request.body().as_bytes().is_none() {
        incoming::body(call, request, LONGEST).await?;
    }
    Ok(())
}

/// A rotation says no service: where nobody has mapped its instance, the binding that it replaces tells the broker.
async fn lead_rotation(call: &Call, predecessor: Option<&str>, fed: &dyn Federation) -> Result<Flow> {
    let Some(predecessor) = predecessor.filter(|_| fed.pinned().is_none()) else { return Ok(Flow::Continue) };
    if mapping(fed, &instance(call)).await?.is_some() {
        return Ok(Flow::Continue);
    }
    let replaced = mapping(fed, &binding(&call.caller, call.params.get("instance"), predecessor)).await?;
    let lives = replaced.filter(|mapping| mapping.state != MappingState::Gone);
    let at = lives.and_then(|mapping| fed.provider(&mapping.provider));
    Ok(at.map_or(Flow::Continue, |provider| Flow::To(Target::from(&provider))))
}

/// What a caller is told of an instance that none of those who share its service has.
fn nowhere(call: &Call) -> http::Response<Body> {
    absent(call, "none of the brokers of this service has the instance")
}

/// What a caller is told of what is nowhere, and why.
pub(super) fn absent(call: &Call, why: &str) -> http::Response<Body> {
    match call.method {
        Method::DELETE => verdict(StatusCode::GONE, why),
        Method::GET if is_poll(call) => {
            verdict(StatusCode::NOT_FOUND, "no operation of this instance is known")
        }
        Method::GET => verdict(StatusCode::NOT_FOUND, why),
        _ => verdict(StatusCode::BAD_REQUEST, why),
    }
}
