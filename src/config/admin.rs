//! `[admin]`: the operator's own socket, and the listener on which identified callers administer standpipe.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::load::{Known, MTLS_ASKS, listener_tls, words};
use super::reader::{Reader, parse};
use super::{Admin, AdminListener, AdminRole, Listener, Role, access};

/// The operator's socket, and the listener for callers, if there is one.
pub(super) fn read(
    top: &mut Reader<'_>,
    folder: &Path,
    data_dir: &Path,
    known: &Known,
) -> (Admin, Option<AdminListener>) {
    let default = Admin::Socket(data_dir.join("admin.sock"));
    let Some(table) = top.table("admin") else { return (default, None) };
    let mut reader = top.inside(table, "admin".into());
    let socket = reader.text("socket").map(|path| folder.join(path));
    let address = reader.parsed("address", parse::<SocketAddr>("an address with a port, as 127.0.0.1:9090"));
    let token_file: Option<PathBuf> = reader.text("token_file").map(|path| folder.join(path));
    let admin = match (socket, address, token_file) {
        (Some(_), Some(_), _) => {
            reader.wrong("socket", "choose one of `socket` and `address`");
            default
        }
        (Some(socket), None, _) => Admin::Socket(socket),
        (None, Some(address), Some(token_file)) => {
            if !address.ip().is_loopback() {
                reader.wrong(
                    "address",
                    "must be a loopback address; elsewhere callers come by [admin.listener]",
                );
            }
            Admin::Tcp { address, token_file }
        }
        (None, Some(_), None) => {
            reader.wrong("token_file", "is required with `address`");
            default
        }
        (None, None, _) => default,
    };
    let roles = roles(&mut reader);
    let listener = reader.table("listener").and_then(|table| {
        let mut inside = reader.inside(table, "admin.listener".into());
        let read = listener(&mut inside, folder, known);
        inside.finish();
        read
    });
    match (&listener, roles.is_empty()) {
        (Some(_), true) => {
            reader.wrong("role", "is missing: write [[admin.role]], or nobody may ask anything")
        }
        (None, false) if !table.contains_key("listener") => {
            reader.wrong("role", "is for callers, who come by [admin.listener]");
        }
        _ => {}
    }
    reader.finish();
    (admin, listener.map(|(listener, hosts)| AdminListener { listener, hosts, roles }))
}

/// `[admin.listener]`: where it listens and to whom, and what `Host` may hold.
fn listener(reader: &mut Reader<'_>, folder: &Path, known: &Known) -> Option<(Listener, Vec<String>)> {
    let address = reader.required("address").and_then(|_| {
        reader.parsed("address", parse::<SocketAddr>("an address with a port, as 10.0.0.5:9443"))
    });
    let callers = words(reader, "callers", &known.authenticators).unwrap_or_default();
    if callers.is_empty() || callers.iter().any(|caller| caller == "anonymous") {
        reader.wrong("callers", "must name authenticators, and not `anonymous`: a role is somebody's");
    }
    let (asked_for_tls, tls) = (reader.value("tls").is_some(), listener_tls(reader, folder));
    let hosts: Vec<String> = reader.texts("hosts").unwrap_or_default();
    let plain =
        |host: &String| host.parse::<http::uri::Authority>().is_ok_and(|host| !host.as_str().contains('@'));
    if !hosts.iter().all(plain) {
        reader.wrong("hosts", "must be names, as \"admin.example\" or \"admin.example:9443\"");
    }
    if callers.iter().any(|caller| caller == "mtls")
        && tls.as_ref().is_none_or(|tls| tls.client_roots.is_none())
    {
        reader.wrong("callers", MTLS_ASKS);
    }
    if address.is_some_and(|address| !address.ip().is_loopback()) {
        if !asked_for_tls {
            reader.wrong("tls", "is required off loopback: credentials travel here");
        }
        if reader.value("hosts").is_none() {
            reader.wrong(
                "hosts",
                "is required off loopback: the names in `Host` by which this listener is asked",
            );
        }
    }
    let listener = Listener { address: address?, faces: Vec::new(), callers, tls };
    Some((listener, hosts))
}

fn roles(reader: &mut Reader<'_>) -> Vec<AdminRole> {
    let mut roles = Vec::new();
    for (at, table) in reader.tables("role").into_iter().enumerate() {
        let path = reader.at(&format!("role[{at}]"));
        let mut inside = reader.inside(table, path);
        if !table.contains_key("role") {
            inside.wrong("role", "is missing; it is \"administrator\" or \"auditor\"");
        }
        let role = inside.parsed("role", |text| match text {
            "administrator" => Ok(Role::Administrator),
            "auditor" => Ok(Role::Auditor),
            _ => Err("must be \"administrator\" or \"auditor\"".into()),
        });
        let (callers, tenants, groups) = (
            access::patterns(&mut inside, "callers"),
            access::patterns(&mut inside, "tenants"),
            access::patterns(&mut inside, "groups"),
        );
        if !["callers", "tenants", "groups"].iter().any(|key| table.contains_key(*key)) {
            inside.wrong(
                "callers",
                "is missing, and so are `groups` and `tenants`: the role would be everybody's",
            );
        }
        inside.finish();
        let role = role.unwrap_or(Role::Auditor);
        roles.push(AdminRole { role, callers, tenants, groups });
    }
    roles
}
