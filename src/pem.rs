//! Certificates and keys from PEM files, with errors that name the file.

use std::fmt::Display;
use std::path::Path;

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use standpipe_api::Problem;

/// The certificates of a file, at least one.
///
/// # Errors
/// Why the file, which stands at `at` in the configuration, cannot be used.
pub(crate) fn certificates(at: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(found) if found.is_empty() => Err(unusable(at, path, "it holds no PEM certificate")),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(at, path, error)),
    }
}

/// The private key of a file.
///
/// # Errors
/// As [`certificates`].
pub(crate) fn key(at: &str, path: &Path) -> Result<PrivateKeyDer<'static>, Problem> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unusable(at, path, error))
}

/// The certificates of a file as roots.
///
/// # Errors
/// As [`certificates`].
pub(crate) fn roots(at: &str, path: &Path) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(at, path)? {
        roots.add(certificate).map_err(|error| unusable(at, path, error))?;
    }
    Ok(roots)
}

/// A file that cannot be used, and why.
pub(crate) fn unusable(at: &str, path: &Path, why: impl Display) -> Problem {
    Problem::at(at, format!("cannot use {}: {why}", path.display()))
}
