//! Requests that make no sense, or ask for what this version cannot do: each is refused with the
//! right code and the field, and leaves nothing.

use anyhow::Result;
use berth_e2e::client::cri::{
    DnsConfig, IdMapping, NamespaceMode, NamespaceOption, PodSandboxConfig, PortMapping,
    RunPodSandboxRequest, UserNamespace,
};
use berth_e2e::client::{Client, Code, PodSpec, assert_refused, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::{audit, network, place};

type Change = fn(&mut PodSandboxConfig);

/// Sends each request of a table, and sees to it that nothing comes of any.
fn all_are_refused(code: Code, table: &[(PodSpec, &str)]) {
    place::native(async |place| {
        let network = network::bridge(1).port_mappings().install(&place)?;
        let daemon = Setup::new(Engine::Berthd).network(&network).start(&place).await?;
        let client = daemon.client().await?;
        let audit = audit::Audit::begin(audit::Scope::of(&daemon))?;
        for (spec, words) in table {
            assert_refused(client.run_pod(spec.clone()).await, code, &[words]);
        }
        assert!(client.pods().await?.is_empty());
        audit.assert_clean().await
    });
}

/// With a log directory that is right, so that no name has to make one.
fn odd() -> PodSpec {
    pod("odd").with(|config| config.log_directory = "/var/log/pods/odd".to_owned())
}

fn changed(change: Change) -> PodSpec {
    odd().with(change)
}

#[test]
fn names_are_there_and_not_over_long() {
    let named = |change: fn(&mut berth_e2e::client::cri::PodSandboxMetadata)| {
        odd().with(|config| change(config.metadata.get_or_insert_default()))
    };
    let table = [
        (changed(|c| c.metadata = None), "config.metadata is missing"),
        (named(|m| m.name.clear()), "config.metadata.name is missing"),
        (named(|m| m.uid.clear()), "config.metadata.uid is missing"),
        (named(|m| m.namespace.clear()), "config.metadata.namespace is missing"),
        (named(|m| m.name = "n".repeat(254)), "config.metadata.name has 254 bytes"),
        (named(|m| m.uid = "u".repeat(100_000)), "config.metadata.uid has 100000 bytes"),
        (named(|m| m.namespace = "a\0b".into()), "config.metadata.namespace"),
        (named(|m| m.name = "a;K8S_POD_NAME=b".into()), "config.metadata.name"),
        (changed(|c| c.hostname = "h".repeat(65)), "config.hostname has 65 bytes"),
        (changed(|c| c.hostname = "two\nlines".into()), "config.hostname"),
    ];
    all_are_refused(Code::InvalidArgument, &table);
}

#[test]
fn a_log_directory_is_an_absolute_path() {
    let table = [
        (changed(|c| c.log_directory = "logs".into()), "config.log_directory \"logs\""),
        (changed(|c| c.log_directory = "/logs/../etc".into()), "config.log_directory"),
        (changed(|c| c.log_directory = format!("/{}", "x".repeat(5000))), "config.log_directory"),
    ];
    all_are_refused(Code::InvalidArgument, &table);
}

#[test]
fn port_mappings_are_checked() {
    let mapped = |container_port, host_port, host_ip: &str, protocol| {
        let host_ip = host_ip.to_owned();
        let mapping = PortMapping { container_port, host_port, host_ip, protocol };
        odd().with(|config| config.port_mappings = vec![mapping])
    };
    let table = [
        (mapped(0, 80, "", 0), "config.port_mappings[0].container_port 0"),
        (mapped(65_536, 80, "", 0), "config.port_mappings[0].container_port 65536"),
        (mapped(80, -1, "", 0), "config.port_mappings[0].host_port -1"),
        (mapped(80, 70_000, "", 0), "config.port_mappings[0].host_port 70000"),
        (mapped(80, 80, "localhost", 0), "config.port_mappings[0].host_ip \"localhost\""),
        (mapped(80, 80, "", 9), "config.port_mappings[0].protocol 9"),
    ];
    all_are_refused(Code::InvalidArgument, &table);
}

#[test]
fn resolver_settings_cannot_bring_lines_of_their_own() {
    let dns = |change: fn(&mut DnsConfig)| {
        odd().with(|config| change(config.dns_config.get_or_insert_default()))
    };
    let table = [
        (dns(|d| d.servers.push("1.1.1.1\nnameserver 6.6.6.6".into())), "dns_config.servers"),
        (dns(|d| d.searches.push("a b".into())), "dns_config.searches"),
        (dns(|d| d.options.push("ndots:5\t".into())), "dns_config.options"),
    ];
    all_are_refused(Code::InvalidArgument, &table);
}

#[test]
fn an_unknown_handler_is_named() {
    let table = [(odd().handler("kata"), "\"kata\": no such runtime handler")];
    all_are_refused(Code::InvalidArgument, &table);
}

/// A pod whose user namespace is changed in one way.
fn users(change: impl FnOnce(&mut UserNamespace)) -> PodSpec {
    odd().users(131_072).namespaces(|options| {
        change(options.userns_options.get_or_insert_default());
    })
}

#[test]
fn a_user_namespace_has_one_range_of_ids() {
    let mode = |mode: fn(&mut NamespaceOption)| odd().users(131_072).namespaces(mode);
    let second = || IdMapping { host_id: 9, container_id: 65_536, length: 1 };
    let table = [
        (users(|u| u.mode = NamespaceMode::Container.into()), "userns_options.mode cannot be"),
        (users(|u| u.mode = NamespaceMode::Target.into()), "userns_options.mode cannot be TARGET"),
        (users(|u| u.mode = NamespaceMode::Node.into()), "userns_options.uids are mapped"),
        (users(|u| u.mode = 7), "userns_options.mode 7 is unknown"),
        (users(|u| u.uids.clear()), "userns_options.uids has 0 mappings"),
        (users(move |u| u.uids.push(second())), "userns_options.uids has 2 mappings"),
        (users(move |u| u.gids.push(second())), "userns_options.gids has 2 mappings"),
        (users(|u| u.uids[0].container_id = 1), "userns_options.uids[0].container_id is 1"),
        (users(|u| u.gids[0].length = 0), "userns_options.gids[0].length is 0"),
        (users(|u| u.uids[0].length = 65_535), "userns_options.uids[0].length is 65535"),
        (users(|u| u.uids[0].host_id = u32::MAX - 9), "userns_options.uids[0].length is 65536"),
        (mode(|o| o.pid = NamespaceMode::Node.into()), "namespace_options.pid cannot be NODE"),
        (mode(|o| o.ipc = NamespaceMode::Node.into()), "namespace_options.ipc cannot be NODE"),
        (odd().users(131_072).privileged(), "security_context.privileged cannot be set"),
    ];
    all_are_refused(Code::InvalidArgument, &table);
}

#[test]
fn an_empty_request_is_refused() {
    place::native(async |place| {
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let client = daemon.client().await?;
        let empty = client.runtime().run_pod_sandbox(RunPodSandboxRequest::default()).await;
        assert_refused(empty, Code::InvalidArgument, &["config.metadata is missing"]);
        answers(&client).await
    });
}

async fn answers(client: &Client) -> Result<()> {
    assert_eq!(client.version().await?.runtime_api_version, "v1");
    Ok(())
}

/// The kubelet's own limit, in both directions. A larger message ends that call and no other.
#[test]
fn messages_of_16_mib_pass() {
    place::native(async |place| {
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let client = daemon.client().await?;
        let heavy =
            |name: &str, bytes| pod(name).host_network().annotation("note", &"x".repeat(bytes));
        let pods = [
            client.run_pod(heavy("one", 7 << 20)).await?,
            client.run_pod(heavy("two", 7 << 20)).await?,
        ];
        let listed = client.pods().await?;
        assert_eq!(listed.iter().map(|pod| pod.annotations["note"].len()).sum::<usize>(), 14 << 20);
        let too_heavy = client.run_pod(heavy("three", 17 << 20)).await;
        assert_refused(too_heavy, Code::OutOfRange, &["16777216"]);
        answers(&client).await?;
        for pod in pods {
            pod.delete().await?;
        }
        Ok(())
    });
}
