//! The device nodes of a specification, and those that every container has.

use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::Error;
use crate::plan::{Device, Link};

use super::{In as _, clean, refuse};

/// Nodes that every container has (OCI runtime specification, `config-linux.md`).
const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links that every container has.
const DEFAULT_LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Default devices and those of the specification.
pub(super) fn devices(linux: &Linux) -> Result<Vec<Device>, Error> {
    let default = DEFAULT_DEVICES.iter().map(|(path, major, minor)| Device {
        path: (*path).to_owned(),
        mode: libc::S_IFCHR | 0o666,
        major: *major,
        minor: *minor,
        uid: 0,
        gid: 0,
    });
    let mut devices: Vec<_> = default.collect();
    for (index, device) in linux.devices().iter().flatten().enumerate() {
        let device = convert(device, index)?;
        // The multiplexer is a link into the container's own pseudo terminals.
        if device.path == "/dev/ptmx" {
            continue;
        }
        // What is said of a default one counts.
        devices.retain(|known| known.path != device.path);
        devices.push(device);
    }
    Ok(devices)
}

fn convert(device: &LinuxDevice, index: usize) -> Result<Device, Error> {
    let field = |name: &str| format!("linux.devices[{index}].{name}");
    let number = |name: &str, number: i64| {
        u32::try_from(number).map_err(|_| refuse(format!("{}: {number}", field(name))))
    };
    let kind = match device.typ() {
        LinuxDeviceType::B => libc::S_IFBLK,
        LinuxDeviceType::P => libc::S_IFIFO,
        LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
        LinuxDeviceType::A => {
            return Err(refuse(format!("{}: a device is of type b, c, u or p", field("type"))));
        }
    };
    // A fifo has no numbers, whatever is said of them.
    let fifo = kind == libc::S_IFIFO;
    Ok(Device {
        path: clean(device.path()).in_field(|| field("path"))?,
        mode: kind | device.file_mode().unwrap_or(0o666) & 0o7777,
        major: if fifo { 0 } else { number("major", device.major())? },
        minor: if fifo { 0 } else { number("minor", device.minor())? },
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}

/// Default links.
pub(super) fn links() -> Vec<Link> {
    let link = |(path, target): &(&str, &str)| Link {
        path: (*path).to_owned(),
        target: (*target).to_owned(),
    };
    DEFAULT_LINKS.iter().map(link).collect()
}

/// What every container may do with devices, whatever its specification says: make nodes of
/// any, and use those that it has by default, its console and its pseudo terminals.
pub(super) fn default_rules() -> Vec<LinuxDeviceCgroup> {
    let rule = |kind, major: Option<u32>, minor: Option<u32>, access: &str| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(kind))
            .set_major(major.map(i64::from))
            .set_minor(minor.map(i64::from))
            .set_access(Some(access.to_owned()));
        rule
    };
    let mut rules = vec![
        rule(LinuxDeviceType::C, None, None, "m"),
        rule(LinuxDeviceType::B, None, None, "m"),
        rule(LinuxDeviceType::C, Some(5), Some(1), "rwm"),
        rule(LinuxDeviceType::C, Some(5), Some(2), "rwm"),
        rule(LinuxDeviceType::C, Some(136), None, "rwm"),
    ];
    rules.extend(
        DEFAULT_DEVICES
            .iter()
            .map(|(_, major, minor)| rule(LinuxDeviceType::C, Some(*major), Some(*minor), "rwm")),
    );
    rules
}

#[cfg(test)]
mod tests {
    use super::super::tests::{json, planned};
    use super::*;

    fn made(devices: &str) -> Result<Vec<Device>, Error> {
        let text = json(&format!(r#", "devices": [{devices}]"#), "");
        planned(&text, &[]).map(|blueprint| blueprint.plan.devices)
    }

    #[test]
    fn devices_come_on_top_of_the_default_ones() {
        let own = r#"{"path": "/dev/x", "type": "b", "major": 8, "minor": 1, "fileMode": 432, "gid": 6},
            {"path": "/dev/p", "type": "p"}, {"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2},
            {"path": "/dev/tty", "type": "c", "major": 5, "minor": 0, "uid": 7}"#;
        let devices = made(own).unwrap();
        let of = |path: &str| devices.iter().filter(|one| one.path == path).collect::<Vec<_>>();
        let x = of("/dev/x")[0];
        assert_eq!((x.mode, x.major, x.minor, x.gid), (libc::S_IFBLK | 0o660, 8, 1, 6));
        assert_eq!(of("/dev/p")[0].mode, libc::S_IFIFO | 0o666);
        assert_eq!(of("/dev/tty").iter().map(|tty| tty.uid).collect::<Vec<_>>(), [7]);
        assert!(of("/dev/ptmx").is_empty());
        assert_eq!(devices.len(), DEFAULT_DEVICES.len() + 2);
    }

    #[test]
    fn what_is_no_device_is_refused_by_its_field() {
        for (device, words) in [
            (r#"{"path": "/dev/x", "type": "a"}"#, "linux.devices[0].type"),
            (r#"{"path": "/dev/../x", "type": "p"}"#, "linux.devices[0].path"),
            (
                r#"{"path": "/dev/x", "type": "c", "major": -1, "minor": 1}"#,
                "linux.devices[0].major",
            ),
            (r#"{"path": "/dev/x", "type": "c", "major": 1, "minor": 4294967296}"#, "[0].minor"),
        ] {
            let error = made(device).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_container_with_a_dev_of_the_host_gets_nothing_in_it() {
        let mounts =
            r#", "mounts": [{"destination": "/dev", "source": "/dev", "options": ["rbind"]}]"#;
        let plan = planned(&json("", mounts), &[]).unwrap().plan;
        assert!(plan.devices.is_empty() && plan.links.is_empty());
    }
}
