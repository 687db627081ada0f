//! Client certificates that the listener has verified: their first name becomes the caller.

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderValue;
use http::request::Parts;
use moka::sync::Cache;
use standpipe_api::{Authenticator, Caller, Connection, Identified};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Certificates remembered.
const REMEMBERED: u64 = 1000;

/// The `mtls` authenticator.
pub struct Mtls(Cache<Arc<[u8]>, Arc<Caller>>);

impl Default for Mtls {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

impl Mtls {
    fn caller(&self, certificate: &[u8]) -> Result<Arc<Caller>, String> {
        if let Some(known) = self.0.get(certificate) {
            return Ok(known);
        }
        let id = format!("mtls:{}", certificate_name(certificate)?).into();
        let caller = Arc::new(Caller { id, tenant: None, groups: Vec::new(), authenticator: "mtls" });
        self.0.insert(certificate.into(), caller.clone());
        Ok(caller)
    }
}

/// The name a certificate is for: the first URI, DNS name or mail address among its alternative names (RFC 5280,
/// section 4.2.1.6), in this order, else its subject.
///
/// # Errors
/// It cannot be read, or names nobody.
pub fn certificate_name(der: &[u8]) -> Result<String, String> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| format!("the certificate cannot be read: {error}"))?;
    let names = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let of = |pick: fn(&GeneralName<'_>) -> Option<String>| names.iter().find_map(pick);
    let alternative = of(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    })
    .or_else(|| {
        of(|name| match name {
            GeneralName::DNSName(dns) => Some((*dns).to_owned()),
            _ => None,
        })
    })
    .or_else(|| {
        of(|name| match name {
            GeneralName::RFC822Name(mail) => Some((*mail).to_owned()),
            _ => None,
        })
    });
    let name = alternative.unwrap_or_else(|| certificate.subject().to_string());
    if name.is_empty() { Err("the certificate names nobody".into()) } else { Ok(name) }
}

#[async_trait(?Send)]
impl Authenticator for Mtls {
    fn name(&self) -> &'static str {
        "mtls"
    }

    /// TLS asked for the certificate; HTTP has no challenge for one.
    fn challenge(&self) -> Option<HeaderValue> {
        None
    }

    fn applies(&self, _head: &Parts, connection: &Connection) -> bool {
        connection.client_certificate.is_some()
    }

    fn recall(&self, _head: &Parts, connection: &Connection) -> Option<Arc<Caller>> {
        self.caller(connection.client_certificate.as_deref()?).ok()
    }

    async fn identify(&self, _head: &Parts, connection: &Connection) -> Identified {
        match connection.client_certificate.as_deref().map(|certificate| self.caller(certificate)) {
            None => Identified::NotMine,
            Some(Ok(caller)) => Identified::Caller(caller),
            Some(Err(reason)) => Identified::Refused(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn der(names: Vec<SanType>, subject: &str) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_most_telling_name_becomes_the_caller() {
        let (dns, uri) = ("app.example".try_into().unwrap(), "spiffe://example/app".try_into().unwrap());
        let both = der(vec![SanType::DnsName(dns), SanType::URI(uri)], "x");
        assert_eq!(Mtls::default().caller(&both).unwrap().id.as_str(), "mtls:spiffe://example/app");
        let subject = der(Vec::new(), "app");
        assert_eq!(Mtls::default().caller(&subject).unwrap().id.as_str(), "mtls:CN=app");
        assert!(Mtls::default().caller(b"nonsense").is_err());
    }
}
