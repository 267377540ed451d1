//! Which handlers there are, what they can do, and what is refused of them.

use berth_e2e::berth::Berth;
use berth_e2e::daemon::binaries;

use super::*;

#[test]
fn a_handler_that_is_unknown_or_unusable_is_refused() {
    place::native(async |place| {
        let plain = place.scratch().join("plain");
        fs::write(&plain, "no program")?;
        let more = format!(
            "[runtimes.missing]\npath = \"/no/such/runtime\"\n[runtimes.plain]\npath = {:?}\n",
            plain.display().to_string()
        );
        let node = node_with(&place, &more).await?;
        let audit = node.audit()?;
        let run = async |handler: &str| node.client.run_pod(pod("p").handler(handler)).await;
        let known = ["\"kata\"", "berth, crun, missing, plain, runc"];
        assert_refused(run("kata").await, Code::InvalidArgument, &known);
        let words = ["\"missing\"", "/no/such/runtime", "No such file"];
        assert_refused(run("missing").await, Code::FailedPrecondition, &words);
        let words = ["\"plain\"", "cannot be executed", "Permission denied"];
        assert_refused(run("plain").await, Code::FailedPrecondition, &words);
        audit.assert_clean().await?;

        let berthd = binaries::find("berthd")?;
        let mut check = tokio::process::Command::new(berthd);
        check.arg("--config").arg(node.daemon.config_file()).args(["config", "check"]);
        let output = check.output().await?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.success(), "{said}");
        for words in ["runtimes.missing.path: /no/such/runtime cannot", "runtimes.plain.path: "] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!said.contains("runtimes.crun"), "{said}");
        Ok(())
    });
}

#[test]
fn a_pod_says_which_handler_it_has_and_the_node_what_handlers_can_do() {
    place::native(async |place| {
        let node = node_with(&place, "[runtime]\ndefault_handler = \"crun\"\n").await?;
        let (runc, by_default) =
            (sleeper(&node, "runc").await?.0, node.client.run_pod(pod("p")).await?);
        assert_eq!(runc.status().await?.runtime_handler, "runc");
        let listed = node.client.pods().await?;
        let listed = listed.iter().find(|pod| pod.id == runc.id).context("it is not listed")?;
        assert_eq!(listed.runtime_handler, "runc");
        let app = by_default.run(app(&node, "app").cmd(["sleep", "inf"])).await?;
        let state = node.daemon.dirs().state.join("runtimes/crun").join(&app.id);
        ensure!(state.exists(), "the default runtime has not run it");

        let told = node.client.status().await?.runtime_handlers;
        let told: Vec<_> = told
            .into_iter()
            .map(|handler| {
                let features = handler.features.unwrap_or_default();
                (handler.name, features.recursive_read_only_mounts, features.user_namespaces)
            })
            .collect();
        // Debian's crun has no `features`, so that nothing is known of it.
        let row = |name: &str, deep| (name.to_owned(), deep, name == "berth");
        let expected = [row("", false), row("berth", true), row("crun", false), row("runc", true)];
        assert_eq!(told, expected);
        let deep = self::app(&node, "deep").cmd(["true"]).mount("/srv", "/srv", true);
        let deep = deep.with(|config| config.mounts[0].recursive_read_only = true);
        let words = ["recursive_read_only", "\"crun\""];
        assert_refused(by_default.create(deep.clone()).await, Code::Unimplemented, &words);
        let deep = runc.run(deep).await?;
        assert_eq!(deep.wait_for_exit().await?.exit_code, 0);

        let info = Berth::of(&node.daemon)?.run(&["info"]).await?;
        for words in ["runtime handler berth", "runtime handler crun", "runtime handler runc"] {
            assert!(info.stdout.contains(words), "{}", info.stdout);
        }
        Ok(())
    });
}

#[test]
fn a_runtime_that_lies_or_fails_is_not_believed() {
    place::native(async |place| {
        let more = [
            ("names-another", "echo 1 > $file; exit 0"),
            ("names-none", "exit 0"),
            ("fails", "exit 77"),
            ("dies", "kill -KILL $$"),
        ];
        let more = more
            .iter()
            .map(|(name, script)| in_front(&place, name, script).map(|path| table(name, &path)));
        let node = node_with(&place, &more.collect::<Result<String>>()?).await?;
        let audit = node.audit()?;
        for (handler, words) in [
            ("names-another", "find what is named in"),
            ("names-none", "find what is named in"),
            ("fails", "exit code 77"),
            ("dies", "exit code 137"),
        ] {
            let pod = node.client.run_pod(pod(handler).handler(handler)).await?;
            let app = pod.create(app(&node, "app").cmd(["sleep", "inf"])).await?;
            assert_refused(app.start().await, Code::Internal, &[handler, words]);
            assert_eq!(app.state().await?, ContainerState::ContainerExited, "{handler}");
            pod.delete().await?;
        }
        audit.assert_clean().await
    });
}
