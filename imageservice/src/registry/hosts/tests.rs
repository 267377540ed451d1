//! Directories of hosts, and what they turn into.

use super::*;

fn hosts(files: &[(&str, &str)], domain: &str) -> Result<Vec<Host>> {
    let directory = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let certs_dirs = [directory.path().join("missing"), directory.path().to_owned()];
    let registries_conf = directory.path().join("registries.conf");
    let files = Files { certs_dirs: &certs_dirs, registries_conf: Some(&registries_conf) };
    load(files, &image_of(domain)?)
}

fn image_of(domain: &str) -> Result<Reference> {
    format!("{domain}/app:1").parse()
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
        ("\nca = 7", "line 2: ca is a file or a list of files"),
        ("client = [7]", "line 1: client is a file, or a list"),
        ("[host.\"https://a.test\"]\nskip_verify = \"yes\"", "line 2: skip_verify is true or"),
        ("[host.\"https://a.test\"]\ncapabilities = \"pull\"", "line 2: capabilities is a list"),
        ("[host.\"https://a.test\".header]\nx = 1", "header is a table of strings"),
        ("[host]\n\"https://a.test\" = 1", "host is a table of tables"),
        ("dial_timeout = 5", "line 1: dial_timeout is a string like \"5s\""),
    ] {
        let error = hosts(&[("r.test/hosts.toml", file)], "r.test").unwrap_err().to_string();
        assert!(error.contains("r.test/hosts.toml") && error.contains(reason), "{file:?}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn what_nobody_knows_is_named_with_its_line() {
    let text = "server = \"https://a.test\"\nrewrite = {}\n[host.\"https://u:p@b.test\"]\n\
                skip_verify = true\nskip_verfy = true\n[host.\"https://b.test\".header]\nx = \"1\"\n\
                [hosts]\n";
    let unknown = hosts_file::unknown_keys(text);
    assert_eq!(unknown, ["line 2: rewrite", "line 5: skip_verfy", "line 8: hosts"]);
}

#[test]
fn client_certificates_are_written_in_every_way_that_containerd_reads() {
    for (client, certificate, key) in [
        ("\"c.pem\"", "c.pem", None),
        ("[\"c.pem\", \"d.pem\"]", "c.pem", None),
        ("[[\"c.pem\"]]", "c.pem", None),
        ("[[\"c.pem\", \"\"]]", "c.pem", None),
        ("[[\"c.pem\", \"k.pem\"], [\"d.pem\", \"e.pem\"]]", "c.pem", Some("k.pem")),
    ] {
        let file = format!("[host.\"https://m.test\"]\nclient = {client}\n");
        let host = hosts(&[("r.test/hosts.toml", &file)], "r.test").unwrap().remove(0);
        let (found, its_key) = host.tls.client.unwrap();
        assert!(found.ends_with(certificate), "{client}: {}", found.display());
        assert_eq!(its_key.is_some(), key.is_some(), "{client}");
        assert!(its_key.iter().all(|path| path.ends_with(key.unwrap())), "{client}");
    }
    for client in ["[]", "[[]]"] {
        let file = format!("client = {client}\n");
        let host = hosts(&[("r.test/hosts.toml", &file)], "r.test");
        assert!(host.is_err() || host.unwrap()[0].tls.client.is_none(), "{client}");
    }
}

#[test]
fn registries_conf_counts_where_no_hosts_toml_has_the_name() {
    let conf = "[[registry]]\nlocation = \"r.test\"\n[[registry.mirror]]\nlocation = \"m.test/x\"\n\
                [[registry]]\nlocation = \"bad.test\"\nblocked = true\n\
                [[registry]]\nlocation = \"broken.test\"\nblocked = 1\n";
    let to = |server: &str| format!("server = \"https://{server}\"");
    let (one, two) = (to("one.test"), to("two.test"));
    let conf = ("registries.conf", conf);
    let default = ("_default/hosts.toml", two.as_str());
    let own = ("r.test/hosts.toml", one.as_str());
    assert_eq!(bases(&[conf, default], "r.test"), ["https://m.test/v2/", "https://r.test/v2/"]);
    assert_eq!(bases(&[conf, default, own], "r.test"), ["https://one.test/v2/"]);
    assert_eq!(bases(&[conf, default], "other.test"), ["https://two.test/v2/"]);
    assert_eq!(bases(&[conf, ("broken.test/hosts.toml", &one)], "broken.test").len(), 1);
    assert!(matches!(hosts(&[conf], "broken.test"), Err(Error::InvalidHosts { .. })));
    let blocked = hosts(&[conf, ("bad.test/hosts.toml", &one)], "bad.test");
    assert!(matches!(blocked, Err(Error::Blocked { .. })));
    let found = hosts(&[conf, ("m.test/ca.crt", "")], "r.test").unwrap();
    assert_eq!(found[0].repository.as_deref(), Some("x/app"));
    assert!(found[0].tls.authorities[0].ends_with("m.test/ca.crt"));
    assert_eq!(found[1].repository, None);
}

proptest::proptest! {
    #[test]
    fn any_reference_has_hosts_or_an_error(domain in "[a-z0-9.:-]{1,20}|\\[[0-9a-f:]{1,12}\\](:[0-9]{1,6})?") {
        if let Ok(reference) = image_of(&domain) {
            let _ = load(Files { certs_dirs: &[], registries_conf: None }, &reference);
        }
    }
}

#[test]
fn hosts_that_no_url_can_have_are_refused() {
    for domain in ["300.1.1.1", "r.test:99999", "[::::]:5000", "xn--\u{2d}.test"] {
        assert!(matches!(hosts(&[], domain), Err(Error::InvalidReference { .. })), "{domain}");
    }
}
