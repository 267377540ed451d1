//! What a container's process is: its command, environment, user, directory, terminal. The image
//! has a say and the client the last word. Commands that are added later are the same in all of it.

use std::collections::HashMap;

use anyhow::Result;
use berth_e2e::client::cri::{Int64Value, LinuxContainerSecurityContext as Security};
use berth_e2e::client::{Container, ContainerSpec, container, pod};
use berth_e2e::daemon::Engine;
use berth_e2e::image::{Compression, Image, ImageBuilder};
use berth_e2e::node::Node;
use berth_e2e::place::{self, Place};
use serde_json::json;

async fn node(place: &Place) -> Result<Node> {
    Node::start(place, Engine::from_env(Engine::Berthd)?).await
}

/// Makes an image, has it pulled, and answers its name.
async fn image(node: &Node, name: &str, builder: ImageBuilder) -> Result<String> {
    // Not packed: that takes longer than all else here.
    let image = builder.compression(Compression::None).build()?;
    let reference = node.registry.push(name, &image).await?;
    node.client.pull(&reference).await?;
    Ok(reference)
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

/// The table of the Kubernetes documentation, "Define a Command and Arguments for a Container".
#[test]
fn command_and_arguments_are_put_together_as_in_kubernetes() {
    place::native(async |place| {
        let node = node(&place).await?;
        let both = Image::busybox()?.entrypoint(["/bin/echo", "entry"]).cmd(["cmd"]);
        let both = image(&node, "both:1", both).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        for (number, (image, command, args, said)) in [
            (&both, &[][..], &[][..], "entry cmd\n"),
            (&both, &[], &["a", "b"], "entry a b\n"),
            (&both, &["/bin/echo", "c"], &[], "c\n"),
            (&both, &["echo", "c"], &["a"], "c a\n"),
            // An image without an entry point: arguments are a command.
            (&node.image, &[], &["echo", "just", "args"], "just args\n"),
        ]
        .into_iter()
        .enumerate()
        {
            let spec = container(&format!("c{number}")).image(image).with(|config| {
                (config.command, config.args) = (words(command), words(args));
            });
            let ended = pod.run(spec).await?;
            assert_eq!(ended.wait_for_exit().await?.exit_code, 0, "{said}");
            assert_eq!(ended.log_text()?, said);
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn the_environment_is_the_images_then_the_clients() {
    place::native(async |place| {
        let node = node(&place).await?;
        let env = json!(["A=image", "B=image", "no variable", "HOME=/of/the/image"]);
        let image = image(&node, "env:1", Image::busybox()?.set("Env", env)).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("web-0")).await?;
        let spec = container("app").image(&image).cmd(["sleep", "inf"]);
        let spec = spec.env("Z", "a = \"b\"\nc").env("B", "first").env("B", "client").env("E", "");
        let app = pod.run(spec).await?;
        let expected = [
            "A=image",
            "B=client",
            "E=",
            "HOME=/of/the/image",
            "HOSTNAME=web-0",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "Z=a = \"b\"\nc",
        ];
        for process in ["1", "$$"] {
            let script = format!("cat /proc/{process}/environ | tr '\\0' '|'");
            let inside = app.shell(&script).await?;
            let mut inside: Vec<_> = inside.trim_end_matches('|').split('|').collect();
            inside.sort_unstable();
            assert_eq!(inside, expected, "{process}");
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Uid, gid, supplementary groups and home of the first process, and of a command.
const WHO: &str = r#"for process in 1 self; do
    awk '/^(Uid|Gid):/ { printf "%s ", $2 } /^Groups:/ { $1 = ""; print }' /proc/$process/status
    done | tr -s ' '; echo $HOME"#;

#[test]
fn a_user_is_who_the_image_and_the_client_say() {
    type Change = fn(&mut Security);
    const NOTHING: Change = |_| {};
    const ALICE: &str = "1000 1000 50 1000 /home/alice";
    let table: &[(&str, Change, &str)] = &[
        ("", NOTHING, "0 0 0 /root"),
        ("alice", NOTHING, ALICE),
        ("1000", NOTHING, ALICE),
        ("alice:staff", NOTHING, "1000 50 50 /home/alice"),
        ("1000:77", NOTHING, "1000 77 50 77 /home/alice"),
        ("4242", NOTHING, "4242 0 0 /"),
        ("4242:staff", NOTHING, "4242 50 50 /"),
        ("", |s| s.run_as_user = Some(Int64Value { value: 1000 }), ALICE),
        ("alice", |s| s.run_as_user = Some(Int64Value { value: 0 }), "0 0 0 /root"),
        ("", |s| s.run_as_username = "alice".into(), ALICE),
        ("alice", |s| s.supplemental_groups = vec![6, 5, 6], "1000 1000 5 6 50 1000 /home/alice"),
        (
            "",
            |s| {
                s.run_as_user = Some(Int64Value { value: 1000 });
                s.run_as_group = Some(Int64Value { value: 7 });
            },
            "1000 7 7 50 /home/alice",
        ),
        (
            "alice",
            |s| {
                s.supplemental_groups = vec![5];
                s.supplemental_groups_policy = 1;
            },
            "1000 1000 5 1000 /home/alice",
        ),
    ];
    place::native(async |place| {
        let node = Node::start(&place, Engine::Berthd).await?;
        let mut images = HashMap::from([("", node.image.clone())]);
        for (number, (user, ..)) in table.iter().enumerate() {
            if !images.contains_key(user) {
                let builder = Image::busybox()?.user(user);
                images.insert(user, image(&node, &format!("user:{number}"), builder).await?);
            }
        }
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        for (number, (user, change, expected)) in table.iter().enumerate() {
            let spec = container(&format!("c{number}")).image(&images[user]).cmd(["sleep", "inf"]);
            let app = pod.run(spec.security(*change)).await?;
            let (ids, home) = expected.rsplit_once(' ').unwrap_or_default();
            let inside = app.shell(WHO).await?;
            assert_eq!(inside.replace(" \n", "\n"), format!("{ids}\n{ids}\n{home}\n"), "{user}");
            let user = app.status().await?.user.and_then(|user| user.linux).unwrap_or_default();
            let groups = user.supplemental_groups.iter().map(|group| format!(" {group}"));
            let told = format!("{} {}{}", user.uid, user.gid, groups.collect::<String>());
            assert_eq!(told, ids, "in the status");
            app.remove().await?;
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_missing_working_directory_is_made() {
    place::native(async |place| {
        let node = node(&place).await?;
        let image = image(&node, "dir:1", Image::busybox()?.workdir("/of/image").user("alice"));
        let image = image.await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let spec = |name: &str| container(name).image(&image).cmd(["sleep", "inf"]);
        let client = spec("client").with(|config| config.working_dir = "/of/client".into());
        for (spec, directory) in [(spec("image"), "/of/image"), (client, "/of/client")] {
            let app = pod.run(spec).await?;
            let inside = app.shell("pwd; readlink /proc/1/cwd; stat -c '%u %a' .").await?;
            assert_eq!(inside, format!("{directory}\n{directory}\n0 755\n"));
        }
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// Images have `WORKDIR /root` and are run as somebody else.
#[test]
fn a_user_may_work_where_only_root_may_enter() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let spec = container("app").image(&node.image).cmd(["sleep", "inf"]);
        let spec = spec.with(|config| config.working_dir = "/root".into()).security(|security| {
            security.run_as_username = "alice".into();
            security.capabilities.get_or_insert_default().drop_capabilities = words(&["ALL"]);
        });
        let app = pod.run(spec).await?;
        assert_eq!(app.shell("readlink /proc/self/cwd; id -u").await?, "/root\n1000\n");
        assert_ne!(app.exec(["ls", "/root"]).await?.code, 0);
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn a_terminal_is_one_and_its_output_is_logged() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let script = "test -t 0 && test -t 1 && test -t 2 && tty; echo $TERM; echo oops >&2; \
                      echo shown > /dev/console; test -c /dev/tty && echo > /dev/tty; exit 3";
        let with = pod.run(container("with").image(&node.image).script(script).tty()).await?;
        assert_eq!(with.wait_for_exit().await?.exit_code, 3);
        let lines: Vec<_> = with.log()?.into_iter().map(|line| (line.stream, line.text)).collect();
        let expected = ["/dev/pts/0", "xterm", "oops", "shown", ""];
        assert_eq!(lines, expected.map(|text| ("stdout".to_owned(), text.to_owned())));

        let script = "test -t 0 || test -t 1 || test -t 2 || echo none; echo ${TERM-unset}; tty";
        let without = pod.run(container("without").image(&node.image).script(script)).await?;
        assert_eq!(without.wait_for_exit().await?.exit_code, 1);
        assert_eq!(without.log_text()?, "none\nunset\nnot a tty\n");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

#[test]
fn input_is_open_if_asked_for_and_else_at_its_end() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let spec =
            |name: &str| container(name).image(&node.image).script("read line; echo $?$line");
        let closed = pod.run(spec("closed")).await?;
        closed.wait_for_exit().await?;
        assert_eq!(closed.log_text()?, "1\n");
        let open = pod.run(spec("open").with(|config| config.stdin = true)).await?;
        // The container takes the command along when it ends.
        drop(open.exec(["sh", "-c", "echo hello > /proc/1/fd/0"]).await);
        open.wait_for_exit().await?;
        assert_eq!(open.log_text()?, "0hello\n");
        pod.delete().await?;
        audit.assert_clean().await
    });
}

/// A raised score is set; one that only an almighty daemon may set is tried.
#[test]
fn the_score_for_the_oom_killer_is_set() {
    place::native(async |place| {
        let node = node(&place).await?;
        let audit = node.audit()?;
        let pod = node.client.run_pod(pod("p")).await?;
        let score = async |score: i64| -> Result<(Container, String)> {
            let spec: ContainerSpec = container(&format!("score{score}"));
            let spec = spec.image(&node.image).cmd(["sleep", "inf"]);
            let app = pod.run(spec.resources(|r| r.oom_score_adj = score)).await?;
            let inside = app.shell("cat /proc/1/oom_score_adj").await?;
            Ok((app, inside))
        };
        let (app, raised) = score(777).await?;
        assert_eq!(raised, "777\n");
        assert_eq!(app.shell("cat /proc/self/oom_score_adj").await?, "777\n");
        let own = std::fs::read_to_string("/proc/self/oom_score_adj")?;
        let (_, lowered) = score(-998).await?;
        assert!(lowered == "-998\n" || lowered == own, "{lowered}");
        pod.delete().await?;
        audit.assert_clean().await
    });
}
