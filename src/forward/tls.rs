//! TLS towards a provider: the platform's roots or the operator's, and a client certificate where asked for.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use rustls_platform_verifier::BuilderVerifierExt as _;
use standpipe_api::Problem;

use crate::config::UpstreamTls;

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
        Some(path) => builder.with_root_certificates(roots(path)?),
        None => builder.with_platform_verifier().map_err(wrong)?,
    };
    let mut config = match settings.and_then(|settings| settings.client.as_ref()) {
        Some((certificate, key)) => {
            let chain = certificates("tls.certificate", certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("tls.key", key, error))?;
            builder.with_client_auth_cert(chain, key).map_err(wrong)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn roots(path: &Path) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls.roots", path)? {
        roots.add(certificate).map_err(|error| unreadable("tls.roots", path, error))?;
    }
    Ok(roots)
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(found) if found.is_empty() => Err(unreadable(key, path, "it holds no PEM certificate")),
        Ok(found) => Ok(found),
        Err(error) => Err(unreadable(key, path, error)),
    }
}

fn unreadable(key: &str, path: &Path, why: impl std::fmt::Display) -> Problem {
    Problem::at(key, format!("cannot use {}: {why}", path.display()))
}
