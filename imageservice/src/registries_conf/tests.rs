//! Files, and what becomes of names.

use super::*;

/// Reads files; the first is `registries.conf`, the others are drop-ins by name.
fn conf(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registries.conf");
    std::fs::create_dir(directory.path().join("registries.conf.d")).unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    (directory, path)
}

/// Where a name is fetched; those that need no TLS are marked.
fn sources(text: &str, name: &str) -> Result<Option<Vec<String>>> {
    let (_directory, path) = conf(&[("registries.conf", text)]);
    let sources = RegistriesConf::load(&path)?.sources(&name.parse()?)?;
    let shown = |source: PullSource| {
        format!("{}{}", source.reference, if source.insecure { " insecure" } else { "" })
    };
    Ok(sources.map(|sources| sources.into_iter().map(shown).collect()))
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn a_name_goes_where_the_longest_prefix_says() {
    let text = r#"
        [[registry]]
        location = "a.test"
        [[registry]]
        prefix = "a.test/team"
        location = "b.test:5000/theirs/"
        [[registry]]
        prefix = "a.test/team/app:1"
        location = "c.test/one:1"
        [[registry]]
        prefix = "*.wild.test"
        insecure = true
        [[registry]]
        prefix = "*.east.wild.test"
        location = "east.test"
    "#;
    for (name, expected) in [
        ("a.test/x:2", Some("a.test/x:2")),
        ("a.test:5000/x:2", Some("a.test:5000/x:2")),
        ("a.testing/x:2", None),
        ("a.test/team/app:2", Some("b.test:5000/theirs/app:2")),
        ("a.test/teams/app:2", Some("a.test/teams/app:2")),
        ("a.test/team/app:1", Some("c.test/one:1")),
        ("a.test/team/app:11", Some("b.test:5000/theirs/app:11")),
        ("x.wild.test/app:1", Some("x.wild.test/app:1 insecure")),
        ("x.y.wild.test/app:1", Some("x.y.wild.test/app:1 insecure")),
        ("x.east.wild.test/app:1", Some("east.test/app:1")),
        ("wild.test/app:1", None),
        ("b.test/x.wild.test:1", None),
        ("nginx", None),
    ] {
        let expected = expected.map(|name| vec![name.to_owned()]);
        assert_eq!(sources(text, name).unwrap(), expected, "{name}");
    }
}

#[test]
fn mirrors_are_asked_for_what_they_serve_and_the_location_last() {
    let text = r#"
        [[registry]]
        prefix = "docker.io"
        location = "hub.test"
        insecure = true
        [[registry.mirror]]
        location = "any.test/hub"
        [[registry.mirror]]
        location = "digests.test"
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "tags.test"
        insecure = true
        pull-from-mirror = "tag-only"
        [[registry]]
        location = "d.test"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "all.test"
    "#;
    let by_tag = sources(text, "nginx:1").unwrap().unwrap();
    assert_eq!(
        by_tag,
        [
            "any.test/hub/library/nginx:1",
            "tags.test/library/nginx:1 insecure",
            "hub.test/library/nginx:1 insecure",
        ]
    );
    let by_digest = sources(text, &format!("nginx@{DIGEST}")).unwrap().unwrap();
    let expected = ["any.test/hub", "digests.test", "hub.test"];
    assert_eq!(by_digest.len(), 3);
    for (source, host) in by_digest.iter().zip(expected) {
        assert!(source.starts_with(&format!("{host}/library/nginx@{DIGEST}")), "{source}");
    }
    assert_eq!(sources(text, "d.test/a:1").unwrap().unwrap(), ["d.test/a:1"]);
    assert_eq!(sources(text, &format!("d.test/a@{DIGEST}")).unwrap().unwrap().len(), 2);
}

#[test]
fn blocked_names_are_refused_with_the_place_that_blocks_them() {
    let text = "\n[[registry]]\nprefix = \"a.test/bad\"\nblocked = true\n";
    let error = sources(text, "a.test/bad/app:1").unwrap_err();
    assert!(matches!(error, Error::Blocked { .. }), "{error}");
    assert!(error.to_string().contains("registries.conf:2"), "{error}");
    assert_eq!(sources(text, "a.test/good/app:1").unwrap(), None);
}

#[test]
fn a_later_file_takes_the_place_of_an_earlier_one_table_by_table() {
    let (_directory, path) = conf(&[
        ("registries.conf", "[[registry]]\nlocation = \"a.test\"\nblocked = true\n"),
        ("registries.conf.d/20.conf", "[[registry]]\nprefix = \"a.test\"\nlocation = \"c.test\"\n"),
        ("registries.conf.d/10.conf", "[[registry]]\nprefix = \"a.test\"\nlocation = \"b.test\"\n"),
        ("registries.conf.d/30.conf.bak", "broken a.test"),
    ]);
    let conf = RegistriesConf::load(&path).unwrap();
    let sources = conf.sources(&"a.test/x:1".parse().unwrap()).unwrap().unwrap();
    assert_eq!(sources[0].reference.to_string(), "c.test/x:1");
}

#[test]
fn mistakes_are_told_with_their_line_and_only_to_those_whom_they_concern() {
    for (text, reason) in [
        ("[[registry]]\nlocation = \"a.test\"\nblocked = 1\n", "line 3: expected true or false"),
        ("[[registry]]\nlocation = \"a.test\"\n[[registry.mirror]]\n", "line 3: a mirror has"),
        ("[[registry]]\nprefix = \"a.test\"\nlocation = \"https://b\"\n", "line 3: location is a"),
        ("[[registry]]\nlocation = \"http://a.test\"\n", ""),
        (
            "[[registry]]\nlocation = \"a.test\"\n[[registry.mirror]]\nlocation = \"b\"\n\
             pull-from-mirror = \"some\"",
            "line 5: pull-from-mirror is",
        ),
        (
            "[[registry]]\nlocation = \"a.test\"\nmirror-by-digest-only = true\n\
             [[registry.mirror]]\nlocation = \"b\"\npull-from-mirror = \"all\"",
            "line 6: pull-from-mirror and",
        ),
        ("[[registry]\nlocation = \"a.test\"\n", "line 1: "),
        ("[[registry]]\nlocation = 7 # a.test\n", "line 2: expected a string"),
        ("[[registry]]\ninsecure = true # a.test\n", "line 1: a registry has a prefix"),
        ("# a.test\n[registries.block]\nregistries = []\n", "line 2: this is the format of"),
        ("# *.test\nshort-name-mode = \"x\"", "line 2: short-name-mode is"),
    ] {
        assert_eq!(sources(text, "other.example/x:1").unwrap(), None, "{text}");
        let outcome = sources(text, "a.test/x:1");
        if reason.is_empty() {
            // Of a name that nothing can have, nothing is said.
            assert_eq!(outcome.unwrap(), None, "{text}");
            continue;
        }
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("registries.conf: ") && error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn short_names_mean_what_the_files_say() {
    let several = "unqualified-search-registries = [\"a.test\", \"docker.io\"]\n";
    let aliases = "[aliases]\n\"app\" = \"b.test/team/app\"\n\"team/x\" = \"c.test/x\"\n\
                   \"bad\" = \"nowhere\"\n\"gone\" = \"\"\n";
    let enforcing = format!("short-name-mode = \"enforcing\"\n{several}{aliases}");
    let permissive = format!("short-name-mode = \"permissive\"\n{several}{aliases}");
    let one = "unqualified-search-registries = [\"a.test:5000\"]\n".to_owned();
    for (text, name, expected) in [
        ("", "app:1", Ok("docker.io/library/app:1")),
        (one.as_str(), "app:1", Ok("a.test:5000/app:1")),
        (one.as_str(), "x.test/app:1", Ok("x.test/app:1")),
        (one.as_str(), "localhost/app:1", Ok("localhost/app:1")),
        (&enforcing, "app", Ok("b.test/team/app:latest")),
        (&enforcing, "app:1", Ok("b.test/team/app:1")),
        (&enforcing, "team/x:1", Ok("c.test/x:1")),
        (&enforcing, "team/app:1", Err("line 2: \"team/app\" may be of a.test, docker.io")),
        (&enforcing, "bad:1", Err("line 6: alias \"bad\"")),
        (&permissive, "gone:1", Ok("a.test/gone:1 docker.io/library/gone:1")),
        ("unqualified-search-registries = 1", "app", Err("line 1: expected a list")),
        ("[[registry]", "app", Ok("docker.io/library/app:latest")),
        ("unqualified-search-registries = [\"A b\"]", "app", Err("line 1: ")),
    ] {
        let (_directory, path) = conf(&[("registries.conf", text)]);
        match (expand(Some(&path), name), expected) {
            (Ok(found), Ok(expected)) => {
                let found: Vec<_> = found.iter().map(Reference::to_string).collect();
                assert_eq!(found.join(" "), expected, "{name} in {text}");
            }
            (Err(error), Err(reason)) => assert!(error.to_string().contains(reason), "{error}"),
            (found, _) => panic!("{name} in {text}: {found:?}"),
        }
    }
    let digested = format!("app@{DIGEST}");
    let (_directory, path) = conf(&[("registries.conf", &enforcing)]);
    let found = expand(Some(&path), &digested).unwrap();
    assert_eq!(found[0].to_string(), format!("b.test/team/app@{DIGEST}"));
}
