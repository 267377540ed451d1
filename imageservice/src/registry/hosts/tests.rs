//! Directories of hosts, and what they turn into.

use super::*;

fn hosts(files: &[(&str, &str)], domain: &str) -> Result<Vec<Host>> {
    let directory = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    load(&[directory.path().join("missing"), directory.path().to_owned()], domain)
}

fn bases(files: &[(&str, &str)], domain: &str) -> Vec<String> {
    hosts(files, domain).unwrap().iter().map(|host| host.base.to_string()).collect()
}

#[test]
fn without_configuration_a_registry_serves_itself() {
    for (domain, base) in [
        ("docker.io", "https://registry-1.docker.io/v2/"),
        ("registry.test", "https://registry.test/v2/"),
        ("registry.test:5000", "https://registry.test:5000/v2/"),
        ("localhost:5000", "http://localhost:5000/v2/"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/v2/"),
        ("[::1]:5000", "http://[::1]:5000/v2/"),
        ("localhost:443", "https://localhost/v2/"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000/v2/"),
        ("localhost.evil.test", "https://localhost.evil.test/v2/"),
    ] {
        assert_eq!(bases(&[], domain), [base], "{domain}");
    }
}

#[test]
fn a_registry_that_is_named_twice_is_asked_once() {
    let mirror = "[host.\"https://r.test\"]\nca = \"ca.pem\"\n";
    for (server, expected) in [
        ("server = \"https://r.test\"\n", 1),
        // What is said of the server alone would be lost.
        ("server = \"https://r.test\"\nca = \"other.pem\"\n", 2),
        ("server = \"https://other.test\"\n", 2),
    ] {
        let file = format!("{server}{mirror}");
        let hosts = hosts(&[("r.test/hosts.toml", &file)], "r.test").unwrap();
        assert_eq!(hosts.len(), expected, "{file}");
        assert!(!hosts[0].tls.authorities.is_empty(), "{file}");
    }
}

#[test]
fn mirrors_come_in_the_order_of_the_file_and_the_server_last() {
    let file = r#"
        server = "https://registry-1.docker.io"
        [host."http://z.test:5000"]
        [host."https://a.test/hub"]
          capabilities = ["Pull"]
          dial_timeout = "1m1.5s"
          [host."https://a.test/hub".header]
            x-one = "1"
            x-many = ["2", "3"]
        [host."https://b.test/v2"]
        [host."https://c.test/api"]
          override_path = true
    "#;
    let hosts = hosts(&[("docker.io/hosts.toml", file)], "docker.io").unwrap();
    let bases: Vec<_> = hosts.iter().map(|host| host.base.as_str()).collect();
    assert_eq!(
        bases,
        [
            "http://z.test:5000/v2/",
            "https://a.test/hub/v2/",
            "https://b.test/v2/",
            "https://c.test/api/",
            "https://registry-1.docker.io/v2/",
        ]
    );
    assert!(hosts[0].can_resolve && hosts[0].can_pull);
    assert!(!hosts[1].can_resolve && hosts[1].can_pull);
    assert_eq!(hosts[1].dial_timeout, Some(Duration::from_millis(61_500)));
    assert_eq!(hosts[1].headers.get_all("x-many").iter().count(), 2);
}

#[test]
fn directories_are_found_by_host_and_port() {
    let file = |server: &str| format!("server = \"https://{server}\"");
    let (one, two, three) = (file("one.test"), file("two.test"), file("three.test"));
    let files = [
        ("r.test_5000_/hosts.toml", one.as_str()),
        ("r.test:6000/hosts.toml", two.as_str()),
        ("_default/hosts.toml", three.as_str()),
    ];
    assert_eq!(bases(&files, "r.test:5000"), ["https://one.test/v2/"]);
    assert_eq!(bases(&files, "r.test:6000"), ["https://two.test/v2/"]);
    assert_eq!(bases(&files, "other.test"), ["https://three.test/v2/"]);
    let default = [("_default/hosts.toml", "[host.\"http://m.test\"]")];
    assert_eq!(bases(&default, "other.test"), ["http://m.test/v2/", "https://other.test/v2/"]);
}

#[test]
fn certificates_are_found_in_both_layouts() {
    let files =
        [("r.test/b.crt", ""), ("r.test/a.crt", ""), ("r.test/c.cert", ""), ("r.test/c.key", "")];
    let docker = hosts(&files, "r.test").unwrap().remove(0).tls;
    assert_eq!(docker.authorities.len(), 2);
    assert!(docker.client.unwrap().1.unwrap().ends_with("r.test/c.key"));
    let file = "ca = \"ca.pem\"\nskip_verify = true\nclient = [[\"/c.pem\", \"k.pem\"]]";
    let own = hosts(&[("r.test/hosts.toml", file)], "r.test").unwrap().remove(0).tls;
    assert!(own.authorities[0].ends_with("r.test/ca.pem") && own.skip_verify);
    let (certificate, key) = own.client.unwrap();
    assert!(certificate == Path::new("/c.pem") && key.unwrap().ends_with("r.test/k.pem"));
    assert_eq!(
        bases(&[("localhost:5000/ca.crt", "")], "localhost:5000"),
        ["https://localhost:5000/v2/"]
    );
}

#[test]
fn mistakes_are_told_with_file_and_line() {
    for (file, reason) in [
        ("server = 1", "line 1"),
        ("\n[host.\"https://a.test\"\n", "line 2"),
        ("[host.\"https://a.test\"]\ncapabilities = [\"pul\"]", "unknown capability \"pul\""),
        ("[host.\"https://a.test\"]\ndial_timeout = \"soon\"", "dial_timeout \"soon\""),
        ("[host.\"ftp://a.test\"]", "http or https"),
        ("[host.\"https://user:secret@a.test\"]", "no user"),
        ("[host.\"https://a.test\"]\nheader = { \"a b\" = \"x\" }", "not a name"),
        ("client = [[\"a\", \"b\", \"c\"]]", "pairs"),
    ] {
        let error = hosts(&[("r.test/hosts.toml", file)], "r.test").unwrap_err().to_string();
        assert!(error.contains("r.test/hosts.toml") && error.contains(reason), "{file:?}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn any_reference_has_hosts_or_an_error(domain in "[a-z0-9.:-]{1,20}|\\[[0-9a-f:]{1,12}\\](:[0-9]{1,6})?") {
        if let Ok(reference) = format!("{domain}/app").parse::<crate::reference::Reference>() {
            let _ = load(&[], reference.domain());
        }
    }
}

#[test]
fn hosts_that_no_url_can_have_are_refused() {
    for domain in ["300.1.1.1", "r.test:99999", "[::::]:5000", "xn--\u{2d}.test"] {
        assert!(matches!(load(&[], domain), Err(Error::InvalidReference { .. })), "{domain}");
    }
}
