//! The grammar as a table, and properties of everything that parses.

use std::sync::LazyLock;

use proptest::prelude::*;
use regex::Regex;

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

/// The grammar as the distribution project writes it down (`reference/regexp.go`), put together from
/// the same parts.
static GRAMMAR: LazyLock<Regex> = LazyLock::new(|| {
    let label = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
    let host = format!(r"(?:{label}(?:\.{label})*|\[(?:[a-fA-F0-9:]+)\])");
    let component = "[a-z0-9]+(?:(?:[.]|_|__|[-]+)[a-z0-9]+)*";
    let name = format!("((?:{host}(?::[0-9]+)?/)?{component}(?:/{component})*)");
    let tag = "([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})";
    // Of all algorithms that have the form of one, the two that the OCI specification registers.
    let digest = "(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})";
    Regex::new(&format!("^{name}(?::{tag})?(?:@{digest})?$")).unwrap()
});

/// What `ParseDockerRef` makes of a text: the steps of `reference/normalize.go`, by strings. What it
/// takes for a domain and then for a part of a path, as it does with underscores, is refused here:
/// nobody could be asked for it.
fn by_the_book(text: &str) -> Option<String> {
    let is_id = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_id {
        return None;
    }
    let (domain, rest) = match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.to_lowercase() != first =>
        {
            (if first == "index.docker.io" { "docker.io" } else { first }, rest.to_owned())
        }
        _ => ("docker.io", text.to_owned()),
    };
    let is_official = domain == "docker.io" && !rest.contains('/');
    let rest = if is_official { format!("library/{rest}") } else { rest };
    let remote = rest.split(':').next().unwrap_or_default();
    let full = format!("{domain}/{rest}");
    let found = GRAMMAR.captures(&full).filter(|_| remote.to_lowercase() == remote)?;
    if domain.contains('_') {
        return None;
    }
    let path = found[1].strip_prefix(domain)?.strip_prefix('/')?;
    if path.len() > 255 {
        return None;
    }
    let target = match (found.get(2), found.get(3)) {
        (_, Some(digest)) => format!("@{}", digest.as_str()),
        (Some(tag), None) => format!(":{}", tag.as_str()),
        (None, None) => ":latest".to_owned(),
    };
    Some(format!("{}{target}", &found[1]))
}

/// Texts that are nearly references.
fn nearly() -> impl Strategy<Value = String> {
    let digests = [format!("@sha256:{HEX}"), format!("@sha512:{HEX}{HEX}"), HEX.to_owned()];
    let words = [
        "localhost",
        "docker.io",
        "index.docker.io",
        "library",
        "a",
        "app",
        "A",
        "0",
        "127.0.0.1",
        "[::1]",
        "[fe80::1%0]",
        "[",
        "]",
        "::",
        ":",
        ":5000",
        ":v1.0-x_",
        "/",
        "//",
        ".",
        "..",
        "-",
        "--",
        "_",
        "__",
        "___",
        "@",
        "@sha256:",
        "@md5:00",
        "latest",
        "\u{e9}",
        " ",
        "\n",
        "%2f",
        "?",
    ];
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).chain(digests).collect();
    let long = prop_oneof![Just("t".repeat(127)), Just("t".repeat(129)), Just("a/".repeat(124))];
    let word = prop_oneof![24 => prop::sample::select(words), 1 => long];
    prop::collection::vec(word, 0..9).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn what_parses_and_to_what_is_as_the_book_says(text in nearly()) {
        let parsed = text.parse::<Reference>().ok().map(|reference| reference.to_string());
        prop_assert_eq!(parsed, by_the_book(&text), "{}", text);
    }
}
