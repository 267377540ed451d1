//! Starts that nobody is there to hear of.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use anyhow::{Context as _, ensure};
use berth_e2e::client::cri::ContainerState;
use berth_e2e::client::pod;
use berth_e2e::{place, wait};

use super::{NO_DEVICES, SOON, app, in_front, node_with, table};

/// berthd dies when it has had a process made, and before it is told what came of it.
#[test]
fn a_start_that_was_cut_off_is_concluded_by_the_next_daemon() {
    place::native(async |place| {
        let hold = place.scratch().join("hold");
        let hold_on = format!("while [ -e {} ]; do sleep 0.01; done", hold.display());
        let wait = format!("{NO_DEVICES}; {hold_on}");
        let slow = in_front(&place, "slow", &wait)?;
        let failing = in_front(&place, "failing", &format!("{wait}; exit 3"))?;
        let more = format!("{}{}", table("slow", &slow), table("failing", &failing));
        let mut node = node_with(&place, &more).await?;
        let audit = node.audit()?;
        for (handler, runs) in [("", true), ("slow", true), ("failing", false)] {
            let pod = node.client.run_pod(pod("cut").handler(handler)).await?;
            let spec = app(&node, "app").script("echo once; exec sleep inf");
            let app = pod.create(spec).await?;
            fs::write(&hold, "")?;
            node.daemon.arm("shim.start.sent", "kill");
            node.kill_and_restart().await?;
            let lost = node.client.container(&app.id).start().await;
            ensure!(lost.is_err(), "{handler}: it was not killed");
            ensure!(node.daemon.ended().await?.signal() == Some(9), "{handler}: {lost:?}");

            node.daemon.disarm();
            let log = node.daemon.dirs().base.join("log");
            let before = fs::read_to_string(&log)?.len();
            let let_go = wait::until("the next one waits for it", SOON, async || {
                let waits = fs::read_to_string(&log)?[before..].contains("start that was cut off");
                if waits || handler.is_empty() {
                    fs::remove_file(&hold)?;
                }
                Ok((waits || handler.is_empty()).then_some(()))
            });
            let (started, let_go) = tokio::join!(node.daemon.start(), let_go);
            started?;
            let_go?;
            node.client = node.daemon.client().await?;
            let app = node.client.container(&app.id);
            let status = app.status().await?;
            if runs {
                assert_eq!(status.state(), ContainerState::ContainerRunning, "{handler}");
                assert_eq!(app.shell("echo here").await?, "here\n");
                assert_eq!(fs::read_to_string(&status.log_path)?.matches("once").count(), 1);
            } else {
                assert_eq!((status.reason.as_str(), status.exit_code), ("StartError", 128));
                ensure!(status.message.contains("exit code 3"), "{status:?}");
            }
            node.client.pod(&pod.id).delete().await?;
            audit.assert_clean().await.with_context(|| format!("after {handler}"))?;
        }
        Ok(())
    });
}
