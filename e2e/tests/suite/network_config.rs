//! Finding the network of the node: a configuration that is not there yet, broken, mended,
//! replaced. What is true is computed from the files each time and never sticks.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use berth_e2e::client::{Client, Code, assert_refused, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::{audit, network, place, wait};

/// A change of the files shows within this time.
const SHOWS: Duration = Duration::from_secs(2);

/// Whether the network is ready, and if not, why.
async fn network(client: &Client) -> Result<(bool, String, String)> {
    let conditions = client.status().await?.status.unwrap_or_default().conditions;
    let found = conditions.into_iter().find(|condition| condition.r#type == "NetworkReady");
    let found = found.context("no condition NetworkReady")?;
    Ok((found.status, found.reason, found.message))
}

async fn shows(client: &Client, ready: bool, reason: &str) -> Result<String> {
    let what = format!("NetworkReady is {ready} {reason}");
    wait::until(&what, SHOWS, async || {
        let (is_ready, why, message) = network(client).await?;
        Ok((is_ready == ready && why == reason).then_some(message))
    })
    .await
}

#[test]
fn a_node_without_a_configuration_says_so_until_there_is_one() {
    place::native(async |place| {
        let net = network::bridge(1).install(&place)?;
        net.withdraw()?;
        let daemon = Setup::new(Engine::Berthd).network(&net).start(&place).await?;
        let client = daemon.client().await?;
        let (ready, reason, message) = network(&client).await?;
        assert!(!ready);
        assert_eq!(reason, "NoNetworkConfig");
        assert!(message.contains(&*net.conf_dir.to_string_lossy()), "{message}");
        assert!(client.condition("RuntimeReady").await?, "the rest of the node is well");

        net.publish()?;
        shows(&client, true, "").await?;
        let pod = client.run_pod(pod("p")).await?;
        net.withdraw()?;
        shows(&client, false, "NoNetworkConfig").await?;
        pod.delete().await?;
        assert!(net.addresses()?.is_empty(), "a pod is detached as it was attached");
        Ok(())
    });
}

#[test]
fn a_broken_file_is_named_and_its_repair_is_seen() {
    place::native(async |place| {
        let net = network::bridge(1).install(&place)?;
        let daemon = Setup::new(Engine::Berthd).network(&net).start(&place).await?;
        let client = daemon.client().await?;
        for broken in ["", "no JSON", "{}", r#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#] {
            net.write_conf(broken)?;
            let message = shows(&client, false, "MalformedNetworkConfig").await?;
            assert!(message.contains("10-e2e.conflist"), "{message}");
            let begun = Instant::now();
            net.publish()?;
            shows(&client, true, "").await?;
            assert!(begun.elapsed() < SHOWS);
        }
        Ok(client.run_pod(pod("p")).await?.delete().await?)
    });
}

#[test]
fn the_first_valid_file_by_name_is_the_network() {
    place::native(async |place| {
        let net = network::bridge(1).install(&place)?;
        let other = network::bridge(2).install(&place)?;
        let daemon = Setup::new(Engine::Berthd).network(&net).start(&place).await?;
        let client = daemon.client().await?;
        std::fs::write(net.conf_dir.join("05-broken.conf"), "{")?;
        std::fs::write(net.conf_dir.join("20-later.conflist"), &other.conflist)?;
        std::fs::write(net.conf_dir.join("00-readme.txt"), "no configuration")?;
        assert!(client.run_pod(pod("one")).await?.ip().await?.starts_with("10.88.1."));
        std::fs::write(net.conf_dir.join("01-first.conflist"), &other.conflist)?;
        wait::until("the new file counts", SHOWS, async || {
            let pod = client.run_pod(pod("two")).await?;
            let ip = pod.ip().await?;
            pod.delete().await?;
            Ok(ip.starts_with("10.88.2.").then_some(()))
        })
        .await?;
        for pod in client.pods().await? {
            client.pod(&pod.id).delete().await?;
        }
        assert!(net.addresses()?.is_empty() && other.addresses()?.is_empty());
        Ok(())
    });
}

/// As installers do it: the whole directory is moved away, made anew, or is a link.
#[test]
fn a_directory_that_is_replaced_is_still_watched() {
    place::native(async |place| {
        let net = network::bridge(1).install(&place)?;
        let daemon = Setup::new(Engine::Berthd).network(&net).start(&place).await?;
        let client = daemon.client().await?;
        shows(&client, true, "").await?;
        let (dir, old) = (&net.conf_dir, net.conf_dir.with_extension("old"));
        std::fs::rename(dir, &old)?;
        shows(&client, false, "NoNetworkConfig").await?;
        std::fs::create_dir(dir)?;
        net.publish()?;
        shows(&client, true, "").await?;
        std::fs::remove_dir_all(dir)?;
        shows(&client, false, "NoNetworkConfig").await?;
        std::os::unix::fs::symlink(&old, dir)?;
        shows(&client, true, "").await?;
        std::fs::remove_file(old.join("10-e2e.conflist"))?;
        shows(&client, false, "NoNetworkConfig").await?;
        net.publish()?;
        shows(&client, true, "").await?;
        Ok(client.run_pod(pod("p")).await?.delete().await?)
    });
}

#[test]
fn a_pod_waits_for_its_network_to_appear() {
    place::native(async |place| {
        let net = network::bridge(1).install(&place)?;
        net.withdraw()?;
        let setup = Setup::new(Engine::Berthd).network(&net);
        let setup = setup.config("version = 1\n[cni]\nnetwork_wait = \"30s\"\n");
        let daemon = setup.start(&place).await?;
        let client = daemon.client().await?;
        let publish = async {
            // Late on purpose: the pod is waiting by now.
            tokio::time::sleep(Duration::from_millis(300)).await;
            net.publish()
        };
        let begun = Instant::now();
        let (pod, published) = tokio::join!(client.run_pod(pod("early")), publish);
        published?;
        let pod = pod?;
        assert!(begun.elapsed() < Duration::from_millis(300) + SHOWS);
        assert!(pod.ip().await?.starts_with("10.88.1."));
        Ok(pod.delete().await?)
    });
}

#[test]
fn a_pod_waits_no_longer_than_it_was_told() {
    place::native(async |place| {
        let net = network::bridge(1).install(&place)?;
        net.write_conf("{ broken")?;
        let setup = Setup::new(Engine::Berthd).network(&net);
        let setup = setup.config("version = 1\n[cni]\nnetwork_wait = \"500ms\"\n");
        let daemon = setup.start(&place).await?;
        let client = daemon.client().await?;
        let audit = audit::Audit::begin(audit::Scope::of(&daemon))?;
        let begun = Instant::now();
        let refused = client.run_pod(pod("hopeless")).await;
        assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_refused(refused, Code::Unavailable, &["no network", "10-e2e.conflist"]);
        assert!(client.pods().await?.is_empty());
        audit.assert_clean().await
    });
}
