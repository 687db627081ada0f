//! One event per call: made on the serving core, formatted elsewhere.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, StatusCode, Uri};
use serde::Serialize;
use standpipe_api::{CallId, CallerId, Fault, ProviderId, Timestamp};

use super::lines::{Line, Lines};
use crate::config::LogFormat;

/// Longest path in an event, in bytes: the queue is bounded in events, this bounds it in memory.
const PATH_LIMIT: usize = 1024;

/// What is written about a call. It has no room for headers, queries and bodies.
#[derive(Clone, Debug)]
pub struct AccessEvent {
    /// The call, as its answer names it.
    pub call: CallId,
    /// When the call ended.
    pub at: Timestamp,
    /// The other side's address; `None` on a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Who called, once that was known.
    pub caller: Option<CallerId>,
    /// The face that answered, when one did.
    pub face: Option<&'static str>,
    /// The request's method.
    pub method: Method,
    /// The request's path, from [`AccessEvent::path_of`].
    pub path: Box<str>,
    /// The provider it was forwarded to.
    pub provider: Option<ProviderId>,
    /// The dialect's operation.
    pub operation: Option<&'static str>,
    /// How the provider was found: `pinned`, `mapped`, `index`, `only`, `flood`.
    pub resolved_by: Option<&'static str>,
    /// What the caller was answered.
    pub status: StatusCode,
    /// From the request's head to the answer's head.
    pub duration: Duration,
    /// Bytes of the answer's body, when known at its head.
    pub bytes: Option<u64>,
    /// Whose fault a failure was.
    pub fault: Option<Fault>,
}

impl AccessEvent {
    /// The path without its query, cut to 1024 bytes.
    pub fn path_of(uri: &Uri) -> Box<str> {
        let path = uri.path();
        path.get(..path.floor_char_boundary(PATH_LIMIT)).unwrap_or(path).into()
    }

    /// Appends the event and a line feed. Whatever a caller chose is escaped, so that it stays one line.
    pub(super) fn append(&self, format: LogFormat, out: &mut Vec<u8>) {
        match format {
            LogFormat::Text => out.extend_from_slice(self.text().as_bytes()),
            LogFormat::Json => {
                // Writing into memory cannot fail, and no field is a map with odd keys.
                let line = serde_json::to_vec(&Fields::of(self)).unwrap_or_default();
                out.extend_from_slice(&line);
            }
        }
        out.push(b'\n');
    }

    fn text(&self) -> String {
        let mut line = format!("{} access call={} ", self.at, self.call);
        let mut field = |name: &str, value: Option<&dyn std::fmt::Display>| {
            if let Some(value) = value {
                let _infallible = write!(line, "{name}={value} ");
            }
        };
        // `Debug` of text escapes quotes, control characters and what does not print.
        field("peer", self.peer.as_ref().map(|peer| peer as _));
        field(
            "caller",
            self.caller.as_ref().map(|caller| format!("{caller:?}")).as_ref().map(|text| text as _),
        );
        field("face", self.face.as_ref().map(|face| face as _));
        field("method", Some(&self.method));
        field("path", Some(&format!("{:?}", self.path)));
        field("provider", self.provider.as_ref().map(|provider| provider as _));
        field("operation", self.operation.as_ref().map(|operation| operation as _));
        field("resolved_by", self.resolved_by.as_ref().map(|how| how as _));
        field("fault", self.fault.as_ref().map(fault_word).as_ref().map(|word| word as _));
        field("bytes", self.bytes.as_ref().map(|bytes| bytes as _));
        field("status", Some(&self.status.as_u16()));
        let _infallible = write!(line, "duration_ms={:.3}", self.duration.as_secs_f64() * 1e3);
        line
    }
}

fn fault_word(fault: &Fault) -> &'static str {
    match fault {
        Fault::Caller => "caller",
        Fault::Proxy => "proxy",
        Fault::Provider(_) => "provider",
    }
}

/// The event as a JSON object; absent fields are left out.
#[derive(Serialize)]
struct Fields<'a> {
    timestamp: Timestamp,
    event: &'static str,
    call: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<&'a CallerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    face: Option<&'static str>,
    method: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a ProviderId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    status: u16,
    duration_ms: f64,
}

impl<'a> Fields<'a> {
    fn of(event: &'a AccessEvent) -> Self {
        Self {
            timestamp: event.at,
            event: "access",
            call: event.call.to_string(),
            peer: event.peer,
            caller: event.caller.as_ref(),
            face: event.face,
            method: event.method.as_str(),
            path: &event.path,
            provider: event.provider.as_ref(),
            operation: event.operation,
            resolved_by: event.resolved_by,
            fault: event.fault.as_ref().map(fault_word),
            bytes: event.bytes,
            status: event.status.as_u16(),
            duration_ms: (event.duration.as_secs_f64() * 1e6).round() / 1e3,
        }
    }
}

/// Where cores leave their events. Cheap to clone; switched off it costs one comparison.
#[derive(Clone, Debug)]
pub struct AccessLog(Option<Lines>);

impl AccessLog {
    /// A log that nobody keeps.
    pub const OFF: Self = Self(None);

    pub(super) fn to(lines: Lines) -> Self {
        Self(Some(lines))
    }

    /// Whether anybody keeps it.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Hands over one event, or counts it as dropped. `event` runs only when the log is on.
    pub fn record(&self, event: impl FnOnce() -> AccessEvent) {
        if let Some(lines) = &self.0 {
            lines.send(Line::Access(event()));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::telemetry) fn event(uri: &'static str) -> AccessEvent {
        AccessEvent {
            call: CallId::from_bits(7),
            at: Timestamp::from_millis(1_700_000_000_123),
            peer: None,
            caller: Some("basic:team".into()),
            face: Some("cloudpipe"),
            method: Method::GET,
            path: AccessEvent::path_of(&Uri::from_static(uri)),
            provider: Some("alpha".into()),
            operation: Some("read_pipe"),
            resolved_by: Some("mapped"),
            status: StatusCode::OK,
            duration: Duration::from_micros(1500),
            bytes: Some(12),
            fault: None,
        }
    }

    fn line(event: &AccessEvent, format: LogFormat) -> String {
        let mut out = Vec::new();
        event.append(format, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_one_line_of_text() {
        assert_eq!(
            line(&event("/db/pipes/a"), LogFormat::Text),
            "2023-11-14T22:13:20.123Z access call=00000000000000000000000000000007 caller=\"basic:team\" \
             face=cloudpipe method=GET path=\"/db/pipes/a\" provider=alpha operation=read_pipe \
             resolved_by=mapped bytes=12 status=200 duration_ms=1.500\n"
        );
    }

    #[test]
    fn an_event_is_one_json_object() {
        let mut failed = event("/db/pipes/a");
        failed.fault = Some(Fault::Provider("alpha".into()));
        let object: serde_json::Value = serde_json::from_str(&line(&failed, LogFormat::Json)).unwrap();
        assert_eq!(object["path"], "/db/pipes/a");
        assert_eq!(object["status"], 200);
        assert_eq!(object["fault"], "provider");
        assert_eq!(object["timestamp"], "2023-11-14T22:13:20.123Z");
    }

    #[test]
    fn a_query_is_never_written() {
        let secret = event("/db/pipes?token=hunter2");
        for format in [LogFormat::Text, LogFormat::Json] {
            assert!(!line(&secret, format).contains("hunter2"));
        }
    }

    #[test]
    fn nothing_a_caller_chose_begins_a_line_of_its_own() {
        let mut hostile = event("/");
        hostile.path = "/a\n2023 access call=0 \"\u{202e}\u{1b}[31m".into();
        hostile.caller = Some("basic:x\r\nforged".into());
        for format in [LogFormat::Text, LogFormat::Json] {
            let line = line(&hostile, format);
            assert_eq!(line.chars().filter(|c| c.is_control()).count(), 1, "{line:?}");
        }
        assert!(!line(&hostile, LogFormat::Text).contains('\u{202e}'));
    }

    #[test]
    fn a_long_path_is_cut() {
        let long: Uri = format!("/{}", "a".repeat(9000)).parse().unwrap();
        assert_eq!(AccessEvent::path_of(&long).len(), PATH_LIMIT);
    }

    #[test]
    fn a_log_that_is_off_makes_no_event() {
        AccessLog::OFF.record(|| panic!("nobody wants this event"));
    }
}
