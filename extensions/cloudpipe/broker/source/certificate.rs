//! `mtls`: a client certificate for each pipe, signed by an authority the operator has.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use serde_json::{Map, Value};
use standpipe_api::{Error, Result};
use time::OffsetDateTime;

use super::{Event, Source};

/// Clocks differ; a certificate is good this long before it was made.
const EARLY: Duration = Duration::from_secs(300);
/// Longest common name (RFC 5280, upper bounds).
const LONGEST_NAME: usize = 64;

/// Who signs, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authority {
    /// PEM.
    pub(super) certificate: PathBuf,
    /// PEM, PKCS #8.
    pub(super) key: PathBuf,
    pub(super) lifetime: Duration,
}

impl Authority {
    /// Whether it can sign.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        self.issue("check", None).map(drop)
    }

    /// Certificate, key and the authority's certificate, PEM. The authority's files are read each time: they may have
    /// been renewed.
    fn issue(&self, name: &str, uri: Option<&str>) -> Result<[String; 3], String> {
        let read = |path: &PathBuf| {
            fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        let authority = read(&self.certificate)?;
        let wrong = |error: rcgen::Error| format!("{} cannot sign: {error}", self.key.display());
        let key = KeyPair::from_pem(&read(&self.key)?).map_err(wrong)?;
        let issuer = Issuer::from_ca_cert_pem(&authority, key).map_err(wrong)?;
        let own = KeyPair::generate().map_err(wrong)?;
        let signed = self.params(name, uri)?.signed_by(&own, &issuer).map_err(wrong)?;
        Ok([signed.pem(), own.serialize_pem(), authority])
    }

    fn params(&self, name: &str, uri: Option<&str>) -> Result<CertificateParams, String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let short: String = name.chars().take(LONGEST_NAME).collect();
        params.distinguished_name.push(DnType::CommonName, short);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = OffsetDateTime::now_utc() - EARLY;
        params.not_after = OffsetDateTime::now_utc() + self.lifetime;
        params.use_authority_key_identifier_extension = true;
        if let Some(uri) = uri {
            let uri = uri.try_into().map_err(|_| format!("{uri} does not fit a certificate"))?;
            params.subject_alt_names.push(SanType::URI(uri));
        }
        Ok(params)
    }
}

/// Certificates of one authority.
pub(super) struct Certificates(pub(super) Authority);

#[async_trait]
impl Source for Certificates {
    async fn produce(&self, _event: Event, pipe: &Value) -> Result<Map<String, Value>> {
        let text = |pointer: &str| pipe.pointer(pointer).and_then(Value::as_str);
        let issued = self.0.issue(text("/id").unwrap_or_default(), text("/this/uri"));
        let issued = issued.map_err(|error| Error::internal("no certificate can be made").because(error))?;
        let keys = ["CLIENT_CERT", "CLIENT_KEY", "CA_CERT"].into_iter().zip(issued);
        Ok(keys.map(|(key, pem)| (key.to_owned(), pem.into())).collect())
    }

    /// A certificate that nobody renews in time is an outage.
    fn rotate_every(&self) -> Option<Duration> {
        Some(self.0.lifetime * 2 / 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn each_pipe_gets_a_certificate_in_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let (certificate, path) = (folder.path().join("ca.pem"), folder.path().join("ca.key"));
        fs::write(&certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        let authority = Authority { certificate, key: path.clone(), lifetime: Duration::from_secs(3600) };
        assert!(authority.check().unwrap_err().contains("cannot read"));
        fs::write(&path, key.serialize_pem()).unwrap();
        authority.check().unwrap();
        let source = Certificates(authority);
        let pipe = json!({"id": "web", "this": {"uri": "https://broker/db/pipes/web"}});
        let made = source.produce(Event::Bind, &pipe).await.unwrap();
        let again = source.produce(Event::Rotate, &pipe).await.unwrap();
        assert_ne!(made["CLIENT_KEY"], again["CLIENT_KEY"]);
        let file = folder.path().join("client.pem");
        fs::write(&file, made["CLIENT_CERT"].as_str().unwrap()).unwrap();
        let seen = rcgen::CertificateSigningRequestParams::from_pem(made["CLIENT_CERT"].as_str().unwrap());
        assert!(seen.is_err(), "a certificate, not a request for one");
        assert!(made["CA_CERT"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    }
}
