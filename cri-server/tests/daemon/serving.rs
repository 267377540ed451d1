//! What clients get.

use berth_cri_server::api::admin::{
    InfoRequest, InfoResponse, OperationsRequest, OperationsResponse,
};
use berth_cri_server::api::runtime::{
    AttachRequest, AttachResponse, AuthConfig, CgroupDriver, PullImageRequest, PullImageResponse,
    RuntimeConfigRequest, RuntimeConfigResponse, StatusRequest, StatusResponse,
    StreamImagesRequest, StreamImagesResponse, VersionRequest, VersionResponse,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tonic::Code;

use super::harness::{Client, Place};

const VERSION: &str = "/runtime.v1.RuntimeService/Version";

async fn version(client: &mut Client) -> VersionResponse {
    client.call(VERSION, VersionRequest::default()).await.unwrap()
}

#[tokio::test]
async fn version_is_what_the_kubelet_expects() {
    let place = Place::new("");
    let berthd = place.start().await;

    let answer = version(&mut berthd.cri()).await;

    assert_eq!(answer.version, "0.1.0");
    assert_eq!(answer.runtime_name, "berth");
    assert_eq!(answer.runtime_version, env!("CARGO_PKG_VERSION"));
    assert_eq!(answer.runtime_api_version, "v1");
}

#[tokio::test]
async fn the_kubelet_is_told_how_to_use_it() {
    let place = Place::new("");
    let berthd = place.start().await;
    let mut client = berthd.cri();

    let status: StatusResponse =
        client.call("/runtime.v1.RuntimeService/Status", StatusRequest::default()).await.unwrap();
    let config: RuntimeConfigResponse = client
        .call("/runtime.v1.RuntimeService/RuntimeConfig", RuntimeConfigRequest {})
        .await
        .unwrap();

    let handlers: Vec<_> = status.runtime_handlers.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(handlers, ["", "berth"]);
    assert!(status.features.unwrap().supplemental_groups_policy);
    let conditions = status.status.unwrap().conditions;
    let kinds: Vec<_> = conditions.iter().map(|condition| condition.r#type.as_str()).collect();
    assert_eq!(kinds, ["RuntimeReady", "NetworkReady", "ControllersReady"]);
    assert_eq!(config.linux.unwrap().cgroup_driver(), CgroupDriver::Cgroupfs);
}

#[tokio::test]
async fn an_rpc_of_a_later_release_answers_unimplemented_with_its_name() {
    let place = Place::new("");
    let berthd = place.start().await;
    let mut client = berthd.cri();

    let unary = client
        .call::<_, AttachResponse>("/runtime.v1.RuntimeService/Attach", AttachRequest::default());
    let unary = unary.await.unwrap_err();
    let stream = client.call::<_, StreamImagesResponse>(
        "/runtime.v1.ImageService/StreamImages",
        StreamImagesRequest::default(),
    );
    let stream = stream.await.unwrap_err();

    let release = env!("CARGO_PKG_VERSION");
    assert_eq!(unary.code(), Code::Unimplemented);
    assert_eq!(unary.message(), format!("Attach is not part of berth {release}"));
    assert_eq!(stream.code(), Code::Unimplemented);
    assert_eq!(stream.message(), format!("StreamImages is not part of berth {release}"));
}

#[tokio::test]
async fn messages_up_to_sixteen_mebibytes_are_read() {
    let place = Place::new("");
    let berthd = place.start().await;
    let mut client = berthd.cri();
    let mut send = async |length: usize| {
        let request = VersionRequest { version: "x".repeat(length) };
        client.call::<_, VersionResponse>(VERSION, request).await
    };

    send((16 << 20) - 16).await.unwrap();

    assert_eq!(send(16 << 20).await.unwrap_err().code(), Code::OutOfRange);
    send(1).await.unwrap();
}

#[tokio::test]
async fn a_failed_request_is_logged_once_with_its_method_and_no_secret() {
    let place = Place::new("[log]\nformat = \"json\"\nlevel = \"debug\"");
    let berthd = place.start().await;
    let request = PullImageRequest {
        auth: Some(AuthConfig { password: "hunter2".into(), ..Default::default() }),
        ..Default::default()
    };

    let mut client = berthd.cri();
    let answer = client.call::<_, PullImageResponse>("/runtime.v1.ImageService/PullImage", request);
    let _ = answer.await;

    assert!(berthd.stop().await.success());
    let log = place.log();
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let about: Vec<_> = lines.iter().filter(|l| l["span"]["method"] == "PullImage").collect();
    assert_eq!(about.len(), 1, "{log}");
    assert!(about[0]["fields"]["code"].is_string(), "{log}");
    assert_eq!(about[0]["span"]["pid"], std::process::id(), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn the_admin_service_tells_the_build_the_settings_and_the_operations() {
    let place = Place::new("[log]\nlevel = \"warn\"");
    let berthd = place.start().await;
    let mut client = berthd.admin();

    let info: InfoResponse =
        client.call("/berth.admin.v1.Admin/Info", InfoRequest {}).await.unwrap();
    let operations: OperationsResponse = client
        .call("/berth.admin.v1.Admin/Operations", OperationsRequest::default())
        .await
        .unwrap();

    assert_eq!((info.version.as_str(), info.pid), (env!("CARGO_PKG_VERSION"), berthd.pid()));
    assert!(!info.kernel.is_empty() && info.started_at > 0);
    let level = info.settings.iter().find(|setting| setting.key == "log.level").unwrap();
    assert_eq!(level.value, "\"warn\"");
    assert!(level.origin.ends_with("config.toml:10"), "{}", level.origin);
    assert!(operations.operations.is_empty());
}

#[tokio::test]
async fn the_admin_service_is_not_on_the_socket_of_the_kubelet() {
    let place = Place::new("");
    let berthd = place.start().await;

    let mut client = berthd.cri();
    let answer = client.call::<_, InfoResponse>("/berth.admin.v1.Admin/Info", InfoRequest {});

    assert_eq!(answer.await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn metrics_count_requests_when_they_are_turned_on() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let place = Place::new(&format!("[metrics]\nlisten = \"{free}\""));
    let berthd = place.start().await;
    version(&mut berthd.cri()).await;

    let mut scrape = TcpStream::connect(free).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";
    scrape.write_all(request).await.unwrap();
    let mut text = String::new();
    scrape.read_to_string(&mut text).await.unwrap();

    assert!(text.contains(r#"berth_operations_total{code="OK",operation="Version"} 1"#), "{text}");
    assert!(text.contains("berth_panics_total 0"), "{text}");
    assert!(berthd.stop().await.success());
}

#[tokio::test]
async fn without_descriptors_clients_are_turned_away_and_served_again_later() {
    let place = Place::new("").before("ulimit -n 32");
    let berthd = place.start().await;
    let socket = place.path("state/berth.sock");

    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(UnixStream::connect(&socket).await.unwrap());
    }
    let mut first_bytes = Vec::new();
    for client in &mut clients {
        // The server's first frame, or the end of the stream.
        first_bytes.push(client.read(&mut [0; 16]).await.unwrap_or(0));
    }
    assert!(first_bytes.contains(&0), "some are turned away");
    assert_ne!(first_bytes[0], 0, "the first ones are served");

    drop(clients);
    // Until the daemon has seen that its ends are closed, it has none to spare.
    let mut client = berthd.cri();
    while client.call::<_, VersionResponse>(VERSION, VersionRequest::default()).await.is_err() {}
    assert!(berthd.stop().await.success());
}
