//! Pulling a large image from a registry on the same machine.
//!
//! Each round pulls another image and nothing is removed: a file system that has just deleted
//! many files is several times slower at creating some, which would measure the removal.

use std::time::Instant;

use anyhow::{Context, Result};

use super::{Contender, Plan, Table, Unit};
use crate::image::big;
use crate::registry::Registry;

pub(super) async fn measure(
    plan: &Plan,
    contenders: &[Contender],
    registry: &Registry,
    table: &mut Table,
) -> Result<()> {
    let name = format!("pull of {} MB", plan.image_megabytes);
    for round in 0..plan.pulls {
        let image = big(plan.image_megabytes * 1_000_000, round as u64)?;
        let image = registry.push(&format!("big{round}:1"), &image).await?;
        for turn in 0..contenders.len() {
            let engine = (round + turn) % contenders.len();
            // What others have written must not be written back on this one's time.
            rustix::fs::sync();
            let start = Instant::now();
            contenders[engine].client.pull(&image).await.context("pull the large image")?;
            let time = start.elapsed().as_secs_f64() * 1e3;
            table.push(&name, Unit::Milliseconds, engine, time);
        }
    }
    Ok(())
}
