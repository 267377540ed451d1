use super::*;
use crate::api::runtime::{ContainerMetadata, PodSandboxMetadata};

fn pod(id: &str, name: &str, attempt: u32) -> PodSandbox {
    let (namespace, name) = name.split_once('/').unwrap();
    PodSandbox {
        id: id.into(),
        metadata: Some(PodSandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: namespace.into(),
            attempt,
        }),
        ..Default::default()
    }
}

fn container(id: &str, pod: &str, name: &str, attempt: u32) -> Container {
    Container {
        id: id.into(),
        pod_sandbox_id: pod.into(),
        metadata: Some(ContainerMetadata { name: name.into(), attempt }),
        ..Default::default()
    }
}

/// A pod that was restarted, a pod in another namespace of the same name, and one as
/// `berth run` makes them.
fn node() -> Names {
    Names {
        pods: vec![
            pod("a1", "default/web", 1),
            pod("a0", "default/web", 0),
            pod("b1", "test/db", 0),
            pod("b2", "default/db", 0),
            pod("c1", "berth/box", 0),
        ],
        containers: vec![
            container("d1", "a1", "app", 1),
            container("d0", "a1", "app", 0),
            container("d2", "a1", "sidecar", 0),
            container("e1", "b1", "postgres", 0),
            container("e2", "b2", "postgres", 0),
            container("f1", "c1", "box", 0),
        ],
    }
}

fn object(text: &str) -> Result<String, String> {
    let names = node();
    names.object(text).map(|o| o.id().to_owned()).map_err(|e| e.to_string())
}

fn container_id(text: &str) -> Result<String, String> {
    let names = node();
    names.container(text).map(|c| c.id.clone()).map_err(|e| e.to_string())
}

#[test]
fn objects_are_found_by_id_name_and_prefix() {
    for (text, id) in [
        ("a0", "a0"),
        ("web", "a1"),
        ("default/web", "a1"),
        ("test/db", "b1"),
        ("app", "d1"),
        ("d0", "d0"),
        ("web/app", "d1"),
        ("default/web/app", "d1"),
        ("a1/sidecar", "d2"),
        ("c", "c1"),
        ("f", "f1"),
    ] {
        assert_eq!(object(text).as_deref(), Ok(id), "{text:?}");
    }
}

#[test]
fn a_pod_and_its_container_of_the_same_name_are_the_pod() {
    assert_eq!(object("box").as_deref(), Ok("c1"));
    assert_eq!(container_id("box").as_deref(), Ok("f1"));
}

#[test]
fn a_pod_stands_for_its_only_container() {
    assert_eq!(container_id("test/db").as_deref(), Ok("e1"));
    assert_eq!(container_id("b2").as_deref(), Ok("e2"));
    let message = container_id("web").unwrap_err();
    assert!(message.contains("d1 (default/web/app)"), "{message}");
    assert!(message.contains("d2 (default/web/sidecar)"), "{message}");
}

#[test]
fn a_pod_stands_for_nothing_where_containers_have_its_name() {
    let mut names = node();
    names.containers.push(container("g1", "b1", "box", 0));
    let message = names.container("box").unwrap_err().to_string();
    assert!(message.contains("f1 (berth/box/box), container g1 (test/db/box)"), "{message}");
}

#[test]
fn what_is_ambiguous_is_listed_and_never_guessed() {
    for text in ["db", "postgres", "d", "b"] {
        let message = object(text).unwrap_err();
        assert!(message.contains("is ambiguous"), "{text:?}: {message}");
    }
    let expected = "\"postgres\" is ambiguous, it could be: container e1 (test/db/postgres), \
                    container e2 (default/db/postgres)";
    assert_eq!(container_id("postgres").unwrap_err(), expected);
}

#[test]
fn what_is_unknown_comes_with_what_is_like_it() {
    let expected = "no pod or container is called \"side\"; there are: \
                    container d2 (default/web/sidecar)";
    assert_eq!(object("side").unwrap_err(), expected);
    let message = container_id("zzz").unwrap_err();
    assert!(message.starts_with("no container is called \"zzz\"; there are: container d1"));
    assert!(object("").is_err());
}

#[test]
fn a_long_list_is_cut() {
    let containers = (0..20).map(|n| container(&format!("c{n}"), "p", &format!("n{n}"), 0));
    let names = Names { pods: vec![], containers: containers.collect() };
    let message = names.object("zzz").unwrap_err().to_string();
    assert!(message.ends_with("and 12 more"), "{message}");
}

#[test]
fn an_empty_node_says_so() {
    let message = Names::default().container("web").unwrap_err().to_string();
    assert_eq!(message, "no container is called \"web\": there are no containers");
}
