//! Documents as JSON literals, and what becomes of them.

use serde_json::{Value, json};

use super::*;

fn descriptor(media_type: &str) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256(b"x"), "size": 1 })
}

fn manifest(layers: usize) -> Value {
    let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip");
    json!({
        "schemaVersion": 2,
        "config": descriptor(OCI_CONFIG),
        "layers": vec![layer; layers],
    })
}

fn parse(value: &Value, claimed: &[&str]) -> Result<Document> {
    Document::parse(value.to_string().as_bytes(), claimed, &Limits::default(), "manifest of test")
}

fn with(mut value: Value, key: &str, field: Value) -> Value {
    value[key] = field;
    value
}

#[test]
fn announced_types_must_agree_with_the_content() {
    let plain = "text/plain; charset=utf-8";
    let oci = "application/vnd.oci.image.manifest.v1+json; charset=utf-8";
    for claimed in
        [&[][..], &[OCI_MANIFEST], &[DOCKER_MANIFEST, OCI_MANIFEST], &[plain], &["", oci]]
    {
        assert!(matches!(parse(&manifest(1), claimed), Ok(Document::Image(_))), "{claimed:?}");
    }
    for claimed in [&[OCI_INDEX][..], &[DOCKER_INDEX], &[OCI_MANIFEST, DOCKER_INDEX]] {
        let error = parse(&manifest(1), claimed).unwrap_err();
        assert!(matches!(error, Error::InvalidManifest { .. }), "{claimed:?}: {error}");
    }
    let lying = with(manifest(1), "mediaType", OCI_INDEX.into());
    assert!(matches!(parse(&lying, &[]), Err(Error::InvalidManifest { .. })));
}

#[test]
fn a_document_says_one_thing() {
    for (value, reason) in [
        (with(manifest(1), "manifests", json!([])), "both"),
        (json!({ "schemaVersion": 2, "manifests": [], "config": descriptor("x") }), "both"),
        (json!({ "schemaVersion": 2, "layers": [] }), "neither"),
        (json!({ "schemaVersion": 2, "config": descriptor(OCI_CONFIG) }), "neither"),
        (with(manifest(1), "schemaVersion", json!(3)), "schemaVersion"),
        (json!([]), "invalid"),
        (with(manifest(1), "layers", json!([{ "digest": "sha256:../x", "size": 1 }])), "digest"),
        (with(manifest(1), "layers", json!([{ "digest": Digest::sha256(b""), "size": -1 }])), "-1"),
    ] {
        let error = parse(&value, &[]).unwrap_err();
        assert!(matches!(error, Error::InvalidManifest { .. }), "{value}: {error}");
        assert!(error.to_string().contains(reason), "{value}: {error}");
    }
}

#[test]
fn what_is_no_image_is_unsupported() {
    for value in [
        json!({ "schemaVersion": 1, "fsLayers": [], "history": [] }),
        with(manifest(0), "layers", json!([descriptor("application/vnd.wasm.v1")])),
        with(manifest(1), "mediaType", "application/vnd.oci.artifact.manifest.v1+json".into()),
    ] {
        assert!(matches!(parse(&value, &[]), Err(Error::Unsupported { .. })), "{value}");
    }
}

#[test]
fn what_has_another_config_is_an_artifact_and_named_by_its_manifest() {
    let config = descriptor("application/vnd.cncf.helm.config.v1+json");
    let value = with(
        with(manifest(0), "config", config),
        "layers",
        json!([
            descriptor("application/vnd.cncf.helm.chart.content.v1.tar+gzip"),
            descriptor("application/vnd.oci.empty.v1+json"),
        ]),
    );
    let Document::Image(manifest) = parse(&value, &[]).unwrap() else { panic!("an index") };
    assert_eq!(manifest.layers.len(), 1);
    assert_eq!(*manifest.id().digest(), Digest::sha256(value.to_string().as_bytes()));
    assert_eq!(manifest.stand_in().unwrap().diff_ids.len(), 1);
    let Document::Image(image) = parse(&super::tests::manifest(1), &[]).unwrap() else { panic!() };
    assert!(image.stand_in().is_none());
    assert_eq!(image.id().digest(), &image.config.digest);
}

#[test]
fn caps() {
    assert!(matches!(parse(&manifest(500), &[]), Ok(Document::Image(m)) if m.layers.len() == 500));
    assert!(matches!(parse(&manifest(501), &[]), Err(Error::TooLarge { .. })));
    let index = |n| json!({ "schemaVersion": 2, "manifests": vec![descriptor(OCI_MANIFEST); n] });
    assert!(matches!(parse(&index(512), &[]), Ok(Document::Index(_))));
    assert!(matches!(parse(&index(513), &[]), Err(Error::TooLarge { .. })));
    let config = json!({ "mediaType": OCI_CONFIG, "digest": Digest::sha256(b""), "size": 5 << 20 });
    assert!(matches!(
        parse(&with(manifest(1), "config", config), &[]),
        Err(Error::TooLarge { .. })
    ));
}

#[test]
fn an_index_is_searched_by_platform() {
    let entry = |arch: &str, variant: &str| {
        with(
            descriptor(OCI_MANIFEST),
            "platform",
            json!({ "os": "linux", "architecture": arch, "variant": variant }),
        )
    };
    let attestation = with(entry("amd64", ""), "annotations", json!({ ATTESTATION: "manifest" }));
    let unnamed = with(descriptor(OCI_MANIFEST), "annotations", Value::Null);
    let index = json!({ "schemaVersion": 2, "manifests": [
        unnamed, attestation, entry("arm64", ""), entry("amd64", ""), entry("amd64", "v2"),
        entry("amd64", "v3"),
    ]});
    let Document::Index(entries) = parse(&index, &[OCI_INDEX]).unwrap() else { panic!("an index") };
    let platform = |variant: &str| Platform {
        os: "linux".into(),
        architecture: "amd64".into(),
        variant: variant.into(),
    };
    let found: Vec<_> = candidates(&entries, &platform("v2"))
        .iter()
        .map(|entry| entry.platform.as_ref().map(|p| p.variant.clone()))
        .collect();
    assert_eq!(found, [Some("v2".to_owned()), Some(String::new()), None]);
}

#[test]
fn a_config_names_each_layer_and_its_platform() {
    let platform =
        Platform { os: "linux".into(), architecture: "amd64".into(), variant: "".into() };
    let config = |arch: &str, ids: Value| {
        let value = json!({
            "architecture": arch, "os": "linux", "created": null,
            "config": { "Env": null, "ExposedPorts": null, "Volumes": { "/data": {} }, "User": "app" },
            "rootfs": { "type": "layers", "diff_ids": ids },
        });
        Configuration::parse(value.to_string().into_bytes(), 1, &platform, "config of test")
    };
    let id = Digest::sha256(b"layer");
    assert_eq!(config("amd64", json!([id])).unwrap().diff_ids, std::slice::from_ref(&id));
    assert!(config("", json!([id])).is_ok());
    assert!(matches!(config("arm64", json!([id])), Err(Error::Unsupported { .. })));
    assert!(matches!(config("amd64", json!([])), Err(Error::InvalidManifest { .. })));
    assert!(matches!(config("amd64", json!(["sha256:../.."])), Err(Error::InvalidManifest { .. })));
}
