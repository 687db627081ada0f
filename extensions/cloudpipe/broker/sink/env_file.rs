//! An env file that an app reads: ours stand in a marked block, everything else stays byte for byte.
//!
//! Values are quoted for POSIX `sh`, so that `. file` reads them back exactly.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{fs, io};

use async_trait::async_trait;
use serde_json::Value;
use standpipe_api::{Error, Result};

use super::Sink;
use super::names::Names;

/// Several sinks may share a file; they write it one after another.
static WRITING: Mutex<()> = Mutex::new(());

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
        written.map_err(|error| {
            Error::internal(format!("cannot write the env file {}", self.path.display())).because(error)
        })
    }
}

fn write(path: &Path, resource: &str, config: &BTreeMap<String, String>) -> io::Result<()> {
    let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    // A link stays a link: what it points to is replaced.
    let path = match fs::canonicalize(path) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let after = replace(&before, resource, config)?;
    if after == before {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Mode 0600 from its first byte.
    let mut fresh = tempfile::NamedTempFile::new_in(folder)?;
    fresh.write_all(after.as_bytes())?;
    fresh.as_file().sync_all()?;
    fresh.persist(&path).map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()
}

/// The file with this resource's block replaced, or appended when there was none.
fn replace(before: &str, resource: &str, config: &BTreeMap<String, String>) -> io::Result<String> {
    let plain: String =
        resource.chars().map(|letter| if letter.is_control() { '_' } else { letter }).collect();
    let (begin, end) = (format!("# standpipe {plain} begin\n"), format!("# standpipe {plain} end\n"));
    let mut block = begin.clone();
    config.iter().for_each(|(name, value)| block.push_str(&format!("{name}={}\n", quote(value))));
    block.push_str(&end);
    let Some(start) = line_at(before, &begin) else {
        let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
        return Ok(if config.is_empty() { before.to_owned() } else { format!("{before}{gap}{block}") });
    };
    let (head, rest) = before.split_at(start);
    let damaged =
        || io::Error::other(format!("`{}` has no `{}` behind it; mend the file", begin.trim(), end.trim()));
    let stop = line_at(rest, &end).ok_or_else(damaged)? + end.len();
    let tail = rest.get(stop..).unwrap_or_default();
    Ok(if config.is_empty() { format!("{head}{tail}") } else { format!("{head}{block}{tail}") })
}

/// Where a whole line stands.
fn line_at(text: &str, line: &str) -> Option<usize> {
    let starts = text.match_indices(line).map(|(at, _)| at);
    starts.into_iter().find(|at| *at == 0 || text.as_bytes().get(at - 1) == Some(&b'\n'))
}

/// Single quotes take everything but themselves as it is (POSIX Shell, section 2.2.2).
fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt as _;
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
