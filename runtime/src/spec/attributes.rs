//! Where a process runs, where its memory comes from, and what it is labelled with.

use oci_spec::runtime::{
    Box as ConsoleSize, IOPriorityClass, Linux, LinuxIOPriority, LinuxMemoryPolicy,
    LinuxPersonality, LinuxPersonalityDomain, MemoryPolicyFlagType, MemoryPolicyModeType as Mode,
    Process as OciProcess,
};

use crate::error::Error;
use crate::plan::{MemoryPolicy, Numbers, Process, Window};

use super::{at, numbers, scheduler};

/// `PER_LINUX32` of `linux/personality.h`.
const LINUX32: u32 = 8;

/// Adds to `planned` all that `process` and the container's `linux` section say of these.
pub(super) fn add(
    planned: &mut Process,
    process: &OciProcess,
    linux: Option<&Linux>,
) -> Result<(), Error> {
    planned.scheduler = process.scheduler().as_ref().map(scheduler::plan).transpose()?;
    planned.io_priority = process.io_priority().as_ref().map(io_priority).transpose()?;
    planned.window = process.console_size().as_ref().map(window).transpose()?;
    planned.apparmor_profile = label("process.apparmorProfile", process.apparmor_profile())?;
    planned.selinux_label = label("process.selinuxLabel", process.selinux_label())?;
    if let Some(linux) = linux {
        planned.memory_policy = linux.memory_policy().as_ref().map(memory_policy).transpose()?;
        planned.personality = linux.personality().as_ref().map(personality).transpose()?;
    }
    Ok(())
}

/// Class and level in the layout of `linux/ioprio.h`.
fn io_priority(asked: &LinuxIOPriority) -> Result<u32, Error> {
    let class = match asked.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u32::try_from(asked.priority()) {
        Ok(level @ 0..=7) => Ok(class << 13 | level),
        _ => {
            let text = format!("{} is not from 0 to 7", asked.priority());
            Err(at("process.ioPriority.priority", text))
        }
    }
}

fn window(asked: &ConsoleSize) -> Result<Window, Error> {
    let side = |name: &str, value: u64| {
        let fits = u16::try_from(value).map(u32::from);
        fits.map_err(|_| {
            at(format!("process.consoleSize.{name}"), format!("{value} is more than {}", u16::MAX))
        })
    };
    Ok(Window { rows: side("height", asked.height())?, columns: side("width", asked.width())? })
}

/// Labels are written to files of one line.
fn label(field: &str, label: &Option<String>) -> Result<String, Error> {
    let label = label.clone().unwrap_or_default();
    if label.contains(['\0', '\n']) {
        return Err(at(field, format!("{label:?} is of more than one line")));
    }
    Ok(label)
}

fn memory_policy(asked: &LinuxMemoryPolicy) -> Result<MemoryPolicy, Error> {
    // `linux/mempolicy.h`, which the C library does not have in full.
    let (mode, nodes_wanted) = match asked.mode() {
        Mode::MpolDefault => (0, Some(false)),
        Mode::MpolPreferred => (1, None),
        Mode::MpolBind => (2, Some(true)),
        Mode::MpolInterleave => (3, Some(true)),
        Mode::MpolLocal => (4, Some(false)),
        Mode::MpolPreferredMany => (5, Some(true)),
        Mode::MpolWeightedInterleave => (6, Some(true)),
    };
    let flags = asked.flags().iter().flatten().fold(0, |all, flag| {
        all | match flag {
            MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
            MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
            MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        }
    });
    if flags & (1 << 14 | 1 << 15) == 1 << 14 | 1 << 15 {
        let text = "MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES exclude each other";
        return Err(at("linux.memoryPolicy.flags", text));
    }
    let field = "linux.memoryPolicy.nodes";
    let words = numbers::parse(asked.nodes().as_deref().unwrap_or(""));
    let words = words.map_err(|why| at(field, format!("invalid memory policy node: {why}")))?;
    let mode_name = asked.mode();
    match nodes_wanted {
        Some(true) if words.is_empty() => {
            Err(at(field, format!("{mode_name} mode requires at least 1 node but got 0")))
        }
        Some(false) if !words.is_empty() => {
            let count: u32 = words.iter().map(|word| word.count_ones()).sum();
            Err(at(field, format!("{mode_name} mode requires 0 nodes but got {count}")))
        }
        _ => Ok(MemoryPolicy { mode: mode | flags, nodes: Numbers { words } }),
    }
}

fn personality(asked: &LinuxPersonality) -> Result<u32, Error> {
    if asked.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(at("linux.personality.flags", "the specification defines none"));
    }
    Ok(match asked.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => LINUX32,
    })
}

/// The processors that a process added to a container is cloned on, if that is said: it is the
/// caller of the clone that has to be there.
///
/// # Errors
/// [`Error::Spec`] if it is no list.
pub fn initial_cpus(process: &OciProcess) -> Result<Option<Numbers>, Error> {
    let affinity = process.exec_cpu_affinity().as_ref();
    cpus("initial", affinity.and_then(|affinity| affinity.initial().as_deref()))
}

/// The processors that a process added to a container runs on in the end; every one that its
/// cgroup has where nothing is said, and what the kernel makes of the initial ones where only
/// those are said.
pub(super) fn final_cpus(process: &OciProcess) -> Result<Option<Numbers>, Error> {
    let affinity = process.exec_cpu_affinity().as_ref();
    let last = affinity.and_then(|affinity| affinity.cpu_affinity_final().as_deref());
    let last = cpus("final", last)?;
    Ok(match (last, initial_cpus(process)?) {
        (Some(last), _) => Some(last),
        (None, Some(_)) => None,
        (None, None) => Some(numbers::every()),
    })
}

fn cpus(name: &str, list: Option<&str>) -> Result<Option<Numbers>, Error> {
    let words = numbers::parse(list.unwrap_or(""));
    let words = words.map_err(|why| at(format!("process.execCPUAffinity.{name}"), why))?;
    Ok((!words.is_empty()).then_some(Numbers { words }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(process: &str, linux: &str) -> Result<Process, Error> {
        let process = format!(r#"{{"user": {{}}, "cwd": "/", {process}}}"#);
        let process: OciProcess = serde_json::from_str(&process).unwrap();
        let linux: Linux = serde_json::from_str(linux).unwrap();
        let mut planned = Process::default();
        add(&mut planned, &process, Some(&linux)).map(|()| planned)
    }

    #[test]
    fn io_priorities_have_a_class_and_a_level() {
        let of = |class: &str, level: i32| {
            let json = format!(r#""ioPriority": {{"class": "{class}", "priority": {level}}}"#);
            planned(&json, "{}").map(|plan| plan.io_priority.unwrap())
        };
        assert_eq!(of("IOPRIO_CLASS_RT", 0).unwrap(), 1 << 13);
        assert_eq!(of("IOPRIO_CLASS_BE", 4).unwrap(), 2 << 13 | 4);
        assert_eq!(of("IOPRIO_CLASS_IDLE", 0).unwrap(), 3 << 13);
        for level in [-1, 8] {
            let error = of("IOPRIO_CLASS_BE", level).unwrap_err().to_string();
            assert!(error.contains("process.ioPriority.priority: "), "{error}");
        }
    }

    #[test]
    fn memory_policies_have_the_nodes_that_they_need() {
        let of = |json: &str| {
            let linux = format!(r#"{{"memoryPolicy": {json}}}"#);
            planned(r#""args": []"#, &linux).map(|plan| plan.memory_policy.unwrap())
        };
        let bind = r#"{"mode": "MPOL_BIND", "nodes": "0,2", "flags": ["MPOL_F_STATIC_NODES"]}"#;
        let bind = of(bind).unwrap();
        assert_eq!((bind.mode, bind.nodes.words), (2 | 1 << 15, vec![5]));
        assert_eq!(of(r#"{"mode": "MPOL_PREFERRED", "nodes": ""}"#).unwrap().mode, 1);
        for (json, field) in [
            (r#"{"mode": "MPOL_BIND"}"#, "nodes"),
            (r#"{"mode": "MPOL_INTERLEAVE", "nodes": ""}"#, "nodes"),
            (r#"{"mode": "MPOL_LOCAL", "nodes": "0"}"#, "nodes"),
            (r#"{"mode": "MPOL_BIND", "nodes": "0-"}"#, "nodes"),
            (
                r#"{"mode": "MPOL_BIND", "nodes": "0",
                    "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]}"#,
                "flags",
            ),
        ] {
            let error = of(json).unwrap_err().to_string();
            assert!(error.contains(&format!("linux.memoryPolicy.{field}: ")), "{json}: {error}");
        }
    }

    #[test]
    fn personalities_are_two() {
        let of = |json: &str| {
            let linux = format!(r#"{{"personality": {json}}}"#);
            planned(r#""args": []"#, &linux).map(|plan| plan.personality.unwrap())
        };
        assert_eq!(of(r#"{"domain": "LINUX"}"#).unwrap(), 0);
        assert_eq!(of(r#"{"domain": "LINUX32", "flags": []}"#).unwrap(), LINUX32);
        let error = of(r#"{"domain": "LINUX", "flags": ["x"]}"#).unwrap_err().to_string();
        assert!(error.contains("linux.personality.flags: "), "{error}");
    }

    #[test]
    fn labels_are_of_one_line_and_windows_of_16_bits() {
        let labelled = planned(r#""apparmorProfile": "p", "selinuxLabel": "l""#, "{}").unwrap();
        assert_eq!(
            (labelled.apparmor_profile.as_str(), labelled.selinux_label.as_str()),
            ("p", "l")
        );
        let error = planned(r#""apparmorProfile": "p\nq""#, "{}").unwrap_err().to_string();
        assert!(error.contains("process.apparmorProfile: "), "{error}");
        let window = planned(r#""consoleSize": {"height": 24, "width": 80}"#, "{}").unwrap().window;
        assert_eq!(window, Some(Window { rows: 24, columns: 80 }));
        let error = planned(r#""consoleSize": {"height": 65536}"#, "{}").unwrap_err().to_string();
        assert!(error.contains("process.consoleSize.height: "), "{error}");
    }

    #[test]
    fn an_added_process_runs_where_it_is_said() {
        let of = |json: &str| {
            let json = format!(r#"{{"user": {{}}, "cwd": "/", "execCPUAffinity": {json}}}"#);
            let process: OciProcess = serde_json::from_str(&json).unwrap();
            (initial_cpus(&process).unwrap(), final_cpus(&process).unwrap())
        };
        let some = |word| Some(Numbers { words: vec![word] });
        assert_eq!(of("{}"), (None, Some(numbers::every())));
        assert_eq!(of(r#"{"initial": "1"}"#), (some(2), None));
        assert_eq!(of(r#"{"final": "0"}"#), (None, some(1)));
        assert_eq!(of(r#"{"initial": "1", "final": "0"}"#), (some(2), some(1)));
    }
}
