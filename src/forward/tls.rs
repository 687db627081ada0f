//! TLS towards a provider: the platform's roots or the operator's, and a client certificate where asked for.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_platform_verifier::BuilderVerifierExt as _;
use standpipe_api::{Problem, Problems};

use crate::config::UpstreamTls;
use crate::pem;

/// The TLS configuration of a provider.
///
/// # Errors
/// Every file that cannot be used and why, with its key relative to the provider's table.
pub fn client_config(settings: Option<&UpstreamTls>) -> Result<Arc<ClientConfig>, Problems> {
    let mut problems = Problems::new();
    let roots = settings.and_then(|settings| settings.roots.as_deref());
    let roots = roots.and_then(|path| keep(pem::roots("tls.roots", path), &mut problems));
    let client = settings.and_then(|settings| settings.client.as_ref()).and_then(|(certificate, key)| {
        let chain = keep(pem::certificates("tls.certificate", certificate), &mut problems);
        chain.zip(keep(pem::key("tls.key", key), &mut problems))
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let wrong = |error: rustls::Error| vec![Problem::at("tls", error.to_string())];
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(wrong)?;
    let builder = match roots {
        Some(roots) => builder.with_root_certificates(roots),
        None => builder.with_platform_verifier().map_err(wrong)?,
    };
    let mut config = match client {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(wrong)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Mistakes that were not there at start, as the error of a connection.
pub fn unusable(problems: Problems) -> io::Error {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    io::Error::other(lines.join("; "))
}

fn keep<T>(read: Result<T, Problem>, problems: &mut Problems) -> Option<T> {
    read.map_err(|problem| problems.push(problem)).ok()
}
