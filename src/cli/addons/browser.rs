//! Pages that brokers name, shown to people.

use std::io::IsTerminal as _;
use std::process::{Command, Stdio};

/// Opens a page in a new tab, when somebody sits at a terminal; `false`: nobody does.
///
/// # Errors
/// The address is none of the web, or no browser can be started.
pub(super) fn open(url: &str) -> Result<bool, String> {
    if !std::io::stdout().is_terminal() {
        return Ok(false);
    }
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = Command::new(program);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let failed = |why: String| format!("no browser can be opened ({why}); the page is {url}");
    match command.status() {
        Ok(status) if status.success() => Ok(true),
        Ok(status) => Err(failed(format!("{program}: {status}"))),
        Err(error) => Err(failed(format!("{program}: {error}"))),
    }
}

/// An address that a broker wrote, if it is one a browser may be sent to.
///
/// # Errors
/// It is of another scheme, or no address.
pub(super) fn checked(url: &str) -> Result<&str, String> {
    let is_web = url
        .parse::<http::Uri>()
        .is_ok_and(|uri| uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https")));
    if is_web && !url.contains(char::is_control) {
        Ok(url)
    } else {
        Err(format!("`{}` is no address a browser may be sent to", super::super::table::printable(url)))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_pages_of_the_web_are_opened() {
        for good in ["https://docs.example/mysql?x=1", "http://localhost:8080/"] {
            assert_eq!(super::checked(good), Ok(good));
        }
        for bad in ["file:///etc/passwd", "javascript:alert(1)", "--help", "", "https://", "vscode://x/y"] {
            assert!(super::checked(bad).is_err(), "{bad}");
        }
    }
}
