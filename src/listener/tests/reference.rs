//! A second reading of RFC 9112, as strict as can be: whole streams, no state between bytes, nothing tolerated.

/// A request as it must be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) method: String,
    pub(super) target: String,
    /// `None`: it breaks off or breaks a rule.
    pub(super) body: Option<Vec<u8>>,
    /// No other request follows on the connection.
    pub(super) last: bool,
}

/// Every request of a stream, up to the first that may not be served.
pub(super) fn read(mut rest: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some((message, next)) = message(rest) {
        rest = next;
        let over = message.last || message.body.is_none();
        messages.push(message);
        if over {
            break;
        }
    }
    messages
}

/// `HTTP-message` of section 2.1, and what is behind it.
fn message(stream: &[u8]) -> Option<(Message, &[u8])> {
    // Section 2.2: one empty line in front is tolerated.
    let stream = stream.strip_prefix(b"\r\n").unwrap_or(stream);
    let (head, rest) = split(stream, b"\r\n\r\n")?;
    let mut lines = lines(head)?;
    let request_line = lines.remove(0);
    let [method, target, version] =
        <[&str; 3]>::try_from(request_line.split(' ').collect::<Vec<_>>()).ok()?;
    let current = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return None,
    };
    let visible = target.bytes().all(|byte| (b'!'..=b'~').contains(&byte) && byte != b'#');
    if !token(method) || !visible || !stays(target) {
        return None;
    }
    let fields = fields(&lines)?;
    let all = |name: &str| {
        fields
            .iter()
            .filter(|field| field.0.eq_ignore_ascii_case(name))
            .map(|field| field.1)
            .collect::<Vec<_>>()
    };
    let hosts = all("host");
    let host = match &hosts[..] {
        [] => !current,
        [host] => is_host(host),
        _ => false,
    };
    if !host || !all("upgrade").is_empty() {
        return None;
    }
    let (body, next) = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => (Some(Vec::new()), rest),
        ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = length.parse::<u64>().ok()?;
            match usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)) {
                Some((body, next)) => (Some(body.to_vec()), next),
                None => (None, rest),
            }
        }
        ([], [coding]) if current && coding.eq_ignore_ascii_case("chunked") => match chunks(rest) {
            Some((body, next)) => (Some(body), next),
            None => (None, rest),
        },
        _ => return None,
    };
    let connection = all("connection").join(",").to_ascii_lowercase();
    let options: Vec<_> = connection.split(',').map(str::trim).collect();
    let last = options.contains(&"close") || !(current || options.contains(&"keep-alive"));
    Some((Message { method: method.into(), target: target.into(), body, last }, next))
}

/// A path without dot segments, however they are encoded (RFC 3986, sections 2.1 and 3.3).
fn stays(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    let (first, rest) = path.split_once('%').unwrap_or((path, ""));
    let mut decoded = first.to_owned();
    if path.contains('%') {
        for part in rest.split('%') {
            let digits = part.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
            let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
                return false;
            };
            decoded.push(char::from(byte));
            decoded.push_str(&part[2..]);
        }
    }
    let dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    path.starts_with('/')
        && !decoded.contains(|char: char| char.is_ascii_control())
        && !decoded.split(['/', '\\']).any(dots)
}

/// A name, perhaps with a port (RFC 3986, section 3.2).
fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    let name = !name.is_empty()
        && name.chars().all(|char| char.is_ascii_alphanumeric() || "-._~%!$&'()*+;=".contains(char));
    name && port.len() <= 5
        && port.bytes().all(|digit| digit.is_ascii_digit())
        && (port.is_empty() || port.parse::<u16>().is_ok())
}

/// Section 7.1, without white space around extensions, and with few bytes of them.
fn chunks(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let (line, next) = split(rest, b"\r\n")?;
        let line = latin(line);
        let (size, extension) = line.split_once(';').unwrap_or((&line, ""));
        if extension.len() > 255 || extension.chars().any(|char| char != '\t' && char.is_ascii_control()) {
            return None;
        }
        let hex = !size.is_empty() && size.len() <= 16 && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = u64::from_str_radix(Some(&size).filter(|_| hex)?, 16).ok()?;
        if size == 0 {
            return Some((body, trailers(next)?));
        }
        let (data, next) = next.split_at_checked(usize::try_from(size).ok()?)?;
        body.extend_from_slice(data);
        rest = next.strip_prefix(b"\r\n")?;
    }
}

/// What is behind the trailers, none of which frames or routes (RFC 9110, section 6.5.1).
fn trailers(rest: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = rest.strip_prefix(b"\r\n") {
        return Some(rest);
    }
    let (section, rest) = split(rest, b"\r\n\r\n")?;
    let lines = lines(section)?;
    let forbidden = ["content-length", "transfer-encoding", "host", "connection"];
    let plain = |(name, _): &(&str, &str)| !forbidden.iter().any(|word| name.eq_ignore_ascii_case(word));
    fields(&lines)?.iter().all(plain).then_some(rest)
}

/// Section 5: no white space before the colon, no folding, no control characters.
fn fields(lines: &[String]) -> Option<Vec<(&str, &str)>> {
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if !token(name) || value.chars().any(|char| char != '\t' && char.is_ascii_control()) {
            return None;
        }
        fields.push((name, value.trim_matches([' ', '\t'])));
    }
    Some(fields)
}

/// Lines that end with CRLF and hold neither CR nor LF otherwise.
fn lines(section: &[u8]) -> Option<Vec<String>> {
    let text = latin(section);
    let lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
    (!lines.iter().any(|line| line.contains(['\r', '\n']))).then_some(lines)
}

/// RFC 9110, section 5.6.2.
fn token(word: &str) -> bool {
    !word.is_empty()
        && word.chars().all(|char| char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char))
}

/// Each byte as a character.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let found = bytes.windows(at.len()).position(|window| window == at)?;
    Some((&bytes[..found], &bytes[found + at.len()..]))
}
