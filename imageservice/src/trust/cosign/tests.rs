//! Payloads and signatures, honest and not.

use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};

use super::*;

const NAME: &str = "registry.test/team/app:1";

fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

fn subject() -> Subject {
    Subject {
        name: Some(NAME.parse().unwrap()),
        digests: vec![digest("index"), digest("manifest")],
    }
}

fn payload(reference: &str, image: &Digest) -> Value {
    json!({
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": image},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
}

fn sign(key: &KeyPair, payload: &Value) -> Signed {
    let payload = payload.to_string();
    let signature = STANDARD.encode(key.sign(payload.as_bytes()).unwrap());
    Signed { payload: STANDARD.encode(payload), signature }
}

fn public(key: &KeyPair) -> Vec<PublicKey> {
    PublicKey::of_pem(key.public_key_pem().as_bytes()).unwrap()
}

#[test]
fn a_signature_is_for_one_image_and_one_name() {
    let key = KeyPair::generate().unwrap();
    let repository = "registry.test/team/app";
    let named = |name: &str| Identity::Named(name.to_owned());
    for (reference, image, identity, reason) in [
        (repository, "index", Identity::Repository, None),
        (repository, "manifest", Identity::Repository, None),
        (NAME, "index", Identity::Repository, None),
        (NAME, "index", Identity::Exact, None),
        ("build.test/app", "index", Identity::Any, None),
        ("", "index", Identity::Any, None),
        ("build.test/app:7", "index", named("build.test/app"), None),
        (repository, "other", Identity::Any, Some("another image")),
        ("registry.test/team/apple", "index", Identity::Repository, Some("another name")),
        ("registry.test/team/app:2", "index", Identity::Exact, Some("another name")),
        (repository, "index", Identity::Exact, Some("another name")),
        (repository, "index", named("build.test/app"), Some("another name")),
        ("", "index", Identity::Repository, Some("another name")),
    ] {
        let signed = sign(&key, &payload(reference, &digest(image)));
        let outcome = signed.check(&public(&key), &identity, &subject());
        match reason {
            None => assert_eq!(outcome, Ok(()), "{reference} {image} {identity:?}"),
            Some(reason) => assert!(outcome.unwrap_err().contains(reason), "{reference} {image}"),
        }
    }
}

#[test]
fn what_the_key_has_not_signed_is_not_read() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let good = payload("registry.test/team/app", &digest("index"));
    let signed = sign(&key, &good);
    let check = |signed: &Signed| signed.check(&public(&key), &Identity::Repository, &subject());
    assert_eq!(check(&signed), Ok(()));
    let both = [public(&other), public(&key)].concat();
    assert_eq!(signed.check(&both, &Identity::Repository, &subject()), Ok(()));
    let tampered = Signed { payload: STANDARD.encode(format!("{good} ")), ..signed.clone() };
    for (bad, reason) in [
        (sign(&other, &good), "by none of the keys"),
        (tampered, "by none of the keys"),
        (Signed { payload: "%".into(), ..signed.clone() }, "payload is no base64"),
        (Signed { signature: "%".into(), ..signed.clone() }, "value is no base64"),
        (Signed { signature: String::new(), ..signed }, "by none of the keys"),
        (sign(&key, &json!("a toast")), "of something else"),
        (sign(&key, &json!({"critical": {}})), "of something else"),
        (
            sign(&key, &{
                let mut other = good.clone();
                other["critical"]["type"] = json!("an attestation");
                other
            }),
            "of kind",
        ),
    ] {
        let error = check(&bad).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}
