//! The innermost process: runs the test itself and leaves its verdict on the stage.

use std::io::{Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::stage::Stage;
use super::{Kind, Place};

/// How much of the end of each evidence file is printed, in bytes.
const EVIDENCE: u64 = 32 << 10;

/// Runs the test in a place that PID 1 has prepared.
///
/// # Panics
/// If the test fails.
pub(super) fn run<T>(stage: &Stage, test: T)
where
    T: AsyncFnOnce(Place) -> Result<()>,
{
    let order = stage.order().expect("the order of the stage");
    let scratch = order.scratch(stage);
    let disk = match order.inside {
        Kind::Guest => scratch.join("disk"),
        _ => stage.dir.join("disk"),
    };
    std::fs::create_dir(&disk).expect("make the disk directory");
    let kind = order.inside;
    let place = Place { kind, scratch, disk, slice: stage.slice(), evidence: Default::default() };
    judge(place, order.deadline, test);
    stage.record_pass().expect("record the verdict");
}

/// Runs the test on the machine as it is, beside the daemon that `E2E_ENDPOINT` names.
///
/// # Panics
/// If the test fails.
pub(super) fn on_the_machine<T>(deadline: Duration, test: T)
where
    T: AsyncFnOnce(Place) -> Result<()>,
{
    let owned =
        tempfile::Builder::new().prefix("e2e-").tempdir().expect("make a scratch directory");
    let [scratch, disk] = ["scratch", "disk"].map(|name| owned.path().join(name));
    for dir in [&scratch, &disk] {
        std::fs::create_dir(dir).expect("make a directory");
    }
    let slice = "e2e.slice".to_owned();
    let place = Place { kind: Kind::Machine, scratch, disk, slice, evidence: Default::default() };
    judge(place, deadline, test);
}

fn judge<T>(place: Place, deadline: Duration, test: T)
where
    T: AsyncFnOnce(Place) -> Result<()>,
{
    let runtime = tokio::runtime::Runtime::new().expect("start the async runtime");
    let verdict = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            tokio::time::timeout(deadline, test(place.clone()))
                .await
                .with_context(|| format!("end within {deadline:?}"))?
        })
    }));
    // Tasks that block must not keep a finished test from ending.
    runtime.shutdown_background();
    if let Ok(Ok(())) = verdict {
        return;
    }
    print_evidence(&place);
    match verdict {
        Ok(failed) => panic!("{:#}", failed.expect_err("a failure")),
        Err(panicked) => std::panic::resume_unwind(panicked),
    }
}

fn print_evidence(place: &Place) {
    for file in place.evidence.lock().unwrap_or_else(|e| e.into_inner()).iter() {
        match tail(file) {
            Ok(text) => println!("--- the end of {}\n{text}", file.display()),
            Err(err) => println!("--- {} cannot be read: {err}", file.display()),
        }
    }
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(EVIDENCE)))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
