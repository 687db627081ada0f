//! The other end is told what the credentials are.

use serde_json::{Map, Value};
use standpipe_api::{Background, Error, Job, JobOutcome, Result, Timestamp};

use super::record::{Blame, Bound, Farewell, Trouble};
use super::services::Services;
use super::work::{Next, Then, again};
use crate::cloudpipe::broker::push::{self, Delivery, Sender, address};
use crate::cloudpipe::broker::wire;
use crate::osb::client::{Client, Reply};

/// The credentials of a pipe.
pub(super) enum Credentials {
    /// These.
    Known(Map<String, Value>),
    /// The broker does not tell them again, and they are not kept.
    Gone,
}

impl Services {
    /// Reads the credentials of a pipe where they are: at the broker, or among what is kept.
    ///
    /// # Errors
    /// The broker could not be asked, or does not tell them.
    pub(super) async fn credentials(&self, bound: &Bound, client: &Client<'_>) -> Result<Credentials> {
        if bound.plan.retrievable {
            let reply: Reply = client.fetch(&bound.binding_place(bound.counting())).await?;
            return if reply.status.is_success() {
                Ok(Credentials::Known(bound.data(reply.body)))
            } else {
                let provider = &bound.plan.provider;
                let what =
                    format!("the credentials of {}: {provider} answered {}", bound.pipe.id, reply.status);
                Err(Error::could_not_ask(what, vec![provider.clone()]))
            };
        }
        let kept = self.kept(&bound.errand()).await?.filter(|kept| kept.binding == bound.counting());
        Ok(kept.map_or(Credentials::Gone, |kept| Credentials::Known(kept.data)))
    }
}

/// Tells the other end the credentials that count now; whether that is over, for good or bad.
pub(super) async fn tell(
    services: &Services,
    bound: Bound,
    client: &Client<'_>,
    background: &dyn Background,
) -> Result<Next> {
    let Some(uri) = address(&bound.pipe.other).map(str::to_owned) else {
        return Ok(Next::new(Bound { news: None, ..bound }, Then::GoOn));
    };
    let data = match services.credentials(&bound, client).await {
        Ok(Credentials::Known(data)) => data,
        Ok(Credentials::Gone) => return Ok(over(bound, "they are not kept: rotate the pipe".to_owned())),
        Err(error) => return Ok(wait(services, bound, error.public().to_owned())),
    };
    let gone = bound.told.iter().filter(|key| !data.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let news: Map<String, Value> = data.clone().into_iter().chain(gone).collect();
    let issuer = background.public_url();
    let sender = Sender { issuer: &issuer, uri: &wire::uri(&issuer, &bound.resource, &bound.pipe.id) };
    let delivery = if news.is_empty() {
        Delivery::Done
    } else {
        push::tell(sender, &uri, Value::Object(news), background).await?
    };
    Ok(match delivery {
        Delivery::Done => {
            let told = data.keys().cloned().collect();
            let since = Timestamp::now();
            Next::new(Bound { news: None, told, trouble: None, since, ..bound }, Then::GoOn)
        }
        Delivery::Never(why) => over(bound, why),
        Delivery::Later(why) => wait(services, bound, why),
    })
}

/// Tells the other end of a pipe that is gone that its credentials are of no use any more.
pub(super) async fn farewell(
    services: &Services,
    farewell: &Farewell,
    job: &Job,
    background: &dyn Background,
) -> JobOutcome {
    let (issuer, Farewell { gone, uri, since }) = (background.public_url(), farewell);
    let sender = Sender { issuer: &issuer, uri: &wire::uri(&issuer, &gone.resource, &gone.id) };
    let why = match push::tell(sender, uri, Value::Null, background).await {
        Ok(Delivery::Done) => return JobOutcome::Done,
        Ok(Delivery::Never(why)) => return JobOutcome::Failed(why),
        Ok(Delivery::Later(why)) => why,
        Err(error) => error.log_text(),
    };
    if since.plus(services.settings().give_up_after) <= Timestamp::now() {
        return JobOutcome::Failed(format!("given up: {why}"));
    }
    again(job, None, why)
}

fn over(bound: Bound, why: String) -> Next {
    tracing::warn!(resource = %bound.resource, pipe = %bound.pipe.id, reason = why, "the other end was not told the credentials");
    let since = Timestamp::now();
    Next::new(Bound { news: None, trouble: untold(&why), since, ..bound }, Then::GoOn)
}

fn wait(services: &Services, bound: Bound, why: String) -> Next {
    let end = bound.news.map(|since| since.plus(services.settings().give_up_after));
    if end.is_none_or(|end| end <= Timestamp::now()) {
        return over(bound, why);
    }
    Next::new(Bound { trouble: untold(&why), ..bound }, Then::Wait(None, why))
}

fn untold(why: &str) -> Option<Trouble> {
    let text = format!("the other end was not told the credentials: {why}");
    Some(Trouble { text, blame: Blame::Broker })
}
