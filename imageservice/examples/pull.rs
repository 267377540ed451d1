//! Pulls an image into a directory, shows how far it is, and prints what happened: for measuring by
//! hand.
//!
//! `cargo run --release -p berth-imageservice --example pull -- DIRECTORY REFERENCE [CERTS_D]`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use berth_imageservice::{Config, Images, Phase, Progress, PullRequest};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<ExitCode, Failure> {
    if let Some(code) = berth_imageservice::run_as_unpacker() {
        return Ok(code);
    }
    tokio::runtime::Runtime::new()?.block_on(pull())?;
    Ok(ExitCode::SUCCESS)
}

async fn pull() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let (Some(directory), Some(reference)) = (args.next(), args.next()) else {
        return Err("usage: pull DIRECTORY REFERENCE [CERTS_D]".into());
    };
    let mut config = Config::new(directory);
    config.certs_dirs = args.map(Into::into).collect();
    let images = Images::open(config).await?;
    let start = Instant::now();
    let pull = images.start_pull(PullRequest::new(reference.parse()?));
    let progress = pull.progress().clone();
    let outcome = tokio::select! {
        outcome = pull.outcome() => outcome?,
        () = show(&progress) => unreachable!("it ends with the pull"),
    };
    println!("{outcome}, in all {:?}", start.elapsed());
    let image = images.find(&reference)?.ok_or("it is not here")?;
    println!("{:?} {:?}, {} bytes on disk", image.repo_tags(), image.repo_digests(), image.size());
    images.shutdown().await;
    Ok(())
}

/// Prints the progress until it is dropped. A person looks at it, so it comes by the clock.
async fn show(progress: &Progress) {
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    loop {
        tick.tick().await;
        let report = progress.report();
        let (done, total) = report
            .layers
            .iter()
            .fold((0, 0), |(done, total), layer| (done + layer.done, total + layer.total));
        if report.phase != Phase::Resolving {
            eprintln!("{:?}: {done} of {total} bytes", report.phase);
        }
    }
}
