//! DEL: with what was added, past what fails, as often as it takes.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use berth_cni::{Attachment, Capabilities, Error};
use serde_json::{Value, json};

use crate::node::{NETNS, Node, answer, configure, container, id};

async fn attached(plugins: &[Value]) -> Node {
    let node = Node::new(plugins);
    for plugin in plugins {
        let kind = plugin.as_str().or_else(|| plugin["type"].as_str()).unwrap();
        node.recorder(kind, &answer("10.0.0.2/24"));
    }
    let asked = Capabilities::default().mac("c2:11:22:33:44:55");
    let pod = container().pod("ns", "web-0", "u-1").unwrap().capabilities(asked);
    node.add(&pod).await.unwrap();
    node
}

#[tokio::test]
async fn plugins_run_backwards_with_the_final_result() {
    let node = attached(&[json!("first"), json!("second")]).await;
    node.cni.del(&container()).await.unwrap();
    assert_eq!(node.calls(), ["ADD first", "ADD second", "DEL second", "DEL first"]);
    for kind in ["first", "second"] {
        assert_eq!(node.input(kind, "DEL")["prevResult"], answer("10.0.0.2/24"));
    }
    assert_eq!(node.record(), None);
}

#[tokio::test]
async fn arguments_and_capabilities_are_those_of_the_add() {
    let node = attached(&[json!({"type": "first", "capabilities": {"mac": true}})]).await;
    node.cni.del(&container()).await.unwrap();
    assert!(node.log("first.DEL.env").contains("K8S_POD_NAME=web-0;"));
    assert_eq!(node.input("first", "DEL")["runtimeConfig"], json!({"mac": "c2:11:22:33:44:55"}));
}

#[tokio::test]
async fn the_configuration_is_that_of_the_add() {
    let node = attached(&[json!({"type": "first", "color": "blue"})]).await;
    node.recorder("other", &answer("10.0.0.9/24"));
    configure(node.root.path(), &[json!("other")]);
    node.cni.del(&container()).await.unwrap();
    assert_eq!(node.calls(), ["ADD first", "DEL first"]);
    assert_eq!(node.input("first", "DEL")["color"], "blue");
}

#[tokio::test]
async fn a_namespace_that_is_gone_is_not_named() {
    let node = attached(&[json!("first")]).await;
    let impostor = node.root.path().join("file");
    fs::write(&impostor, "").unwrap();
    for (netns, expected) in [
        (Some(Path::new(NETNS)), format!("CNI_NETNS={NETNS}\n")),
        (Some(impostor.as_path()), "CNI_NETNS=\n".into()),
        (Some(Path::new("/gone")), "CNI_NETNS=\n".into()),
        (None, "CNI_NETNS=\n".into()),
    ] {
        let mut container = Attachment::new(&id(), "eth0").unwrap();
        if let Some(netns) = netns {
            container = container.netns(netns).unwrap();
        }
        node.cni.del(&container).await.unwrap();
        assert!(node.log("first.DEL.env").contains(&expected), "{netns:?}");
    }
}

#[tokio::test]
async fn failures_do_not_stop_it_and_are_all_told() {
    let node = attached(&[json!("first"), json!("second"), json!("third"), json!("fourth")]).await;
    node.plugin("second", r#"echo '{"code": 7, "msg": "will not"}'; exit 1"#);
    node.plugin("third", "echo third says no >&2; exit 3");
    node.uninstall("fourth");

    let Err(Error::Del { failures }) = node.cni.del(&container()).await else {
        panic!("succeeded, or failed otherwise");
    };
    let told: Vec<_> = failures.iter().map(Error::to_string).collect();
    let id = id();
    let of = |plugin| format!("DEL of container {id} by plugin {plugin} of network pods: ");
    let bin = node.root.path().join("bin");
    assert_eq!(
        told,
        [
            of("fourth") + &format!("no such plugin in {}", bin.display()),
            of("third") + "exit status: 3; stderr: third says no",
            of("second") + "will not (code 7)",
        ]
    );
    assert_eq!(node.calls().last().unwrap(), "DEL first");
    assert!(node.record().is_some(), "still owed");

    for kind in ["second", "third", "fourth"] {
        node.recorder(kind, &answer("10.0.0.2/24"));
    }
    node.cni.del(&container()).await.unwrap();
    assert_eq!(node.record(), None);
}

#[tokio::test]
async fn an_add_that_failed_is_undone_without_a_result() {
    let node = Node::new(&[json!("first"), json!("second")]);
    node.recorder("first", &answer("10.0.0.2/24"));
    node.plugin("second", "exit 1");
    node.add(&container()).await.unwrap_err();
    assert_eq!(node.record().unwrap().get("result"), None);
    assert!(!node.cni.owed().await.unwrap()[0].complete);

    node.recorder("second", &answer("10.0.0.2/24"));
    node.cni.del(&container()).await.unwrap();
    assert_eq!(node.calls(), ["ADD first", "DEL second", "DEL first"]);
    assert_eq!(node.input("first", "DEL").get("prevResult"), None);
}

#[tokio::test]
async fn without_a_record_the_default_network_is_asked() {
    let node = Node::new(&[json!("first")]);
    node.recorder("first", &answer("10.0.0.2/24"));
    node.cni.del(&container()).await.unwrap();
    assert_eq!(node.calls(), ["DEL first"]);
}

#[tokio::test]
async fn without_a_record_failures_do_not_count() {
    let node = Node::new(&[json!("first"), json!("missing")]);
    node.recorder("first", &answer("10.0.0.2/24"));
    node.add(&container()).await.unwrap_err();
    node.cni.del(&container()).await.unwrap();
    assert_eq!(node.calls(), ["DEL first"]);
}

#[tokio::test]
async fn without_record_and_network_there_is_nothing_to_undo() {
    let node = Node::new(&[]);
    node.cni.del(&container()).await.unwrap();
}

#[tokio::test]
async fn an_empty_record_is_undone_by_the_default_network() {
    let node = attached(&[json!("first")]).await;
    fs::write(node.record_path(), "").unwrap();
    node.cni.del(&container()).await.unwrap();
    assert_eq!(node.calls(), ["ADD first", "DEL first"]);
    assert!(!node.record_path().exists());
}

#[tokio::test]
async fn an_empty_record_without_a_network_stays_owed() {
    let node = Node::new(&[]);
    fs::create_dir(node.root.path().join("results")).unwrap();
    fs::write(node.record_path(), "").unwrap();
    assert!(matches!(node.cni.del(&container()).await, Err(Error::NotReady { .. })));
    assert!(node.record_path().exists());
}

#[tokio::test]
async fn what_is_on_record_can_be_undone_after_a_restart() {
    let node = attached(&[json!("first")]).await;
    let owed = node.cni.owed().await.unwrap();
    node.cni.del(&owed[0].attachment().unwrap()).await.unwrap();
    assert_eq!(node.cni.owed().await.unwrap(), []);
    assert_eq!(node.cni.audit(HashSet::new()).await.unwrap(), []);
}

#[tokio::test]
async fn before_0_4_0_no_result_is_handed_to_a_del() {
    let node = Node::new(&[]);
    let list = json!({"cniVersion": "0.3.1", "name": "pods", "plugins": [{"type": "first"}]});
    let file = node.root.path().join("net.d/10-pods.conflist");
    fs::write(file, list.to_string()).unwrap();
    node.recorder("first", &json!({"cniVersion": "0.3.1"}));
    node.add(&container()).await.unwrap();
    node.cni.del(&container()).await.unwrap();
    assert_eq!(node.input("first", "DEL").get("prevResult"), None);
}
