//! ADD as it should go.

use std::path::Path;
use std::time::Duration;

use berth_cni::{Attachment, Capabilities, Error, NetworkStatus, PortMapping, Protocol};
use serde_json::json;

use crate::node::{NETNS, Node, answer, container, id};

#[tokio::test]
async fn plugins_run_in_order_each_with_the_result_before() {
    let node = Node::new(&[json!("first"), json!("second")]);
    node.recorder("first", &answer("10.0.0.2/24")).recorder("second", &answer("10.0.0.3/24"));
    let attached = node.add(&container()).await.unwrap();

    assert_eq!(node.calls(), ["ADD first", "ADD second"]);
    assert_eq!(node.input("first", "ADD").get("prevResult"), None);
    assert_eq!(node.input("second", "ADD")["prevResult"], answer("10.0.0.2/24"));
    let ips: Vec<_> = attached.pod_ips().map(|ip| ip.to_string()).collect();
    assert_eq!(ips, ["10.0.0.3"]);
    assert_eq!(attached.interfaces[0].name, "veth1");
    let runs: Vec<_> = attached.runs.iter().map(|run| run.plugin.as_str()).collect();
    assert_eq!(runs, ["first", "second"]);
    assert!(attached.runs.iter().all(|run| run.took > Duration::ZERO));
    let raw: serde_json::Value = serde_json::from_str(&attached.raw).unwrap();
    assert_eq!(raw, answer("10.0.0.3/24"));
}

#[tokio::test]
async fn a_plugin_sees_the_specifications_environment_only() {
    let node = Node::new(&[json!("first")]);
    node.recorder("first", &answer("10.0.0.2/24"));
    let pod = container().pod("ns", "web-0", "u-1").unwrap();
    node.add(&pod).await.unwrap();

    let environment = node.log("first.ADD.env");
    // The shell adds PWD, and some shells a few more of their own.
    let mut environment: Vec<_> = environment
        .lines()
        .filter(|line| ["CNI_", "PATH="].iter().any(|own| line.starts_with(own)))
        .collect();
    environment.sort_unstable();
    let (bin, id) = (node.root.path().join("bin"), id());
    assert_eq!(
        environment,
        [
            &format!(
                "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web-0;\
                 K8S_POD_INFRA_CONTAINER_ID={id};K8S_POD_UID=u-1"
            ),
            "CNI_COMMAND=ADD",
            &format!("CNI_CONTAINERID={id}"),
            "CNI_IFNAME=eth0",
            &format!("CNI_NETNS={NETNS}"),
            &format!("CNI_PATH={}", bin.display()),
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ]
    );
    assert!(node.log("first.ADD.env").contains("PWD=/\n"));
    assert!(!node.log("first.ADD.env").contains("CARGO"), "nothing of ours leaks");
}

#[tokio::test]
async fn capabilities_go_where_they_are_declared_and_the_rest_is_told() {
    let node = Node::new(&[
        json!("first"),
        json!({"type": "second", "capabilities": {"portMappings": true, "mac": false}}),
    ]);
    node.recorder("first", &answer("10.0.0.2/24")).recorder("second", &answer("10.0.0.2/24"));
    let mapping =
        PortMapping { host_port: 8080, container_port: 80, protocol: Protocol::Tcp, host_ip: None };
    let asked = Capabilities::default().port_mappings(&[mapping]).mac("c2:11:22:33:44:55");
    let attached = node.add(&container().capabilities(asked)).await.unwrap();

    assert_eq!(node.input("first", "ADD").get("runtimeConfig"), None);
    let mappings = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    assert_eq!(node.input("second", "ADD")["runtimeConfig"], json!({"portMappings": mappings}));
    assert_eq!(attached.unserved, ["mac"]);
}

#[tokio::test]
async fn the_record_is_there_before_the_first_plugin_and_holds_the_result_after_the_last() {
    let node = Node::new(&[json!("first")]);
    let results = node.root.path().join("results");
    node.plugin(
        "first",
        &format!(
            "cp {}/pods-{}-eth0 $LOG/owed\necho '{}'",
            results.display(),
            id(),
            answer("10.0.0.2/8")
        ),
    );
    node.add(&container()).await.unwrap();

    let owed: serde_json::Value = serde_json::from_str(&node.log("owed")).unwrap();
    assert_eq!(owed["kind"], "cniCacheV1");
    assert_eq!(owed.get("result"), None);
    let record = node.record().unwrap();
    assert_eq!(record["result"], answer("10.0.0.2/8"));
    assert_eq!(record["netns"], NETNS);
    let on_record = node.cni.owed().await.unwrap();
    assert_eq!((on_record.len(), on_record[0].complete), (1, true));
}

#[tokio::test]
async fn a_result_of_another_version_is_converted() {
    let node = Node::new(&[json!("old"), json!("new")]);
    let old = json!({"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.0.0.2/8"}]});
    let new = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/8"}]});
    node.recorder("old", &old).recorder("new", &new);
    node.add(&container()).await.unwrap();
    assert_eq!(node.input("new", "ADD")["prevResult"], new);
}

#[tokio::test]
async fn what_is_attached_is_not_attached_again() {
    let node = Node::new(&[json!("first")]);
    node.recorder("first", &answer("10.0.0.2/24"));
    node.add(&container()).await.unwrap();
    let again = node.add(&container()).await.unwrap_err();
    assert!(matches!(again, Error::AlreadyAttached { .. }), "{again}");
    assert_eq!(node.calls(), ["ADD first"]);
}

#[tokio::test]
async fn without_a_namespace_nothing_runs() {
    let node = Node::new(&[json!("first")]);
    node.recorder("first", &answer("10.0.0.2/24"));
    let bare = Attachment::new(&id(), "eth0").unwrap();
    assert!(matches!(node.add(&bare).await, Err(Error::Argument { .. })));
    assert_eq!((node.calls().len(), node.record()), (0, None));
}

#[tokio::test]
async fn no_more_plugins_run_at_once_than_may() {
    let node = Node::with(&[json!("first")], |settings| settings.max_concurrent = 2);
    // Each holds a place while it runs; the count of places must never pass two.
    node.plugin(
        "first",
        "mkdir $LOG/run.$CNI_CONTAINERID; ls -d $LOG/run.* | wc -l >> $LOG/counts\n\
         sleep 0.05; rmdir $LOG/run.$CNI_CONTAINERID; echo '{}'",
    );
    let network = node.network().await;
    let adds = (0..8).map(|i| {
        let (cni, network) = (node.cni.clone(), network.clone());
        async move {
            let id = format!("c{i}");
            let container = Attachment::new(&id, "eth0").unwrap().netns(Path::new(NETNS)).unwrap();
            cni.add(&network, &container).await.unwrap();
        }
    });
    futures_util::future::join_all(adds).await;
    let counts = node.log("counts");
    assert_eq!(counts.lines().count(), 8);
    assert!(counts.lines().all(|count| ["1", "2"].contains(&count.trim())), "{counts}");
}

#[tokio::test]
async fn status_names_the_network_and_its_file() {
    let node = Node::new(&[json!("first")]);
    let file = node.root.path().join("net.d/10-pods.conflist");
    assert_eq!(node.cni.status(), NetworkStatus::Ready { network: "pods".into(), file });
}
