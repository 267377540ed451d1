//! What a specification says of the process: scheduling, identity, labels, kernel parameters,
//! interfaces of the host; and what it may not say.

use anyhow::{Context, Result};
use berth_e2e::oci::{Bundle, Oci};
use berth_e2e::place::{self, needs};
use serde_json::{Value, json};

/// Fails unless the bundle is refused by the name of `field`, and nothing is left of it.
async fn assert_refused(oci: &Oci, bundle: &Bundle, field: &str) -> Result<()> {
    let output = oci.try_create(bundle).await?;
    assert!(output.code != 0, "{field}: it was taken");
    assert!(output.stderr.contains(&format!("{field}: ")), "{field}: {}", output.stderr);
    oci.assert_clean().await
}

#[test]
fn scheduling_is_that_of_the_specification_in_every_process() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci
            .bundle("a")?
            .args(&["/bin/sleep", "1000"])
            .set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 19}))
            .set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 6}));
        oci.start(&bundle).await?;
        for process in ["1", "self"] {
            let stat = oci.exec("a", &format!("cat /proc/{process}/stat")).await?;
            let after_name = stat.rsplit(')').next().context("a name")?;
            let fields: Vec<_> = after_name.split_whitespace().collect();
            // proc(5) counts from 1, and two fields come before: 19 is nice, 41 the policy.
            assert_eq!((fields[16], fields[38]), ("19", "3"), "{process}: {stat}");
            let process = if process == "1" { "1" } else { "$$" };
            let io = oci.exec("a", &format!("ionice -p {process}")).await?;
            assert_eq!(io.trim(), "best-effort: prio 6");
        }
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}

#[test]
fn a_domain_of_execution_and_a_memory_policy_reach_every_process() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci
            .bundle("a")?
            .args(&["/bin/sleep", "1000"])
            .set("/linux/personality", json!({"domain": "LINUX32"}))
            .set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"}));
        oci.start(&bundle).await?;
        for process in ["1", "self"] {
            let read = |file: &str| format!("cat /proc/{process}/{file}");
            assert_eq!(oci.exec("a", &read("personality")).await?, "00000008\n");
            assert!(oci.exec("a", &read("numa_maps")).await?.contains(" bind:0 "));
        }
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}

#[test]
fn an_added_process_runs_on_the_processors_that_it_asks_for() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let all = std::fs::read_to_string("/proc/self/status")?;
        let all = all.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let all = all.context("a list of processors")?.trim().to_owned();
        let bundle = oci.bundle("a")?.args(&["/bin/sleep", "1000"]);
        oci.start(&bundle).await?;
        let file = bundle.dir.join("process.json");
        for (affinity, expected) in [
            (json!({"initial": "0", "final": "0"}), "0"),
            (json!({"final": "0"}), "0"),
            (json!({"initial": "0"}), "0"),
            (json!({}), all.as_str()),
            (Value::Null, all.as_str()),
        ] {
            let process = json!({
                "args": ["/bin/grep", "Cpus_allowed_list", "/proc/self/status"],
                "cwd": "/", "execCPUAffinity": affinity,
            });
            std::fs::write(&file, process.to_string())?;
            let path = file.to_str().context("a path")?;
            let list = oci.ok(&["exec", "--process", path, "a"]).await?;
            assert_eq!(list, format!("Cpus_allowed_list:\t{expected}\n"), "{affinity}");
        }
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}

#[test]
fn a_container_does_not_inherit_the_processors_of_who_runs_it() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?.args(&["/bin/grep", "Cpus_allowed_list", "/proc/1/status"]);
        let free = oci.run(&bundle).await?.stdout;
        let mut bound = tokio::process::Command::new(needs::program("busybox")?);
        bound.args(["taskset", "1"]).arg(oci.command(&[]).as_std().get_program());
        bound.args(oci.command(&[]).as_std().get_args());
        bound.args(["run", "--bundle", bundle.path(), "a"]);
        let output = bound.output().await?;
        assert_eq!(String::from_utf8_lossy(&output.stdout), free, "{output:?}");
        oci.assert_clean().await
    });
}

#[test]
fn identity_limits_and_names_are_those_of_the_specification() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let user = json!({"uid": 1000, "gid": 50, "umask": 63, "additionalGids": [7, 8]});
        let bundle = oci
            .bundle("a")?
            .set("/process/user", user)
            .set("/process/oomScoreAdj", json!(321))
            .set(
                "/process/rlimits",
                json!([
                    {"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99},
                    {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                ]),
            )
            .set(
                "/process/capabilities",
                json!({
                    "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_NOT_YET_INVENTED"],
                    "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
                    "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"],
                }),
            )
            .set("/hostname", json!("host1"))
            .set("/domainname", json!("domain1"));
        let script = "id -u; id -g; id -G; umask; ulimit -n; ulimit -H -n; ulimit -c; \
            cat /proc/self/oom_score_adj /proc/sys/kernel/hostname /proc/sys/kernel/domainname; \
            grep -E '^Cap|NoNewPrivs' /proc/self/status";
        let output = oci.script(bundle, script).await?;
        let expected = "1000\n50\n50 7 8\n0077\n77\n99\n0\n321\nhost1\ndomain1\n\
            CapInh:\t0000000000000020\nCapPrm:\t0000000000000020\nCapEff:\t0000000000000020\n\
            CapBnd:\t0000000000000021\nCapAmb:\t0000000000000020\nNoNewPrivs:\t1\n";
        assert_eq!(output, expected);
        oci.assert_clean().await
    });
}

#[test]
fn a_terminal_has_the_size_that_is_asked_for() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci
            .bundle("a")?
            .set("/process/terminal", json!(true))
            .set("/process/consoleSize", json!({"height": 33, "width": 99}));
        let output = oci.script(bundle, "stty size").await?;
        assert_eq!(output.trim(), "33 99");
        oci.assert_clean().await
    });
}

#[test]
fn kernel_parameters_are_set_in_the_containers_namespaces_only() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let files = [
            "net/ipv4/ip_unprivileged_port_start",
            "kernel/shm_rmid_forced",
            "fs/mqueue/msg_max",
            "kernel/domainname",
        ];
        let paths = files.map(|file| format!("/proc/sys/{file}"));
        let read = || paths.iter().map(std::fs::read_to_string).collect::<Result<Vec<_>, _>>();
        let before = read()?;
        let sysctl = json!({
            "net.ipv4.ip_unprivileged_port_start": "77", "kernel.shm_rmid_forced": "1",
            "fs/mqueue/msg_max": "13", "kernel.domainname": "inside",
        });
        let bundle = oci.bundle("a")?.set("/linux/sysctl", sysctl);
        let output = oci.script(bundle, &format!("cat {}", paths.join(" "))).await?;
        assert_eq!(output, "77\n1\n13\ninside\n");
        assert_eq!(read()?, before, "the host's own");
        oci.assert_clean().await
    });
}

#[test]
fn the_hosts_kernel_parameters_cannot_be_set() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?;
        for name in [
            "kernel.core_pattern",
            "kernel/core_pattern",
            "vm.overcommit_memory",
            "kernel.hostname",
            "fs.file-max",
            "net/../kernel/core_pattern",
        ] {
            let asked = bundle.clone().set("/linux/sysctl", json!({name: "1"}));
            assert_refused(&oci, &asked, &format!("linux.sysctl.{name}")).await?;
        }
        let name = "net.ipv4.ip_unprivileged_port_start";
        let path = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
        let before = std::fs::read_to_string(path)?;
        let without = json!([{"type": "pid"}, {"type": "mount"}, {"type": "uts"}]);
        let without = bundle.clone().set("/linux/namespaces", without);
        let without = without.set("/linux/sysctl", json!({name: "99"}));
        assert_refused(&oci, &without, &format!("linux.sysctl.{name}")).await?;
        // By its path it is a namespace like another: only the child can tell.
        let host = json!({"type": "network", "path": "/proc/1/ns/net"});
        let host = without.set("/linux/namespaces/3", host);
        assert_refused(&oci, &host, "linux.sysctl").await?;
        assert_eq!(std::fs::read_to_string(path)?, before);
        Ok(())
    });
}

#[test]
fn labels_that_cannot_be_given_are_refused_and_unconfined_needs_none() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?;
        let profile = |name: &str| bundle.clone().set("/process/apparmorProfile", json!(name));
        assert_refused(&oci, &profile("no-such-profile"), "process.apparmorProfile").await?;
        oci.script(profile("unconfined"), "true").await?;
        let label = json!("no_u:no_r:no_t:s0");
        let labelled = bundle.clone().set("/process/selinuxLabel", label.clone());
        assert_refused(&oci, &labelled, "process.selinuxLabel").await?;
        assert_refused(&oci, &bundle.set("/linux/mountLabel", label), "linux.mountLabel").await
    });
}

#[test]
fn a_score_is_written_to_the_kernel_whatever_the_container_shows_as_proc() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let admin = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
        let sets = json!({"bounding": admin, "permitted": admin, "effective": admin});
        let script = "mount -t tmpfs fake /proc && mkdir -p /proc/self/attr /proc/thread-self && \
            echo fake > /proc/self/oom_score_adj && exec sleep 1000";
        let bundle = oci
            .bundle("a")?
            .script(script)
            .set("/process/oomScoreAdj", json!(321))
            .set("/process/capabilities", sets);
        oci.start(&bundle).await?;
        let faked = berth_e2e::wait::until(
            "it has covered /proc",
            std::time::Duration::from_secs(10),
            async || {
                let read = oci.call(&["exec", "a", "cat", "/proc/self/oom_score_adj"]).await?;
                Ok((read.stdout == "fake\n").then_some(()))
            },
        );
        faked.await?;
        let pid_file = bundle.dir.join("pid");
        let pid_file = pid_file.to_str().context("a path")?;
        let mut exec =
            oci.command(&["exec", "-d", "--pid-file", pid_file, "a", "/bin/sleep", "1000"]);
        exec.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        assert!(exec.status().await?.success());
        let pid = bundle.read("pid")?;
        let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", pid.trim()))?;
        assert_eq!(score, "321\n");
        assert_eq!(oci.exec("a", "cat /proc/self/oom_score_adj").await?, "fake\n", "untouched");
        oci.delete("a").await?;
        oci.assert_clean().await
    });
}

#[test]
fn an_interface_of_the_host_moves_into_the_container() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let ip = |words: &'static [&'static str]| async move {
            let mut command = tokio::process::Command::new(needs::program("busybox")?);
            let output = command.arg("ip").args(words).output().await?;
            anyhow::ensure!(output.status.success(), "{words:?}: {output:?}");
            Ok(String::from_utf8(output.stdout)?)
        };
        ip(&["link", "add", "given0", "type", "veth"]).await?;
        ip(&["addr", "add", "192.0.2.7/24", "dev", "given0"]).await?;
        let bundle = oci.bundle("a")?;
        let lost = bundle.clone().set("/linux/netDevices", json!({"nowhere0": {}, "given0": {}}));
        let refused = oci.try_create(&lost).await?;
        assert!(refused.stderr.contains("linux.netDevices.nowhere0: "), "{refused:?}");
        ip(&["link", "show", "given0"]).await?;
        let asked = bundle.set("/linux/netDevices", json!({"given0": {"name": "net0"}}));
        let output = oci.script(asked, "ip addr show net0").await?;
        assert!(output.contains("inet 192.0.2.7/24 ") && output.contains("UP"), "{output}");
        assert!(ip(&["link", "show", "given0"]).await.is_err(), "it went with the container");
        oci.assert_clean().await
    });
}

#[test]
fn what_makes_no_sense_is_refused_by_the_name_of_the_field() {
    place::native(async |place| {
        let oci = Oci::begin(&place)?;
        let bundle = oci.bundle("a")?;
        for field in ["ociVersion", "process", "process/cwd", "process/args", "root", "root/path"] {
            let without = bundle.clone().unset(&format!("/{field}"));
            assert_refused(&oci, &without, &field.replace('/', ".")).await?;
        }
        let long = "x".repeat(65);
        for (pointer, value, field) in [
            ("/process/args", json!("sh"), "process.args"),
            ("/process/user/uid", json!(-1), "process.user.uid"),
            ("/process/user/uid", json!(u32::MAX), "process.user.uid"),
            ("/process/cwd", json!("tmp"), "process.cwd"),
            ("/process/env", json!(["A"]), "process.env[0]"),
            ("/process/oomScoreAdj", json!(1001), "process.oomScoreAdj"),
            ("/process/scheduler", json!({"policy": "SCHED_FAST"}), "process.scheduler.policy"),
            (
                "/process/rlimits",
                json!([{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]),
                "process.rlimits[0].soft",
            ),
            ("/hostname", json!(long), "hostname"),
            ("/mounts/0/destination", Value::Null, "mounts[0].destination"),
            ("/linux/namespaces/0/type", json!("unknown"), "linux.namespaces[0].type"),
            ("/linux/namespaces/1/type", json!("pid"), "linux.namespaces[1].type"),
            ("/linux/cgroupsPath", json!("/e2e/../../out"), "linux.cgroupsPath"),
            ("/linux/intelRdt", json!({"closID": "a/b"}), "linux.intelRdt.closID"),
            ("/hooks", json!({"createRuntime": [{"path": "x"}]}), "hooks.createRuntime[0].path"),
        ] {
            assert_refused(&oci, &bundle.clone().set(pointer, value), field).await?;
        }
        if !std::path::Path::new("/sys/fs/resctrl/schemata").exists() {
            let asked = bundle.set("/linux/intelRdt", json!({"l3CacheSchema": "L3:0=f"}));
            assert_refused(&oci, &asked, "linux.intelRdt").await?;
        }
        Ok(())
    });
}
