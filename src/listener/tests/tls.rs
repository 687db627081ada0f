//! TLS: protocols, client certificates, reload, mistakes.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::support::{Front, listener, on_a_core, until};
use crate::config::{Limits, ListenerTls};
use crate::listener::Shared;

/// An authority, and files with what it issued.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, folder: tempfile::tempdir().unwrap() }
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn identity(&self) -> Identity {
        let (certificate, key) = self.issue("client");
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Issues a certificate for the front into the same files as before.
    fn settings(&self) -> ListenerTls {
        let (certificate, key) = self.issue("front.example");
        ListenerTls {
            certificate: self.file("front.pem", &certificate.pem()),
            key: self.file("front.key", &key.serialize_pem()),
            client_roots: Some(self.file("roots.pem", &self.issuer.pem())),
        }
    }

    /// A client that trusts this authority.
    async fn connect(
        &self,
        front: &Front,
        protocol: &[u8],
        identity: Option<Identity>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(front.address).await?;
        let name = ServerName::try_from("front.example").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

async fn who(stream: &mut TlsStream<TcpStream>) -> std::io::Result<String> {
    stream.write_all(b"GET /who HTTP/1.1\r\nhost: front.example\r\n\r\n").await?;
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") || answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await?);
    }
    // The body is short and comes in one record with the head.
    let mut rest = [0; 64];
    let read = stream.read(&mut rest).await?;
    answer.extend_from_slice(&rest[..read]);
    let text = String::from_utf8(answer).unwrap();
    Ok(text.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn served(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn a_client_certificate_may_be_shown_and_must_then_be_known() {
    on_a_core(async {
        let authority = Authority::new();
        let front = Front::with_tls(&Limits::default(), Some(authority.settings()));
        let mut nobody = authority.connect(&front, b"http/1.1", None).await.unwrap();
        assert_eq!(who(&mut nobody).await.unwrap(), "https 0");
        let identity = authority.identity();
        let length = identity.0.len();
        let mut known = authority.connect(&front, b"http/1.1", Some(identity)).await.unwrap();
        assert_eq!(who(&mut known).await.unwrap(), format!("https {length}"));
        let stranger = Authority::new().identity();
        // TLS 1.3: the client learns of the refusal when it reads.
        let refused = match authority.connect(&front, b"http/1.1", Some(stranger)).await {
            Ok(mut stream) => who(&mut stream).await,
            Err(error) => Err(error),
        };
        assert!(refused.is_err(), "{refused:?}");
        assert_eq!(front.stub.0.began.get(), 2);
    });
}

#[test]
fn http2_is_spoken_when_the_client_asks_for_it() {
    on_a_core(async {
        let authority = Authority::new();
        let front = Front::with_tls(&Limits::default(), Some(authority.settings()));
        let mut stream = authority.connect(&front, b"h2", None).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[3], 4, "the answer begins with SETTINGS");
        assert!(authority.connect(&front, b"spdy/1", None).await.is_err());
    });
}

#[test]
fn a_reload_changes_the_certificate_and_drops_no_connection() {
    on_a_core(async {
        let authority = Authority::new();
        let settings = authority.settings();
        let front = Front::with_tls(&Limits::default(), Some(settings.clone()));
        let mut old = authority.connect(&front, b"http/1.1", None).await.unwrap();
        who(&mut old).await.unwrap();
        let settings = authority.settings();
        front.shared.reload(&[listener(Some(settings.clone()))], &Limits::default()).unwrap();
        let mut new = authority.connect(&front, b"http/1.1", None).await.unwrap();
        assert_ne!(served(&old), served(&new));
        assert_eq!(
            (who(&mut old).await.unwrap(), who(&mut new).await.unwrap()),
            ("https 0".into(), "https 0".into())
        );

        authority.file("front.key", "nothing");
        let problems = front.shared.reload(&[listener(Some(settings))], &Limits::default()).unwrap_err();
        assert_eq!(problems[0].path, "listener[0].tls.key");
        assert!(problems[0].text.contains("front.key"), "{problems:?}");
        let kept = authority.connect(&front, b"http/1.1", None).await.unwrap();
        assert_eq!(served(&kept), served(&new));
        let problems = front.shared.reload(&[listener(None)], &Limits::default()).unwrap_err();
        assert_eq!(problems[0].path, "listener[0].tls");
    });
}

#[test]
fn files_that_cannot_be_used_are_named_all_at_once() {
    let authority = Authority::new();
    let good = authority.settings();
    let missing = ListenerTls { certificate: "/nowhere/front.pem".into(), ..good.clone() };
    let empty = ListenerTls { client_roots: Some(authority.file("empty.pem", "")), ..good.clone() };
    let other = authority.file("other.key", &KeyPair::generate().unwrap().serialize_pem());
    let mismatched = ListenerTls { key: other, ..good };
    let listeners = [missing, empty, mismatched].map(|tls| listener(Some(tls)));
    let problems = Shared::new(&listeners, &Limits::default()).err().unwrap();
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(
        paths,
        ["listener[0].tls.certificate", "listener[1].tls.client_roots", "listener[2].tls.certificate"]
    );
    assert!(problems[0].text.contains("/nowhere/front.pem") && problems[1].text.contains("empty.pem"));
}

#[test]
fn a_handshake_that_stalls_is_given_up_and_holds_up_nobody() {
    on_a_core(async {
        let authority = Authority::new();
        let limits = Limits { header_read: Duration::from_millis(200), ..Limits::default() };
        let front = Front::with_tls(&limits, Some(authority.settings()));
        let mut stalled = front.connect().await;
        stalled.send("\x16\x03").await;
        let mut other = authority.connect(&front, b"http/1.1", None).await.unwrap();
        assert_eq!(who(&mut other).await.unwrap(), "https 0");
        assert_eq!(stalled.rest().await, "");
        drop(other);
        until(|| front.shared.connections() == 0).await;
    });
}
