//! What a broker's answer means for a pipe.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value};
use standpipe_api::{Error, Result};

use super::record::{Blame, Polled};
use crate::osb::client::Reply;

/// Characters of a broker's text that are shown.
const LONGEST: usize = 1000;

/// What an answer means.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// It is done; what the broker told.
    Done(Map<String, Value>),
    /// The broker is at it.
    Going(Polled, Option<Duration>),
    /// It will not be done, whoever's fault that is.
    Refused(String, Blame),
    /// It may work later.
    Later(String, Option<Duration>),
}

/// What an answer to a creation means.
pub(super) fn created(answer: Result<Reply>) -> Heard {
    let reply = match answer {
        Ok(reply) => reply,
        Err(error) => return unanswered(&error),
    };
    match reply.status {
        StatusCode::OK | StatusCode::CREATED => Heard::Done(reply.body),
        StatusCode::ACCEPTED => going(&reply),
        status if comes_back(&reply) => Heard::Later(said(status, &reply), reply.retry_after),
        status if status.is_client_error() => Heard::Refused(said(status, &reply), Blame::Caller),
        status => Heard::Refused(said(status, &reply), Blame::Broker),
    }
}

/// What an answer to a deletion means.
pub(super) fn deleted(answer: Result<Reply>) -> Heard {
    let reply = match answer {
        Ok(reply) => reply,
        Err(error) => return unanswered(&error),
    };
    match reply.status {
        // The broker is the authority: what it does not know is not there.
        StatusCode::OK | StatusCode::GONE | StatusCode::NOT_FOUND => Heard::Done(reply.body),
        StatusCode::ACCEPTED => going(&reply),
        status => Heard::Later(said(status, &reply), reply.retry_after),
    }
}

/// What an answer to the question how a creation goes means.
pub(super) fn creating(answer: Result<Reply>, polled: &Polled) -> Heard {
    let reply = match answer {
        Ok(reply) => reply,
        Err(error) => return unanswered(&error),
    };
    match (reply.status, state(&reply)) {
        (StatusCode::OK, Some("succeeded")) => Heard::Done(reply.body),
        (StatusCode::OK, Some("in progress")) => Heard::Going(polled.clone(), reply.retry_after),
        (StatusCode::OK, Some("failed")) | (StatusCode::GONE | StatusCode::NOT_FOUND, _) => {
            Heard::Refused(said(reply.status, &reply), Blame::Broker)
        }
        (status, _) => Heard::Later(said(status, &reply), reply.retry_after),
    }
}

/// What an answer to the question how a deletion goes means.
pub(super) fn deleting(answer: Result<Reply>, polled: &Polled) -> Heard {
    let reply = match answer {
        Ok(reply) => reply,
        Err(error) => return unanswered(&error),
    };
    match (reply.status, state(&reply)) {
        (StatusCode::OK, Some("succeeded")) | (StatusCode::GONE | StatusCode::NOT_FOUND, _) => {
            Heard::Done(reply.body)
        }
        (StatusCode::OK, Some("in progress")) => Heard::Going(polled.clone(), reply.retry_after),
        (StatusCode::OK, Some("failed")) => Heard::Refused(said(reply.status, &reply), Blame::Broker),
        (status, _) => Heard::Later(said(status, &reply), reply.retry_after),
    }
}

fn unanswered(error: &Error) -> Heard {
    Heard::Later(error.public().to_owned(), None)
}

fn going(reply: &Reply) -> Heard {
    let operation = reply.body.get("operation").and_then(Value::as_str).map(str::to_owned);
    Heard::Going(Polled { operation }, reply.retry_after)
}

fn state(reply: &Reply) -> Option<&str> {
    reply.body.get("state").and_then(Value::as_str)
}

/// Whether the same request may be answered otherwise in a while.
fn comes_back(reply: &Reply) -> bool {
    let concurrent = reply.body.get("error").and_then(Value::as_str) == Some("ConcurrencyError");
    let busy = matches!(
        reply.status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    busy || (concurrent && reply.status == StatusCode::UNPROCESSABLE_ENTITY)
}

/// The broker's own words, which are for platforms' users (spec, "Service Broker Errors").
fn said(status: StatusCode, reply: &Reply) -> String {
    let text = |key: &str| reply.body.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    match text("description").or_else(|| text("error")) {
        Some(text) => text.chars().filter(|c| !c.is_control()).take(LONGEST).collect(),
        None => format!("it answered {status}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reply(status: u16, body: &Value) -> Result<Reply> {
        let body = body.as_object().unwrap().clone();
        Ok(Reply { status: StatusCode::from_u16(status).unwrap(), body, retry_after: None })
    }

    #[test]
    fn nothing_is_given_up_that_may_have_worked_and_nothing_tried_again_that_was_refused() {
        for (status, body, expected) in [
            (200, json!({}), "Done"),
            (201, json!({}), "Done"),
            (202, json!({"operation": "o"}), "Going"),
            (400, json!({"description": "no such disk"}), "Refused(\"no such disk\", Caller)"),
            (409, json!({}), "Refused(\"it answered 409 Conflict\", Caller)"),
            (422, json!({"error": "ConcurrencyError"}), "Later"),
            (422, json!({"error": "RequiresApp"}), "Refused(\"RequiresApp\", Caller)"),
            (429, json!({}), "Later"),
            (500, json!({}), "Refused(\"it answered 500 Internal Server Error\", Broker)"),
            (503, json!({}), "Later"),
        ] {
            let heard = format!("{:?}", created(reply(status, &body)));
            assert!(heard.starts_with(expected), "{status} {body}: {heard}");
        }
        let timeout = Error::could_not_ask("it", Vec::new());
        assert!(matches!(created(Err(timeout)), Heard::Later(..)));
    }

    #[test]
    fn only_the_broker_says_that_something_is_gone() {
        let polled = Polled { operation: None };
        for (status, body, gone, is) in [
            (200, json!({"state": "succeeded"}), "Done", "Done"),
            (200, json!({"state": "in progress"}), "Going", "Going"),
            (200, json!({"state": "failed"}), "Refused", "Refused"),
            (410, json!({}), "Done", "Refused"),
            (404, json!({}), "Done", "Refused"),
            (500, json!({}), "Later", "Later"),
        ] {
            let [one, other] =
                [deleting(reply(status, &body), &polled), creating(reply(status, &body), &polled)];
            let [one, other] = [format!("{one:?}"), format!("{other:?}")];
            assert!(one.starts_with(gone) && other.starts_with(is), "{status} {body}: {one}, {other}");
        }
        assert!(matches!(deleted(reply(500, &json!({}))), Heard::Later(..)));
        assert!(matches!(deleted(reply(410, &json!({}))), Heard::Done(..)));
    }
}
