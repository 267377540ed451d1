//! Files in, settings or findings out.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::error::Error;

/// A directory of configuration files.
struct Place(tempfile::TempDir);

impl Place {
    /// `config.toml` with this text.
    fn with(text: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.file(), text).unwrap();
        place
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("config.toml")
    }

    fn drop_in(self, name: &str, text: &str) -> Self {
        let directory = self.0.path().join("config.d");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(name), text).unwrap();
        self
    }

    fn load(&self) -> Result<Loaded, Error> {
        Sources { file: Some(self.file()), drop_ins: None }.load()
    }

    /// Findings without the directory.
    fn errors(&self) -> Vec<String> {
        match self.load() {
            Err(Error::InvalidConfig(findings)) => self.relative(&findings.0),
            other => panic!("expected findings: {other:?}"),
        }
    }

    fn warnings(&self) -> Vec<String> {
        self.relative(&self.load().unwrap().warnings)
    }

    fn relative(&self, findings: &[Finding]) -> Vec<String> {
        let directory = format!("{}/", self.0.path().display());
        findings.iter().map(|finding| finding.to_string().replace(&directory, "")).collect()
    }
}

#[test]
fn nothing_configured_is_the_default() {
    let place = Place::with("");
    assert_eq!(place.load().unwrap().config, Config::default());
}

#[test]
fn the_default_file_means_exactly_the_defaults_and_explains_every_key() {
    let text = default_file();

    let loaded = Place::with(&text).load().unwrap();

    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.warnings, []);
    let settings: usize = loaded.config.sections().iter().map(|s| s.keys().len()).sum();
    assert_eq!(loaded.origins.len(), settings - DERIVED.len());
    for section in loaded.config.sections() {
        for key in section.keys() {
            assert!(!key.doc.is_empty(), "{} has no text", key.name);
        }
    }
}

#[test]
fn what_is_shown_means_the_same() {
    let place = Place::with("state = \"/run/other\"\n[timeouts]\npull = \"90m\"\n");
    let loaded = place.load().unwrap();

    let shown = Place::with(&show(&loaded, true)).load().unwrap();

    assert_eq!(shown.config, loaded.config);
}

#[test]
fn a_later_file_wins_key_by_key() {
    let place = Place::with("[grpc]\nsocket_gid = 1\nsocket_mode = \"0600\"\n")
        .drop_in("20-b.toml", "[grpc]\nsocket_gid = 3\n")
        .drop_in("10-a.toml", "[grpc]\nsocket_gid = 2\n[cni]\nbin_dirs = [\"/a\"]\n")
        .drop_in(".hidden.toml", "broken")
        .drop_in("30-c.toml.dpkg-old", "broken");

    let loaded = place.load().unwrap();

    let Config { grpc, cni, .. } = &loaded.config;
    assert_eq!((grpc.socket_gid, grpc.socket_mode.bits()), (3, 0o600));
    assert_eq!(cni.bin_dirs, [Path::new("/a")], "a list is replaced, not extended");
    let origin = |key: &str| loaded.origins[key].to_string();
    assert!(origin("grpc.socket_gid").ends_with("config.d/20-b.toml:2"));
    assert!(origin("grpc.socket_mode").ends_with("config.toml:3"));
    assert!(!loaded.origins.contains_key("grpc.socket"));
}

#[test]
fn a_wrong_value_is_placed_and_explained_and_all_are_reported() {
    let place = Place::with(
        "version = 1\n\
         root = \"var/lib\"\n\
         grpc.socket_gid = \"root\"\n\
         [log]\n\
         \x20 level = \"loud\"\n\
         [cni]\n\
         plugin_timeout = 60\n\
         bin_dirs = [\"/a\", 5]\n\
         max_concurrent = 0\n",
    );

    assert_eq!(
        place.errors(),
        [
            "config.toml:2:8: root: expected an absolute path, found \"var/lib\"",
            "config.toml:3:19: grpc.socket_gid: expected a whole number from 0 to 4294967295, \
             found \"root\"",
            "config.toml:5:11: log.level: expected one of \"error\", \"warn\", \"info\", \
             \"debug\", \"trace\", found \"loud\"",
            "config.toml:7:18: cni.plugin_timeout: expected a length of time like \"10s\" or \
             \"1m30s\", above zero, found 60",
            "config.toml:8:12: cni.bin_dirs: expected a list, each item an absolute path, \
             found [\"/a\", 5]",
            "config.toml:9:18: cni.max_concurrent: expected a whole number above 0, found 0",
        ]
    );
}

#[test]
fn every_kind_of_value_is_refused_in_its_own_words() {
    for (text, expected) in [
        ("[grpc]\nsocket_mode = \"rw\"", "permissions in octal like \"0660\", found \"rw\""),
        ("[grpc]\nmax_message_size = \"16M\"", "a size like \"16MiB\", above zero, found \"16M\""),
        ("[metrics]\nlisten = \":9\"", "address like \"127.0.0.1:9810\" or an empty string"),
        ("[runtime]\nshim = \"berth-shim\"", "an absolute path or an empty string"),
        ("[runtime]\nrestrict_oom_score_adj = \"no\"", "expected true or false, found \"no\""),
        ("[runtime]\ndefault_capabilities = [\"chown\"]", "a capability like \"CAP_CHOWN\""),
        ("[runtime]\nmissing_controllers = 1.5", "one of \"refuse\", \"tolerate\", found 1.5"),
        ("[runtime]\ndefault_handler = 2026-11-21", "expected a string, found 2026-11-21"),
        ("grpc = 5", "grpc: expected a table [grpc], found 5"),
        ("[[grpc]]", "grpc: expected a table [grpc], found [a table]"),
    ] {
        let errors = Place::with(text).errors();
        assert!(errors.len() == 1 && errors[0].contains(expected), "{text}: {errors:?}");
    }
}

#[test]
fn an_unknown_key_is_one_warning_with_a_suggestion() {
    let place = Place::with(
        "rooot = \"/x\"\n\
         [grpc]\n\
         sokcet = \"/x\"\n\
         plugin_timeout = \"1s\"\n\
         telepathy = true\n\
         [grcp]\n\
         socket = \"/x\"\n\
         socket_gid = 5\n",
    );

    assert_eq!(
        place.warnings(),
        [
            "config.toml:1:1: rooot: unknown key, ignoring it; did you mean root?",
            "config.toml:3:1: grpc.sokcet: unknown key, ignoring it; did you mean grpc.socket?",
            "config.toml:4:1: grpc.plugin_timeout: unknown key, ignoring it; \
             did you mean cni.plugin_timeout?",
            "config.toml:5:1: grpc.telepathy: unknown key, ignoring it",
            "config.toml:6:2: grcp: unknown table, ignoring it; did you mean [grpc]?",
        ]
    );
    assert_eq!(place.load().unwrap().config, Config::default());
}

#[test]
fn another_version_is_refused_before_its_keys_are_judged() {
    let place = Place::with("")
        .drop_in("new.toml", "[grpc]\nsocket = 5\n")
        .drop_in("newer.toml", "version = 2\ngrpc = \"reborn\"\n");

    assert_eq!(
        place.errors(),
        [
            "config.d/new.toml:2:10: grpc.socket: expected an absolute path, found 5",
            "config.d/newer.toml:1:11: version: unsupported version 2; this berthd reads 1",
        ]
    );
    assert_eq!(
        Place::with("version = \"1\"").errors(),
        ["config.toml:1:11: version: unsupported version \"1\"; this berthd reads 1"]
    );
}

#[test]
fn what_is_no_toml_is_placed() {
    let errors = Place::with("[grpc]\nsocket_gid = = 5\n").errors();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("config.toml:2:14: this is no TOML: "), "{errors:?}");
}

#[test]
fn sockets_lie_below_a_state_directory_that_was_moved() {
    let place = Place::with("state = \"/run/other\"\n[admin]\nsocket = \"/tmp/a.sock\"\n");

    let config = place.load().unwrap().config;

    assert_eq!(config.grpc.socket, Path::new("/run/other/berth.sock"));
    assert_eq!(config.admin.socket, Path::new("/tmp/a.sock"));
}

#[test]
fn files_that_are_named_must_exist_and_others_need_not() {
    let place = tempfile::tempdir().unwrap();
    let missing = place.path().join("missing");
    let present = place.path().join("config.toml");
    fs::write(&present, "").unwrap();

    Sources { file: Some(present.clone()), drop_ins: None }.load().unwrap();
    for sources in [
        Sources { file: Some(missing.clone()), drop_ins: None },
        Sources { file: Some(present), drop_ins: Some(missing.clone()) },
    ] {
        let error = sources.load().unwrap_err();
        assert_eq!(error.to_string(), format!("read configuration {}", missing.display()));
        assert_eq!(error.exit_code(), 78);
    }
}

#[test]
fn values_have_the_types_that_the_daemon_works_with() {
    let place = Place::with(
        "[cni]\nnetwork_wait = \"1m30s\"\n\
         [metrics]\nlisten = \"[::1]:9810\"\n\
         [runtime]\nshim = \"/opt/berth-shim\"\nlog_line_max = \"0x10KiB\"\n",
    );
    assert!(place.errors()[0].contains("runtime.log_line_max"));

    let place = Place::with(
        "[cni]\nnetwork_wait = \"1m30s\"\nmax_concurrent = 0x10\n\
         [metrics]\nlisten = \"[::1]:9810\"\n\
         [runtime]\nshim = \"/opt/berth-shim\"\n",
    );
    let config = place.load().unwrap().config;
    assert_eq!(config.cni.network_wait, Duration::from_secs(90));
    assert_eq!(config.cni.max_concurrent.get(), 16);
    assert_eq!(config.metrics.listen.unwrap().port(), 9810);
    assert_eq!(config.runtime.shim.as_deref(), Some(Path::new("/opt/berth-shim")));
}

#[test]
fn runtimes_are_tables_of_the_operators_own_names() {
    let place = Place::with(
        "[runtimes.crun]\nargs = [\"--debug\"]\n\
         [runtimes.kata-1]\npath = \"/opt/kata\"\nroot = \"/run/kata\"\n\
         [runtime]\ndefault_handler = \"crun\"\n",
    )
    .drop_in("crun.toml", "[runtimes.crun]\npath = \"/no/such/crun\"\ntelepathy = 1\n");

    let loaded = place.load().unwrap();

    let crun = &loaded.config.runtimes["crun"];
    assert_eq!(crun.path.as_deref(), Some(Path::new("/no/such/crun")));
    assert_eq!((crun.args.as_slice(), &crun.root), (&["--debug".to_owned()][..], &None));
    let kata = &loaded.config.runtimes["kata-1"];
    assert_eq!(kata.root.as_deref(), Some(Path::new("/run/kata")));
    assert_eq!(
        place.warnings(),
        ["config.d/crun.toml:3:1: runtimes.crun.telepathy: unknown key, ignoring it"]
    );
    assert!(loaded.origins["runtimes.crun.args"].to_string().ends_with("config.toml:2"));
    let unusable = place.relative(&loaded.unusable());
    assert!(unusable[0].starts_with("config.d/crun.toml:2:1: runtimes.crun.path: /no/such/crun"));
    let shown = Place::with(&show(&loaded, true)).load().unwrap();
    assert_eq!(shown.config, loaded.config);
}

#[test]
fn a_runtime_has_a_name_and_a_program_and_the_default_one_is_there() {
    for (text, expected) in [
        ("[runtimes.crun]\nargs = []", "1:1: runtimes.crun.path: the path of its program is"),
        ("[runtimes.berth]\npath = \"/x\"", "\"berth\" is berthd's own runtime"),
        ("[runtimes.\"../x\"]\npath = \"/x\"", "a handler is called by lower case letters"),
        ("[runtimes.Kata]\npath = \"/x\"", "a handler is called by lower case letters"),
        ("[runtimes]\ncrun = \"/x\"", "expected a table [runtimes.crun], found \"/x\""),
        ("[runtimes.crun]\npath = \"crun\"", "runtimes.crun.path: expected an absolute path"),
        ("[runtime]\ndefault_handler = \"x\"", "default_handler: \"x\" is no runtime, only berth"),
    ] {
        let errors = Place::with(text).errors();
        assert!(errors.iter().any(|error| error.contains(expected)), "{text}: {errors:?}");
    }
}

#[test]
fn the_default_file_has_a_sample_of_a_runtime() {
    let text = default_file();
    let sample = text.split("# [runtimes.crun]").nth(1).unwrap();
    let sample: String =
        sample.lines().map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
    let set = sample.lines().filter(|line| line.contains(" = "));
    let set: String = set.map(|line| format!("{line}\n")).collect();
    let config = Place::with(&format!("[runtimes.crun]\n{set}")).load().unwrap().config;
    assert_eq!(config.runtimes["crun"].path.as_deref(), Some(Path::new("/usr/bin/crun")));
}
