//! The grammar as a table, and properties of everything that parses.

use proptest::prelude::*;

use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn references_have_one_normal_form() {
    let digest = format!("sha256:{HEX}");
    for (input, normal) in [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("user/app", "docker.io/user/app:latest"),
        ("localhost", "docker.io/library/localhost:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest"),
        ("[::1]:5000/app:x", "[::1]:5000/app:x"),
        ("[fe80::1]/app", "[fe80::1]/app:latest"),
        ("A/b", "A/b:latest"),
        ("EXAMPLE.com/b", "EXAMPLE.com/b:latest"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ("quay.io/a__b/c-d.e_f--g", "quay.io/a__b/c-d.e_f--g:latest"),
        ("host:80", "docker.io/library/host:80"),
        ("xn--n3h.com/app", "xn--n3h.com/app:latest"),
        (&format!("busybox@{digest}"), &format!("docker.io/library/busybox@{digest}")),
        (&format!("busybox:1@{digest}"), &format!("docker.io/library/busybox@{digest}")),
        (&format!("a.b/c@sha512:{HEX}{HEX}"), &format!("a.b/c@sha512:{HEX}{HEX}")),
        (&HEX[1..], &format!("docker.io/library/{}:latest", &HEX[1..])),
        (&format!("a/{HEX}"), &format!("docker.io/a/{HEX}:latest")),
        (
            &format!("busybox:{}", "t".repeat(128)),
            &format!("docker.io/library/busybox:{}", "t".repeat(128)),
        ),
    ] {
        let parsed: Reference = input.parse().unwrap_or_else(|e| panic!("{input}: {e}"));
        assert_eq!(parsed.to_string(), normal, "{input}");
        assert_eq!(normal.parse::<Reference>().unwrap(), parsed, "{normal} is a fixed point");
    }
}

#[test]
fn what_the_grammar_refuses_is_refused() {
    let long_tag = format!("a:{}", "t".repeat(129));
    let long_path = "a/".repeat(128) + "a";
    let upper_digest = format!("a@sha256:{}", HEX.to_uppercase());
    for input in [
        "",
        " ",
        "Busybox",
        "busybox:",
        "busybox@",
        ":tag",
        "@sha256:00",
        "a/",
        "/a",
        "a//b",
        "a b",
        "a:b:c",
        "a\nb",
        "a\0b",
        "https://host/a",
        "a..b",
        "a___b",
        "a._b",
        "-a",
        "a-",
        "_a",
        "a_",
        "a/-b",
        "host:port/a",
        "host:/a",
        "-host.com/a",
        "host-.com/a",
        "ho_st.com/a",
        "host..com/a",
        ".com/a",
        "[::1/a",
        "[]/a",
        "[::1]x/a",
        "[::g]/a",
        "[::1]:/a",
        "a:-t",
        "a:.t",
        "a:t/b:c",
        "host.com/",
        "host.com/A",
        "a@sha256:abc",
        "a@md5:d41d8cd98f00b204e9800998ecf8427e",
        "ünï/code",
        "a:ü",
        HEX,
        &long_tag,
        &long_path,
        &upper_digest,
    ] {
        let error = input.parse::<Reference>().expect_err(input);
        assert!(matches!(error, Error::InvalidReference { .. }), "{input:?}: {error}");
    }
}

#[test]
fn messages_stay_short() {
    let error = "A".repeat(1 << 20).parse::<Reference>().unwrap_err();
    assert!(error.to_string().len() < 1000);
}

proptest! {
    #[test]
    fn parsing_never_panics_and_normalising_is_idempotent(input in "\\PC{0,80}") {
        if let Ok(reference) = input.parse::<Reference>() {
            prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn everything_built_by_the_grammar_parses(
        domain in "(localhost|[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?\\.[a-zA-Z]{2,3}|\\[[0-9a-f:]{2,8}\\]:[0-9]{1,5})",
        path in "[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,5}){0,2}",
        tag in "[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,20}",
    ) {
        let reference: Reference = format!("{domain}/{path}:{tag}").parse().unwrap();
        prop_assert_eq!(reference.domain(), domain);
        prop_assert_eq!(reference.target(), &Target::Tag(tag));
    }

    #[test]
    fn a_reference_never_climbs_out_of_a_url_path(input in "[a-z./:@%?#\\\\-]{1,40}") {
        if let Ok(reference) = input.parse::<Reference>() {
            prop_assert!(!reference.path().split('/').any(|part| part.is_empty() || part.starts_with('.')));
        }
    }
}
