//! Pods on a network made of Debian's own plugins: addresses, traffic, published ports.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use berth_e2e::client::{Container, Pod, PodSpec, container, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::node::Node;
use berth_e2e::{audit, network, place, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn node(place: &place::Place) -> Result<Node> {
    Node::start(place, Engine::from_env(Engine::Berthd)?).await
}

/// A pod that answers `greeting` on port 80.
async fn greeter(node: &Node, spec: PodSpec, greeting: &str) -> Result<(Pod, Container)> {
    let script = format!("echo {greeting} > /tmp/index.html; exec httpd -f -h /tmp -p 80");
    let pod = node.client.run_pod(spec).await?;
    let server = pod.run(container("server").image(&node.image).script(&script)).await?;
    Ok((pod, server))
}

/// One HTTP GET; asks again until something listens.
async fn get(address: &str) -> Result<String> {
    let address: SocketAddr = address.parse()?;
    let mut stream = wait::until("something listens", Duration::from_secs(10), async || {
        Ok(TcpStream::connect(address).await.ok())
    })
    .await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned()).unwrap_or_default())
}

#[test]
fn a_pod_has_an_address_from_the_network() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let app = pod.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;
        let ip = pod.ip().await?;
        assert!(ip.starts_with("10.88.1."), "{ip}");
        assert_eq!(node.daemon.network().addresses()?.get(&ip), Some(&pod.id));
        let eth0 = app.shell("ip -4 addr show eth0").await?;
        assert!(eth0.contains(&format!("inet {ip}/24")), "{eth0}");
        let routes = app.shell("ip route").await?;
        assert!(routes.contains("default via 10.88.1.1"), "{routes}");
        let status = pod.status().await?.network.unwrap_or_default();
        assert_eq!((status.ip, status.additional_ips.len()), (ip, 0));
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_port_that_no_plugin_publishes_is_told_in_the_log() {
    place::native(async |place| {
        let network = network::bridge(1).install(&place)?;
        let daemon = Setup::new(Engine::Berthd).network(&network).start(&place).await?;
        let (client, audit) =
            (daemon.client().await?, audit::Audit::begin(audit::Scope::of(&daemon))?);
        client.run_pod(pod("quiet")).await?.delete().await?;
        assert!(!daemon.log()?.contains("no plugin"), "{}", daemon.log()?);
        client.run_pod(pod("loud").port(8080, 80)).await?.delete().await?;
        let told = "the pod asks for portMappings, which no plugin of its network provides";
        assert!(daemon.log()?.contains(told), "{}", daemon.log()?);
        audit.assert_clean().await
    });
}

#[test]
fn the_loopback_of_a_pod_is_up_and_its_own() {
    place::native(async |place| {
        let node = node(&place).await?;
        let (pod, server) = greeter(&node, pod("p"), "inside").await?;
        get(&format!("{}:80", pod.ip().await?)).await?;
        assert_eq!(server.shell("wget -q -O - http://127.0.0.1:80").await?, "inside\n");
        TcpStream::connect("127.0.0.1:80").await.expect_err("the host's loopback is another");
        Ok(pod.delete().await?)
    });
}

/// A neighbour on the bridge must not become a pod's router (CVE-2020-10749).
#[test]
fn a_pod_takes_no_routes_from_its_neighbours() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let pod = node.client.run_pod(pod("p")).await?;
        let app = pod.run(container("app").image(&node.image).cmd(["sleep", "inf"])).await?;
        // A kernel without IPv6 has none of them, and no such neighbours.
        let names = ["accept_ra", "accept_redirects"];
        let has_ipv6 = Path::new("/proc/sys/net/ipv6").exists();
        for name in names.iter().filter(|_| has_ipv6) {
            let files = ["all", "default", "eth0"].map(|of| format!("{of}/{name}")).join(" ");
            let script = format!("cd /proc/sys/net/ipv6/conf && cat {files}");
            let inside = app.shell(&script).await?;
            assert_eq!(inside, "0\n0\n0\n", "{name}");
        }
        Ok(pod.delete().await?)
    });
}

#[test]
fn two_pods_reach_each_other_and_the_host_reaches_both() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let (left, one) = greeter(&node, pod("left"), "from-left").await?;
        let (right, two) = greeter(&node, pod("right"), "from-right").await?;
        let (left_ip, right_ip) = (left.ip().await?, right.ip().await?);
        assert_ne!(left_ip, right_ip);
        assert_eq!(get(&format!("{left_ip}:80")).await?, "from-left");
        assert_eq!(get(&format!("{right_ip}:80")).await?, "from-right");
        let ask = |ip: &str| format!("wget -q -O - http://{ip}");
        assert_eq!(one.shell(&ask(&right_ip)).await?, "from-right\n");
        assert_eq!(two.shell(&ask(&left_ip)).await?, "from-left\n");
        left.delete().await?;
        right.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_published_port_leads_into_the_pod_and_goes_with_it() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let (pod, _) = greeter(&node, pod("p").port(8080, 80), "published").await?;
        assert_eq!(get("127.0.0.1:8080").await?, "published");
        assert_eq!(get("10.88.1.1:8080").await?, "published");
        pod.stop().await?;
        TcpStream::connect("127.0.0.1:8080").await.expect_err("it was published by the pod");
        pod.remove().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_port_is_published_on_one_address_if_it_says_so() {
    place::native(async |place| {
        let node = node(&place).await?;
        let spec = pod("p").port(8080, 80).with(|config| {
            config.port_mappings[0].host_ip = "10.88.1.1".to_owned();
        });
        let (pod, _) = greeter(&node, spec, "narrow").await?;
        assert_eq!(get("10.88.1.1:8080").await?, "narrow");
        TcpStream::connect("127.0.0.1:8080").await.expect_err("not on this address");
        Ok(pod.delete().await?)
    });
}

#[test]
fn a_pod_on_the_host_network_has_no_network_of_its_own() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let (first, _) = greeter(&node, pod("first"), "pod").await?;
        let (second, _) = greeter(&node, pod("second").host_network(), "host").await?;
        assert_eq!(get("127.0.0.1:80").await?, "host");
        assert_eq!(get(&format!("{}:80", first.ip().await?)).await?, "pod");
        assert_eq!(second.ip().await?, "");
        assert_eq!(node.daemon.network().addresses()?.len(), 1);
        second.delete().await?;
        first.delete().await?;
        audit.assert_clean().await
    });
}

/// No network is needed for it, and nothing waits for one.
#[test]
fn a_pod_on_the_host_network_starts_without_a_network() {
    place::native(async |place| {
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let client = daemon.client().await?;
        assert!(!client.condition("NetworkReady").await?);
        let begun = std::time::Instant::now();
        let pod = client.run_pod(pod("p").host_network()).await?;
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        Ok(pod.delete().await?)
    });
}

/// Each address is given away once, and comes back.
#[test]
fn addresses_are_released_for_the_next_pods() {
    place::native(async |place| {
        // Room for five pods: .2 to .6.
        let network = network::bridge(1).subnet("10.88.1.0/29").install(&place)?;
        let setup = Setup::new(Engine::from_env(Engine::Berthd)?).network(&network);
        let daemon = setup.start(&place).await?;
        let client = daemon.client().await?;
        for round in 0..3 {
            let mut pods = Vec::new();
            for number in 0..5 {
                pods.push(client.run_pod(pod(&format!("p{round}-{number}"))).await?);
            }
            assert_eq!(network.addresses()?.len(), 5);
            let sixth = client.run_pod(pod("one-too-many")).await;
            let refused = sixth.expect_err("no address is left");
            assert!(refused.message().contains("no IP addresses available"), "{refused}");
            for pod in pods {
                pod.delete().await?;
            }
            assert!(network.addresses()?.is_empty());
        }
        assert!(client.pods().await?.is_empty());
        Ok(())
    });
}

/// What plugins are told of a pod, and what is recorded for other runtimes.
#[test]
fn plugins_are_told_of_the_pod() {
    place::native(async |place| {
        let told = place.scratch().join("told");
        let network = network::bridge(1).port_mappings().install(&place)?;
        // A plugin that writes down what it gets, in front of the real one.
        let script = format!(
            "#!/bin/sh\n[ $CNI_COMMAND = ADD ] && env | grep ^CNI_ > {0}.env\n\
             tee {0}.$CNI_COMMAND | {1}/portmap.real\n",
            told.display(),
            network.bin_dir.display(),
        );
        let plugin = network.bin_dir.join("portmap");
        std::fs::rename(&plugin, network.bin_dir.join("portmap.real"))?;
        std::fs::write(&plugin, script)?;
        std::fs::set_permissions(&plugin, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let daemon = Setup::new(Engine::Berthd).network(&network).start(&place).await?;
        let pod = daemon.client().await?.run_pod(pod("told").port(8080, 80)).await?;
        let ip = pod.ip().await?;

        let env = std::fs::read_to_string(told.with_extension("env"))?;
        let uid = pod.config.metadata.clone().unwrap_or_default().uid;
        let args = format!(
            "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=e2e;K8S_POD_NAME=told;\
             K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={uid}\n",
            pod.id
        );
        assert!(env.contains(&args), "{env}");
        assert!(env.contains(&format!("CNI_CONTAINERID={}\n", pod.id)), "{env}");
        assert!(env.contains("CNI_IFNAME=eth0\n"), "{env}");
        let given: serde_json::Value =
            serde_json::from_slice(&std::fs::read(told.with_extension("ADD"))?)?;
        assert_eq!(given["prevResult"]["ips"][0]["address"], format!("{ip}/24"));
        assert_eq!(given["runtimeConfig"]["portMappings"][0]["hostPort"], 8080);

        let recorded = format!("/var/lib/cni/results/e2e1-{}-eth0", pod.id);
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(&recorded)?)?;
        assert_eq!(record["kind"], "cniCacheV1");
        pod.delete().await?;
        let undone: serde_json::Value =
            serde_json::from_slice(&std::fs::read(told.with_extension("DEL"))?)?;
        assert_eq!(undone["prevResult"]["ips"][0]["address"], format!("{ip}/24"));
        assert!(!std::path::Path::new(&recorded).exists());
        Ok(())
    });
}
