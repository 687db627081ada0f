//! An env file that an app reads; each resource has a block of its own.

use std::path::PathBuf;

use async_trait::async_trait;
use serde_json::Value;
use standpipe_api::{Error, Result};

use super::Sink;
use super::names::Names;
use crate::env_file::write;

/// The sink.
pub(super) struct EnvFile {
    path: PathBuf,
    names: Names,
}

impl EnvFile {
    /// Writes these names into a file.
    pub(super) fn new(path: PathBuf, names: Names) -> Self {
        Self { path, names }
    }
}

#[async_trait]
impl Sink for EnvFile {
    fn check(&self, pipes: &[Value]) -> Result<()> {
        self.names.config(pipes).map(drop)
    }

    async fn apply(&self, resource: &str, pipes: &[Value], _gone: &[String]) -> Result<()> {
        let config = self.names.config(pipes)?;
        let (path, resource) = (self.path.clone(), resource.to_owned());
        let work = tokio::task::spawn_blocking(move || write(&path, &resource, &config));
        let written =
            work.await.map_err(|error| Error::internal("the env file was not written").because(error))?;
        written.map(drop).map_err(|error| {
            Error::internal(format!("cannot write the env file {}", self.path.display())).because(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::process::Command;

    fn pipe(id: &str, value: &str) -> Value {
        json!({"id": id, "other": {"data": {"V": value}}})
    }

    fn sink(path: &Path) -> EnvFile {
        EnvFile::new(path.to_owned(), Names::All)
    }

    #[tokio::test]
    async fn sh_reads_back_what_was_written_whatever_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        for value in ["plain", "", "it's", "a\nb\n", "$HOME `id` \\ \"x\"", "#no comment", "ä ' '' \t"] {
            sink(&path).apply("web", &[pipe("p", value)], &[]).await.unwrap();
            let script = format!(". {}; printf %s \"$PIPE_P_OTHER_V\"", path.display());
            let read = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(read.stdout).unwrap(), value);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn other_lines_stay_and_deleted_pipes_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        let own = "# mine\nA=1\n\nB='2'";
        fs::write(&path, own).unwrap();
        sink(&path).apply("web", &[pipe("p", "x"), pipe("q", "y")], &[]).await.unwrap();
        sink(&path).apply("other", &[pipe("p", "z")], &[]).await.unwrap();
        sink(&path).apply("web", &[pipe("q", "y")], &[]).await.unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with(&format!(
                "{own}\n# standpipe web begin\nPIPE_Q_OTHER_V='y'\n# standpipe web end\n"
            )),
            "{text}"
        );
        assert!(
            text.ends_with("# standpipe other begin\nPIPE_P_OTHER_V='z'\n# standpipe other end\n"),
            "{text}"
        );
        sink(&path).apply("web", &[], &[]).await.unwrap();
        sink(&path).apply("other", &[], &[]).await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{own}\n"));
    }

    #[tokio::test]
    async fn a_damaged_block_or_a_clash_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        let damaged = "# standpipe web begin\nA='1'\n";
        fs::write(&path, damaged).unwrap();
        let error = sink(&path).apply("web", &[pipe("p", "x")], &[]).await.unwrap_err();
        assert!(error.log_text().contains("mend the file"), "{}", error.log_text());
        assert!(sink(&path).apply("else", &[pipe("a-b", "1"), pipe("a_b", "2")], &[]).await.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    }
}
