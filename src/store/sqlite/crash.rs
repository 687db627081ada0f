//! What was acknowledged survives a kill at any instant: a child process writes and says what was acknowledged,
//! dies, and the database is opened again.

use std::collections::BTreeSet;
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use standpipe_api::{Change, JobId, JobOutcome, MappingState, NewEvent, NewJob, Timestamp};

use super::tests::reopen;
use crate::fail_point::{self, FailPoint};
use crate::store::conformance::{live, pipe};
use crate::store::{Claim, DataDirLock, Namespace, Store, Write};

const DIRECTORY: &str = "STANDPIPE_TEST_DIRECTORY";
const FIRST: &str = "STANDPIPE_TEST_FIRST";
/// Told apart from what the test harness prints.
const MARK: &str = "acknowledged ";

fn namespace() -> Namespace {
    Namespace::extension("crash")
}

fn job(number: u64) -> JobId {
    JobId(format!("job-{number}"))
}

fn say(what: &str, number: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{MARK}{what} {number}").and_then(|()| out.flush()).unwrap();
}

/// Runs only in a child process: writes and acknowledges until it is killed.
#[tokio::test]
#[ignore = "the body of the child process of the other tests"]
async fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let _lock = DataDirLock::take(&directory).unwrap();
    let store = reopen(&directory);
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    say("open", 0);
    for number in first.. {
        let id = number.to_string();
        assert_eq!(store.claim(live(&id), None).await.unwrap(), Claim::Taken);
        say("claim", number);
        let settled = Write::State { resource: pipe(&id), state: MappingState::Live, expires_at: None };
        store.apply(vec![settled]).await.unwrap();
        say("live", number);
        let record = Change::Put { key: id.clone(), value: id.into(), expected: None };
        let scheduled = NewJob { id: job(number), payload: "payload".into(), delay: Duration::ZERO };
        let told = Change::Event(NewEvent::new("record.written", &number));
        store.commit(&namespace(), vec![record, Change::Schedule(scheduled), told]).await.unwrap().unwrap();
        say("record", number);
        for due in store.due_jobs(Timestamp::now(), 10).await.unwrap() {
            store.finish_job(&due, JobOutcome::Done).await.unwrap();
        }
        say("job", number);
    }
}

/// Numbers of one child; the next one begins behind them.
const NUMBERS: u64 = 1_000_000;

fn spawn(directory: &Path, generation: u64, fail_point: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::sqlite::crash::child", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(FIRST, (generation * NUMBERS).to_string())
        .env(fail_point::VARIABLE, fail_point)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

#[derive(Default)]
struct Acknowledged(BTreeSet<(String, u64)>);

impl Acknowledged {
    /// Notes what a child says; `false` at its end.
    fn hear(&mut self, out: &mut impl std::io::BufRead) -> bool {
        let mut line = String::new();
        if out.read_line(&mut line).unwrap() == 0 {
            return false;
        }
        // The harness prints the test's name in front of its first line.
        if let Some((_, said)) = line.split_once(MARK) {
            // A kill may cut a line short; what was not wholly said was not acknowledged.
            if let Some((what, number)) = said.strip_suffix('\n').and_then(|said| said.split_once(' ')) {
                self.0.insert((what.to_owned(), number.parse().unwrap()));
            }
        }
        true
    }

    /// Everything acknowledged is there. Takes no lock: a test that forks at that moment would hold it on for a while.
    async fn check(&self, directory: &Path, context: &str) {
        let store = reopen(directory);
        let queued = store.jobs(None, usize::MAX).await.unwrap();
        for (what, number) in &self.0 {
            let row = store.mapping(&pipe(&number.to_string())).await.unwrap();
            let there = match what.as_str() {
                "claim" => row.is_some_and(|row| row.state != MappingState::Intent),
                "live" => row.is_some_and(|row| row.state == MappingState::Live),
                "record" => store.record(&namespace(), &number.to_string()).await.unwrap().is_some(),
                "job" => queued.iter().all(|queued| queued.id != job(*number)),
                _ => true,
            };
            assert!(there, "{context}: {what} {number} is lost");
        }
        // Nothing is half there: a record and its job came in one transaction, or were not finished yet.
        for job in queued {
            let number = job.id.0.trim_start_matches("job-").to_owned();
            assert!(
                store.record(&namespace(), &number).await.unwrap().is_some(),
                "{context}: job {number} alone"
            );
        }
        // What was acknowledged is told once, and nothing is told that is not there.
        let told = store.events(0, usize::MAX).await.unwrap().unwrap().events;
        assert!(told.is_sorted_by(|one, next| one.revision < next.revision), "{context}");
        let numbers: BTreeSet<u64> = told.iter().filter_map(|event| event.payload.as_u64()).collect();
        assert_eq!(numbers.len(), told.len(), "{context}: an event is there twice");
        for (_, number) in self.0.iter().filter(|(what, _)| what == "record") {
            assert!(numbers.contains(number), "{context}: nobody is told of record {number}");
        }
        for number in numbers {
            let record = store.record(&namespace(), &number.to_string()).await.unwrap();
            assert!(record.is_some(), "{context}: record {number} was told of and is not there");
        }
        store.health().await.unwrap();
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_at_a_random_instant() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    let rounds = 10;
    for round in 0..rounds {
        let (mut child, mut out) = spawn(dir.path(), round, "");
        let lines = fastrand::usize(5..400);
        for _ in 0..lines {
            assert!(acknowledged.hear(&mut out), "the child ended by itself");
        }
        child.kill().unwrap();
        while acknowledged.hear(&mut out) {}
        child.wait().unwrap();
        acknowledged.check(dir.path(), &format!("round {round}, {lines} lines")).await;
    }
    assert!(acknowledged.0.len() as u64 > rounds);
}

/// The other points are the engine's. Each commit of the child passes these two; the turns take every kind of write of
/// its loop, and a later round.
#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_before_and_after_every_kind_of_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    for (point, first) in [(FailPoint::CommitBefore, 0), (FailPoint::CommitAfter, 9)] {
        for turn in 1..=9 {
            let armed = format!("{}:{turn}", point.name());
            let (mut child, mut out) = spawn(dir.path(), first + turn, &armed);
            while acknowledged.hear(&mut out) {}
            let status = child.wait().unwrap();
            let signal = std::os::unix::process::ExitStatusExt::signal(&status);
            assert_eq!(signal, Some(6), "{armed} aborts: {status}");
            acknowledged.check(dir.path(), &armed).await;
        }
    }
}

#[test]
fn a_directory_held_by_another_process_is_refused_and_free_when_that_dies() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, mut out) = spawn(dir.path(), 0, "");
    let mut acknowledged = Acknowledged::default();
    while acknowledged.0.is_empty() {
        assert!(acknowledged.hear(&mut out), "the child ended by itself");
    }
    let error = DataDirLock::take(dir.path()).unwrap_err().to_string();
    let holder = format!("another standpipe (process {}) uses", child.id());
    assert!(error.contains(&holder) && error.contains("choose another data_dir"), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    DataDirLock::take(dir.path()).unwrap();
}
