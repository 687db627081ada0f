//! Programs an operator configured: text in, text out, within bounds of time and size.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

/// Bytes of standard error that are told when a program fails.
const COMPLAINT: u64 = 1024;

/// A program with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// The program, then its arguments.
    pub(crate) words: Vec<String>,
    /// How long it may run.
    pub(crate) limit: Duration,
    /// Bytes of its standard output.
    pub(crate) longest: u64,
}

impl Program {
    /// Runs it to its end and gives what it printed.
    ///
    /// # Errors
    /// It cannot be started, takes too long, prints too much, or says by its exit status that it failed; then the end
    /// of its standard error is part of the sentence.
    pub(crate) async fn run(&self, input: &[u8], variables: &[(&str, &str)]) -> Result<Bytes, String> {
        let Some((program, arguments)) = self.words.split_first() else { return Err("no command".into()) };
        let mut command = Command::new(program);
        command.args(arguments).envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().map_err(|error| format!("cannot run {program}: {error}"))?;
        let ran = tokio::time::timeout(self.limit, self.finish(child, input)).await;
        ran.unwrap_or_else(|_| Err(format!("it took longer than {:?}", self.limit)))
            .map_err(|error| format!("{program}: {error}"))
    }

    async fn finish(&self, mut child: Child, input: &[u8]) -> Result<Bytes, String> {
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let write = async move {
            if let Some(mut stdin) = stdin {
                // A program need not read what it is told; how it ends is what counts.
                let _unread = stdin.write_all(input).await;
            }
        };
        let printed = async move {
            let mut text = Vec::new();
            match stdout {
                Some(out) => out.take(self.longest + 1).read_to_end(&mut text).await.map(|_| text),
                None => Ok(text),
            }
        };
        let complaint = async move {
            let mut text = Vec::new();
            if let Some(err) = stderr {
                let mut err = err.take(COMPLAINT);
                // What cannot be read of a complaint is not told.
                let _unreadable = err.read_to_end(&mut text).await;
                let _rest = tokio::io::copy(&mut err.into_inner(), &mut tokio::io::sink()).await;
            }
            String::from_utf8_lossy(&text).trim().to_owned()
        };
        let ((), printed, complaint) = tokio::join!(write, printed, complaint);
        let printed = printed.map_err(|error| error.to_string())?;
        if printed.len() as u64 > self.longest {
            return Err(format!("it printed more than {} bytes", self.longest));
        }
        let status = child.wait().await.map_err(|error| error.to_string())?;
        match (status.success(), complaint.is_empty()) {
            (true, _) => Ok(printed.into()),
            (false, true) => Err(format!("it ended with {status}")),
            (false, false) => Err(format!("it ended with {status}: {complaint}")),
        }
    }
}

/// Where a program is: a bare name is looked for in `PATH`, a relative path begins at `folder`.
pub(crate) fn anchored(program: &str, folder: &Path) -> PathBuf {
    if program.contains('/') { folder.join(program) } else { program.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        let words = ["sh", "-c", script].map(str::to_owned).to_vec();
        Program { words, limit: Duration::from_secs(20), longest: 1000 }
    }

    #[tokio::test]
    async fn a_program_reads_and_prints() {
        let printed = shell("read line; echo \"$WHO said $line\"").run(b"hello\n", &[("WHO", "ann")]).await;
        assert_eq!(printed.unwrap(), "ann said hello\n");
        assert_eq!(shell("true").run(&[b'x'; 200_000], &[]).await.unwrap(), "", "it need not read");
    }

    #[tokio::test]
    async fn how_it_failed_is_told() {
        let error = shell("echo no such host >&2; exit 3").run(b"", &[]).await.unwrap_err();
        assert!(error.contains("exit status: 3") && error.contains("no such host"), "{error}");
        let error = shell("yes | head -c 2000").run(b"", &[]).await.unwrap_err();
        assert!(error.contains("more than 1000 bytes"), "{error}");
        let hanging = Program { limit: Duration::from_millis(50), ..shell("sleep 1000") };
        assert!(hanging.run(b"", &[]).await.unwrap_err().contains("longer than"));
        let nobody = Program { words: vec!["/nowhere/at/all".into()], ..shell("") };
        assert!(nobody.run(b"", &[]).await.unwrap_err().contains("cannot run"));
    }
}
