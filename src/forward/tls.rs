//! TLS towards a provider: the platform's roots or the operator's, and a client certificate where asked for.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_platform_verifier::BuilderVerifierExt as _;
use standpipe_api::Problem;

use crate::config::UpstreamTls;
use crate::pem;

/// The TLS configuration of a provider.
///
/// # Errors
/// The file that cannot be used and why, with its key relative to the provider's table.
pub fn client_config(settings: Option<&UpstreamTls>) -> Result<Arc<ClientConfig>, Problem> {
    let wrong = |error: rustls::Error| Problem::at("tls", error.to_string());
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(wrong)?;
    let builder = match settings.and_then(|settings| settings.roots.as_deref()) {
        Some(path) => builder.with_root_certificates(pem::roots("tls.roots", path)?),
        None => builder.with_platform_verifier().map_err(wrong)?,
    };
    let mut config = match settings.and_then(|settings| settings.client.as_ref()) {
        Some((certificate, key)) => {
            let chain = pem::certificates("tls.certificate", certificate)?;
            let key = pem::key("tls.key", key)?;
            builder.with_client_auth_cert(chain, key).map_err(wrong)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
