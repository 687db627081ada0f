//! TLS towards callers: certificates from files, re-read at a reload.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use standpipe_api::{Problem, Problems};
use tokio_rustls::TlsAcceptor;

use crate::config::{Listener, ListenerTls};
use crate::pem;

/// An acceptor for each listener that has TLS.
///
/// # Errors
/// Every file that cannot be used.
pub(super) fn acceptors(listeners: &[Listener]) -> Result<Vec<Option<TlsAcceptor>>, Problems> {
    let mut problems = Problems::new();
    let mut acceptors = Vec::with_capacity(listeners.len());
    for (at, listener) in listeners.iter().enumerate() {
        let made = listener.tls.as_ref().map(acceptor).transpose();
        acceptors.push(made.unwrap_or_else(|found| {
            let under = format!("listener[{at}].tls");
            problems.extend(found.into_iter().map(|problem| problem.under(&under)));
            None
        }));
    }
    if problems.is_empty() { Ok(acceptors) } else { Err(problems) }
}

/// Whether TLS can be changed to this without binding anew.
///
/// # Errors
/// Every listener that would have to begin or end with TLS.
pub(super) fn unchanged(
    current: &[Option<ArcSwap<TlsAcceptor>>],
    fresh: &[Option<TlsAcceptor>],
) -> Result<(), Problems> {
    let pairs = current.iter().zip(fresh).enumerate();
    let changed = pairs.filter(|(_, (current, fresh))| current.is_some() != fresh.is_some());
    let problem = |at| Problem::at(format!("listener[{at}].tls"), "beginning or ending TLS needs a restart");
    let problems: Problems = changed.map(|(at, _)| problem(at)).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn acceptor(settings: &ListenerTls) -> Result<TlsAcceptor, Problems> {
    let chain = pem::certificates("certificate", &settings.certificate);
    let key = pem::key("key", &settings.key);
    let roots = settings.client_roots.as_deref().map(|path| pem::roots("client_roots", path)).transpose();
    match (chain, key, roots) {
        (Ok(chain), Ok(key), Ok(roots)) => {
            made_of(settings, (chain, key), roots).map_err(|problem| vec![problem])
        }
        (chain, key, roots) => Err([chain.err(), key.err(), roots.err()].into_iter().flatten().collect()),
    }
}

fn made_of(
    settings: &ListenerTls,
    (chain, key): (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    roots: Option<RootCertStore>,
) -> Result<TlsAcceptor, Problem> {
    let provider = Arc::new(default_provider());
    let wrong = |error: rustls::Error| Problem::at("", error.to_string());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(wrong)?;
    let builder = match settings.client_roots.as_deref().zip(roots) {
        None => builder.with_no_client_auth(),
        Some((path, roots)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| pem::unusable("client_roots", path, error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(chain, key);
    let mut config = config.map_err(|error| pem::unusable("certificate", &settings.certificate, error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
