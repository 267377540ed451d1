//! `berth` beside a daemon: what it tells of a node, to people and to programs, how it names
//! things, and how it says that something is wrong.

use anyhow::{Context as _, Result};
use berth_e2e::berth::{self, Berth};
use berth_e2e::client::{container, pod};
use berth_e2e::daemon::{Engine, Setup};
use berth_e2e::image::{Compression, Entry, Image, Layer, archive};
use berth_e2e::node::Node;
use berth_e2e::place;
use berth_e2e::registry::scripted::{Act, Scripted};
use berth_e2e::registry::{self, ALICE, MALLORY};
use serde_json::json;

#[test]
fn what_a_node_has_is_told_in_tables_and_in_json() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let (berth, audit) = (Berth::of(&node.daemon)?, node.audit()?);
        let web = node.client.run_pod(pod("web").label("app", "shop")).await?;
        let app = container("app").image(&node.image).cmd(["sleep", "inf"]);
        let app = web.run(app).await?;
        let done = web.run(container("done").image(&node.image).script("exit 3")).await?;
        done.wait_for_exit().await?;
        let (id, short) = (app.id.as_str(), &app.id[..13]);

        for (words, seen) in [
            (&["version"][..], vec!["client: berth ", "daemon: berth ", "CRI v1"]),
            (&["info"], vec!["berthd", "RuntimeReady", "NetworkReady"]),
            (&["pods"], vec!["POD ID", "e2e/web", &web.id[..13], "ready"]),
            (&["ps"], vec!["CONTAINER ID", short, "app", "running", "e2e/web"]),
            (&["ps", "-a"], vec!["done", "exited (3)"]),
            (&["images"], vec!["IMAGE ID", "/busybox", " 1 "]),
            (&["stats", "--no-stream"], vec!["CONTAINER ID", short, "MEMORY"]),
            (&["ops"], vec![]),
            (&["audit"], vec!["no strays"]),
            (&["completion", "bash"], vec!["berth"]),
        ] {
            let table = berth.ok(words).await?;
            for word in seen {
                assert!(table.contains(word), "no {word:?} in {words:?}:\n{table}");
            }
        }
        assert!(!berth.ok(&["ps"]).await?.contains("done"), "ended is not running");
        assert_eq!(berth.ok(&["ps", "-q"]).await?.trim_end(), id);

        let pods = berth.json(&["pods"]).await?;
        assert_eq!((&pods[0]["id"], &pods[0]["name"]), (&json!(web.id), &json!("web")));
        let containers = berth.json(&["ps", "-a"]).await?;
        assert_eq!(containers.as_array().map(Vec::len), Some(2));
        assert_eq!(berth.json(&["images"]).await?[0]["tags"], json!([node.image]));
        assert_eq!(berth.json(&["stats"]).await?[0]["id"], id);
        assert_eq!(berth.json(&["ops"]).await?, json!([]));
        assert_eq!(berth.json(&["audit"]).await?["strays"], json!([]));
        assert!(berth.json(&["info"]).await?["conditions"].is_array());
        assert!(berth.json(&["version"]).await?.is_object());
        for (name, kind, field, value) in [
            ("web", "pod", "state", json!("ready")),
            ("app", "container", "state", json!("running")),
            ("done", "container", "exitCode", json!(3)),
            (&node.image, "image", "tags", json!([node.image])),
        ] {
            let text = berth.ok(&["inspect", name]).await?;
            let object: serde_json::Value = serde_json::from_str(&text)?;
            assert_eq!((&object["kind"], &object[field]), (&json!(kind), &value), "{name}");
        }
        web.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn things_are_named_by_id_its_beginning_or_name_and_never_guessed() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let (berth, audit) = (Berth::of(&node.daemon)?, node.audit()?);
        let sleeper = || container("app").image(&node.image).cmd(["sleep", "inf"]);
        let (one, two) = (pod("one").host_network(), pod("two").host_network());
        let (one, two) = (node.client.run_pod(one).await?, node.client.run_pod(two).await?);
        let app = one.run(sleeper()).await?;
        two.run(sleeper()).await?;

        let names = [&app.id[..], &app.id[..12], "one/app", "e2e/one/app", "one", "e2e/one"];
        for name in names {
            berth.ok(&["exec", name, "touch", "/here"]).await?;
            berth.ok(&["exec", &app.id, "rm", "/here"]).await.with_context(|| name.to_owned())?;
        }
        for (words, said) in [
            (&["exec", "app", "true"][..], "\"app\" is ambiguous, it could be: "),
            (&["logs", "nothing"], "no container is called \"nothing\"; there are: "),
            (&["stop", "nothing"], "no pod or container is called \"nothing\""),
            (&["rm", "../../x"], "no pod or container is called \"../../x\""),
            (&["inspect", "nothing"], "no image is called \"nothing\", and no pod"),
            (&["rmi", "no/thing:1"], "no image \"no/thing:1\" is on this node"),
            (&["tag", "no/thing:1", "x:1"], "no image \"no/thing:1\" is on this node"),
            (&["history", "no/thing:1"], "no image \"no/thing:1\" is on this node"),
            (&["stats", "nothing"], "no container is called \"nothing\""),
            (&["ops", "nothing"], "no pod or container is called \"nothing\""),
        ] {
            let refused = berth.run(words).await?;
            assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{words:?}");
            assert!(refused.stderr.contains(said), "{words:?}: {}", refused.stderr);
            assert!(refused.stderr.starts_with("berth: "), "{}", refused.stderr);
        }
        let some = berth.run(&["rm", "-f", "one", "nothing", &two.id[..13]]).await?;
        assert_eq!((some.code, some.stdout), (1, format!("one\n{}\n", &two.id[..13])));
        assert!(node.client.pods().await?.is_empty(), "the others are gone");
        audit.assert_clean().await
    });
}

#[test]
fn images_are_pulled_with_progress_and_removed() {
    place::native(async |place| {
        let private = registry::Setup::default().login(ALICE).start(&place).await?;
        let image =
            Image::from_scratch().layer(Layer::new().with(Entry::file("f", "x"))).build()?;
        let secret = private.push("team/app:1", &image).await?;
        let pinned = "version = 1\n[image]\npinned = [\"*/team/app:1\"]\n";
        let setup = Setup::new(Engine::Berthd).host(private.host(), private.upstream());
        let setup = setup.config(pinned);
        let node = Node::start_with(&place, setup).await?;
        let (berth, audit) = (Berth::of(&node.daemon)?, node.audit()?);
        let by = async |user: registry::Login| {
            let mut command = berth.command(&["pull", &secret]);
            command.env("BERTH_CREDS", format!("{}:{}", user.user, user.password));
            berth::output(command).await
        };
        let wrong = by(MALLORY).await?;
        assert_eq!((wrong.code, wrong.stdout.as_str()), (1, ""));
        for said in [&secret, "refuses the credentials"] {
            assert!(wrong.stderr.contains(said), "{}", wrong.stderr);
        }
        assert!(!wrong.stderr.contains(MALLORY.password));
        let right = by(ALICE).await?;
        assert_eq!((right.code, right.stdout), (0, format!("{}\n", image.config.digest)));
        for said in ["pulling ", "1 layer, ", "is complete", "pulled "] {
            assert!(right.stderr.contains(said), "no {said:?} in {}", right.stderr);
        }
        let images = berth.json(&["images"]).await?;
        let pinned =
            |image: &serde_json::Value| (image["tags"][0].clone(), image["pinned"].clone());
        let images: Vec<_> = images.as_array().into_iter().flatten().map(pinned).collect();
        assert!(images.contains(&(json!(secret), json!(true))), "{images:?}");
        assert!(images.contains(&(json!(node.image), json!(false))), "{images:?}");
        let gone = berth.ok(&["rmi", &secret]).await?;
        for said in [format!("Untagged: {secret}\n"), format!("Deleted: {}\n", image.config.digest)]
        {
            assert!(gone.contains(&said), "{gone}");
        }

        let missing = node.registry.reference("none:1");
        for (words, said) in [
            (&["pull", &missing][..], format!("manifest {missing} not found")),
            (&["pull", "Not/A/Reference"], "invalid image reference".to_owned()),
        ] {
            let refused = berth.run(words).await?;
            assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{words:?}");
            assert!(refused.stderr.contains(&said), "{}", refused.stderr);
        }
        let quiet = berth.run(&["pull", "-q", &node.image]).await?;
        assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
        audit.assert_clean().await
    });
}

/// By `script`, whose command finds a terminal on all of its streams.
#[test]
fn on_a_terminal_a_pull_draws_a_bar() {
    place::native(async |place| {
        let registry = Scripted::start().await?;
        let bytes: Vec<u8> =
            (0..50_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        let image = Image::from_scratch().layer(Layer::new().with(Entry::file("f", bytes)));
        let image = image.compression(Compression::None).build()?;
        let reference = registry.add("app:1", &image)?;
        registry.on(&image.layers[0].digest, Act::Slow(400_000));
        let daemon = Setup::new(Engine::Berthd).start(&place).await?;
        let pull = Berth::of(&daemon)?.command(&["pull", &reference]);
        let line = format!("{} pull {reference}", pull.as_std().get_program().to_string_lossy());
        let mut terminal = tokio::process::Command::new(place::needs::program("script")?);
        let variables = pull.as_std().get_envs().filter_map(|(key, value)| Some((key, value?)));
        terminal.envs(variables).args(["-qec", &line, "/dev/null"]);
        let shown = berth::output(terminal).await?;
        assert_eq!(shown.code, 0, "{shown:?}");
        for part in ["0 of 1 layer, ", "[===", "\u{1b}[2A\r\u{1b}[J", &image.config.digest] {
            assert!(shown.stdout.contains(part), "no {part:?} in {:?}", shown.stdout);
        }
        Ok(())
    });
}

#[test]
fn images_are_imported_from_a_directory_a_file_or_a_pipe_and_run() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let (berth, audit) = (Berth::of(&node.daemon)?, node.audit()?);
        let files = place.dir("archives")?;
        for kind in ["oci", "docker", "layout", "pipe"] {
            let layer = Layer::new().with(Entry::file("kind", kind));
            let image = Image::busybox()?.layer(layer).compression(Compression::None).build()?;
            let name = format!("localhost/{kind}:1");
            let tar = match kind {
                "docker" => archive::docker(&name, &image)?,
                _ => archive::oci(&name, &image)?,
            };
            let path = files.join(kind);
            if kind == "layout" {
                tar::Archive::new(tar.as_slice()).unpack(&path)?;
            } else {
                std::fs::write(&path, tar)?;
            }
            let source = path.display().to_string();
            let mut command = berth.command(&["image", "import"]);
            match kind {
                "pipe" => command.arg("-").stdin(std::fs::File::open(&path)?),
                _ => command.arg(&source),
            };
            let imported = berth::output(command).await?;
            let expected = format!("{} {name}\n", image.config.digest);
            assert_eq!((imported.code, &imported.stdout), (0, &expected), "{imported:?}");
            assert_eq!(berth.ok(&["run", "--rm", &name, "cat", "/kind"]).await?, kind);
            berth.ok(&["rmi", &name]).await?;
        }
        let whole = std::fs::read(files.join("oci"))?;
        for (name, content) in [("cut", &whole[..whole.len() / 2]), ("empty", b""), ("text", b"x")]
        {
            std::fs::write(files.join(name), content)?;
            let path = files.join(name).display().to_string();
            let refused = berth.run(&["image", "import", &path]).await?;
            assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{name}");
            assert!(refused.stderr.contains("import"), "{name}: {}", refused.stderr);
        }
        let refused = berth.run(&["image", "import", "/no/such/file"]).await?;
        assert!(refused.stderr.contains("/no/such/file"), "{}", refused.stderr);
        audit.assert_clean().await
    });
}

/// Every command that needs a daemon, with arguments that make sense.
const COMMANDS: [&[&str]; 30] = [
    &["run", "busybox"],
    &["exec", "web", "true"],
    &["logs", "web"],
    &["ps"],
    &["pods", "-o", "json"],
    &["stats"],
    &["inspect", "web"],
    &["stop", "web"],
    &["rm", "web"],
    &["pull", "busybox"],
    &["images"],
    &["rmi", "busybox"],
    &["image", "import", "-"],
    &["image", "inspect", "busybox"],
    &["image", "ls"],
    &["image", "prune", "--force"],
    &["image", "scrub"],
    &["import", "-"],
    &["load"],
    &["save", "-o", "/no/such/dir/x", "busybox"],
    &["push", "busybox"],
    &["login", "-u", "me", "--password-stdin"],
    &["tag", "busybox", "x"],
    &["history", "busybox"],
    &["pulls"],
    &["pulls", "-o", "json"],
    &["info"],
    &["ops"],
    &["audit"],
    &["version"],
];

#[test]
fn without_a_daemon_it_says_how_to_start_one() {
    place::native(async |place| {
        let mut daemon = Setup::new(Engine::Berthd).prepare(&place)?;
        let berth = Berth::of(&daemon)?;
        says_that_nobody_is_there(&berth, "there is no socket").await?;
        daemon.start().await?;
        daemon.kill().await?;
        says_that_nobody_is_there(&berth, "nobody listens on the socket").await
    });
}

async fn says_that_nobody_is_there(berth: &Berth, why: &str) -> Result<()> {
    for words in COMMANDS {
        let failed = berth.run(words).await?;
        let code = if words[0] == "run" { 125 } else { 1 };
        assert_eq!(failed.code, code, "{words:?}: {failed:?}");
        for said in ["berth: berthd is not running: ", why, "systemctl start berth"] {
            assert!(failed.stderr.contains(said), "{words:?}: {}", failed.stderr);
        }
    }
    Ok(())
}

#[test]
fn wrong_usage_ends_with_2_and_a_reader_that_leaves_with_0() {
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let berth = Berth::of(&node.daemon)?;
        for words in [
            &[][..],
            &["typo"],
            &["pods", "--typo"],
            &["pods", "-o", "yaml"],
            &["run"],
            &["run", "--memory", "lots", "busybox"],
            &["run", "-p", "80:", "busybox"],
            &["run", "-v", "/x", "busybox"],
            &["run", "--name", "a/b", "busybox"],
            &["run", "-d", "--rm", "busybox"],
            &["exec", "web"],
            &["logs", "--since", "yesterday", "web"],
            &["stop", "-t", "-1", "web"],
            &["rm"],
            &["pull"],
            &["image"],
            &["image", "typo"],
            &["image", "inspect"],
            &["images", "--filter", "colour=red"],
            &["images", "-q", "-o", "json"],
            &["tag", "busybox"],
            &["history"],
            &["rmi"],
            &["pulls", "x"],
            &["--timeout", "soon", "info"],
            &["--address", "tcp://127.0.0.1:1", "info"],
        ] {
            let refused = berth.run(words).await?;
            assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{words:?}: {refused:?}");
            assert!(refused.stderr.contains("--help"), "{}", refused.stderr);
        }
        let tables = [&["pods"][..], &["ps"], &["images"], &["info"], &["version"], &["--help"]];
        for words in [&tables[..], &[&["inspect", &node.image], &["audit"]]].concat() {
            let (reader, writer) = std::io::pipe()?;
            drop(reader);
            let mut command = berth.command(words);
            let ended = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn()?;
            let ended = ended.wait_with_output().await?;
            let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert_eq!((ended.status.code(), stderr.as_str()), (Some(0), ""), "{words:?}");
        }
        Ok(())
    });
}
