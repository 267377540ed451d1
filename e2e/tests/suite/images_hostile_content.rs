//! Documents without measure, layers that are bombs: what a hostile registry serves by the right
//! digest (the other half of T-PULL-1).

use anyhow::Result;
use berth_e2e::client::Code::{DataLoss, FailedPrecondition, ResourceExhausted};
use berth_e2e::image::{Blob, Compression, Format, Image, Index, Layer};
use berth_e2e::place;
use berth_e2e::registry::scripted::Act;
use serde_json::{Value, json};

use crate::images_hostile_registry::End::{self, Pulled, Refused};
use crate::images_hostile_registry::{Case, act, case, fields, spring, usual};

/// An image of its own.
fn image(name: &'static str, end: End, make: impl Fn() -> Result<Image> + 'static) -> Case {
    case(name, end, move |trap| trap.registry.add("trap/own:1", &make()?))
}

/// A manifest of these bytes.
fn manifest(name: &'static str, end: End, bytes: impl Fn() -> Vec<u8> + 'static) -> Case {
    case(name, end, move |trap| {
        let blob = Blob::new("application/vnd.oci.image.manifest.v1+json", bytes());
        Ok(trap.registry.add_manifest("trap/document", "1", &blob))
    })
}

/// The usual image with another first layer, whatever that is.
fn with_layer(bytes: Vec<u8>) -> Result<Image> {
    let mut image = usual()?;
    image.layers[0] = Blob::new(image.layers[0].media_type, bytes);
    image.changed(|_| {}, |_| {})
}

/// An index whose only entry is this document.
fn index_of(entry: &Blob) -> Result<Blob> {
    const TYPE: &str = "application/vnd.oci.image.index.v1+json";
    let text = json!({ "schemaVersion": 2, "mediaType": TYPE, "manifests": [entry.descriptor()] });
    Ok(Blob::new(TYPE, serde_json::to_vec(&text)?))
}

#[test]
fn documents_without_measure() {
    place::native(async |place| {
        let invalid = Refused(DataLoss, "trap/");
        let large = Refused(ResourceExhausted, "too large");
        let blank = |length: usize| move || vec![b' '; length];
        let many = |change: fn(&mut Value)| move || usual()?.changed(|_| {}, change);
        spring(
            &place,
            vec![
                manifest("100 MiB", large, blank(100 << 20)),
                act(
                    "100 MiB in chunks",
                    "/manifests/1",
                    large,
                    Act::SayChunked(200, Vec::new(), vec![b' '; 100 << 20]),
                ),
                manifest("brackets", invalid, || vec![b'['; 4 << 20]),
                manifest("nested objects", invalid, || br#"{"a":"#.repeat(600_000)),
                manifest("empty", invalid, Vec::new),
                manifest("a page", invalid, || b"<html>Please log in</html>".to_vec()),
                manifest("NULs", invalid, || vec![0; 1000]),
                manifest("no UTF-8", invalid, || {
                    b"{\"schemaVersion\":2,\"mediaType\":\"\xff\xfe\"}".to_vec()
                }),
                manifest("a digest that climbs", invalid, || {
                    json!({ "schemaVersion": 2, "layers": [],
                "config": { "mediaType": "x", "digest": "sha256:../../etc/passwd", "size": 1 } })
                    .to_string()
                    .into_bytes()
                }),
                manifest("a size that is none", invalid, || {
                    json!({ "schemaVersion": 2, "layers": [],
                "config": { "mediaType": "x", "digest": format!("sha256:{:064}", 0), "size": -1 } })
                    .to_string()
                    .into_bytes()
                }),
                manifest("schema 1", Refused(FailedPrecondition, "schema 1"), || {
                    json!({ "schemaVersion": 1, "name": "x", "fsLayers": [], "history": [] })
                        .to_string()
                        .into_bytes()
                }),
                image("two kinds at once", invalid, many(|it| it["manifests"] = json!([]))),
                image(
                    "600 layers",
                    large,
                    many(|it| it["layers"] = vec![it["layers"][0].clone(); 600].into()),
                ),
                image(
                    "501 layers",
                    large,
                    many(|it| it["layers"] = vec![it["layers"][0].clone(); 501].into()),
                ),
                image("a config of 1 GiB", large, many(|it| it["config"]["size"] = json!(1 << 30))),
                image(
                    "a layer of 16 EiB",
                    Refused(DataLoss, "bytes, got"),
                    many(|it| it["layers"][0]["size"] = json!(u64::MAX)),
                ),
                image("a million variables", large, || {
                    let variables: Vec<_> =
                        (0..1_000_000).map(|n| json!(format!("V{n}=x"))).collect();
                    usual()?.changed(|it| it["config"]["Env"] = variables.clone().into(), |_| {})
                }),
                image("a config with NULs", Pulled, || {
                    usual()?.changed(|it| it["config"]["Env"] = json!(["A=\0"]), |_| {})
                }),
            ],
        )
        .await
    });
}

#[test]
fn documents_that_lead_astray() {
    place::native(async |place| {
        let invalid = Refused(DataLoss, "trap/");
        spring(
            &place,
            vec![
                case("a lying digest header", Refused(DataLoss, "expected digest"), |trap| {
                    let headers = fields(&[("Docker-Content-Digest", &trap.image.config.digest)]);
                    trap.on(
                        "/manifests/1",
                        Act::Say(200, headers, trap.image.manifest.bytes.to_vec()),
                    )
                }),
                case("a digest header of nonsense", Pulled, |trap| {
                    let headers = fields(&[("Docker-Content-Digest", "sha256:nonsense")]);
                    trap.on(
                        "/manifests/1",
                        Act::Say(200, headers, trap.image.manifest.bytes.to_vec()),
                    )
                }),
                case("announced as an index", invalid, |trap| {
                    let headers =
                        fields(&[("Content-Type", "application/vnd.oci.image.index.v1+json")]);
                    trap.on(
                        "/manifests/1",
                        Act::Say(200, headers, trap.image.manifest.bytes.to_vec()),
                    )
                }),
                case("1,000 indexes deep", invalid, |trap| {
                    let mut top = trap.image.manifest.clone();
                    for _ in 0..1_000 {
                        trap.registry.add_manifest("trap/deep", &top.digest, &top);
                        top = index_of(&top)?;
                    }
                    Ok(trap.registry.add_manifest("trap/deep", "1", &top))
                }),
                case(
                    "an index that is its own entry",
                    Refused(DataLoss, "verify manifest"),
                    |trap| {
                        let index = index_of(&trap.image.manifest)?;
                        trap.registry.add_manifest(
                            "trap/cycle",
                            &trap.image.manifest.digest,
                            &index,
                        );
                        Ok(trap.registry.add_manifest("trap/cycle", "1", &index))
                    },
                ),
                case("no platform of ours", Refused(FailedPrecondition, "linux/s390x"), |trap| {
                    let foreign = Image::from_scratch().platform("linux", "s390x", None).build()?;
                    let index = Index::new(Format::Oci, vec![foreign])?;
                    Ok(trap.registry.add_manifest("trap/foreign", "1", &index.manifest))
                }),
                case("another digest at the second look", Pulled, |trap| {
                    let later = Image::from_scratch().layer(Layer::new()).build()?;
                    let reference = trap.registry.add("trap/usual:1", &later)?;
                    let first = Act::Say(200, Vec::new(), trap.image.manifest.bytes.to_vec());
                    trap.registry.on_next(1, "/manifests/1", first);
                    Ok(reference)
                }),
            ],
        )
        .await
    });
}

/// A tar header that announces a file of this many bytes.
fn announcing(size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("bomb").expect("a path");
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// 10 GiB of zeros in 10 MiB, of gzip members.
fn gzip_bomb() -> Vec<u8> {
    let zeros = gzip(&vec![0; 64 << 20]);
    [gzip(&announcing(10 << 30)), zeros.repeat(160)].concat()
}

/// 4 GiB of zeros in a frame of some kilobytes.
fn zstd_bomb() -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).expect("an encoder");
    std::io::copy(&mut announcing(4 << 30).as_slice(), &mut encoder).expect("memory");
    let mut zeros = std::io::Read::take(std::io::repeat(0), 4 << 30);
    std::io::copy(&mut zeros, &mut encoder).expect("memory");
    encoder.finish().expect("memory")
}

/// A zstd frame that wants a window of 2 GiB: a descriptor without content size, 21 powers of two
/// above 1 KiB, and a raw block.
fn zstd_window() -> Vec<u8> {
    [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3][..], &[0x01, 0x10, 0x00], &[0; 512]].concat()
}

#[test]
fn layers_that_are_bombs_or_riddles() {
    place::native(async |place| {
        let corrupt = Refused(DataLoss, "unpack layer sha256:");
        let foreign = |name| Refused(FailedPrecondition, name);
        let layer = || Ok::<_, anyhow::Error>(usual()?.layers[0].bytes.to_vec());
        let own = |name, end, bytes: fn() -> Vec<u8>| image(name, end, move || with_layer(bytes()));
        let retyped = |name, end, media_type: &'static str| {
            image(name, end, move || {
                usual()?.changed(
                    |_| {},
                    |it| {
                        it["layers"][0]["mediaType"] = json!(media_type);
                        it["layers"][0]["urls"] =
                            json!(["http://127.0.0.1:1/layer", "file:///etc/shadow"]);
                    },
                )
            })
        };
        spring(
            &place,
            vec![
                own("a gzip bomb", Refused(ResourceExhausted, "uncompressed"), gzip_bomb),
                own("a zstd bomb", Refused(ResourceExhausted, "uncompressed"), zstd_bomb),
                own("a zstd window", corrupt, zstd_window),
                own("xz", foreign("xz"), || b"\xfd7zXZ\0\0\x04 and so on".to_vec()),
                own("bzip2", foreign("bzip2"), || b"BZh91AY&SY and so on".to_vec()),
                own("lz4", foreign("lz4"), || b"\x04\x22\x4d\x18 and so on".to_vec()),
                own("no archive", corrupt, || b"neither gzip nor tar".repeat(100)),
                own("gzip of nothing", Refused(DataLoss, "diff id"), || gzip(b"")),
                image("a gzip stream cut short", corrupt, move || {
                    with_layer(layer()?[..1000].to_vec())
                }),
                image("garbage behind gzip", corrupt, move || {
                    with_layer([layer()?, vec![7; 1000]].concat())
                }),
                image("an empty layer", Pulled, || {
                    Image::from_scratch().layer(Layer::new()).build()
                }),
                image("an empty layer, packed by none", Pulled, || {
                    Image::from_scratch().layer(Layer::new()).compression(Compression::None).build()
                }),
                image("no layer", Pulled, || Image::from_scratch().build()),
                image("one layer twelve times", Pulled, || {
                    let twelve = |list: &mut Value| *list = vec![list[0].clone(); 12].into();
                    usual()?.changed(
                        |it| twelve(&mut it["rootfs"]["diff_ids"]),
                        |it| twelve(&mut it["layers"]),
                    )
                }),
                retyped(
                    "URLs that nobody asked for",
                    Pulled,
                    "application/vnd.oci.image.layer.v1.tar+gzip",
                ),
                retyped(
                    "a foreign layer with URLs",
                    Pulled,
                    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                ),
                retyped("an unknown kind of layer", foreign("x-lha"), "application/x-lha"),
            ],
        )
        .await
    });
}
