//! Network interfaces of the host that a container takes over.

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::error::Error;
use crate::netdevices::NetDevice;

use super::{at, has};

/// Reads the interfaces of a specification, sorted by their names on the host.
///
/// # Errors
/// [`Error::Spec`] if a name is none, or there is no network namespace to move them to.
pub fn net_devices(spec: &Spec) -> Result<Vec<NetDevice>, Error> {
    let Some(linux) = spec.linux() else { return Ok(Vec::new()) };
    let mut devices = Vec::new();
    for (name, device) in linux.net_devices().iter().flatten() {
        let field = format!("linux.netDevices.{name}");
        check(&field, name)?;
        let renamed = device.name().as_deref().filter(|name| !name.is_empty());
        check(&format!("{field}.name"), renamed.unwrap_or(name))?;
        let inside = renamed.unwrap_or(name).to_owned();
        devices.push(NetDevice { name: name.clone(), inside });
    }
    devices.sort();
    if !devices.is_empty() && !has(linux, LinuxNamespaceType::Network) {
        return Err(at("linux.netDevices", "the container has no network namespace of its own"));
    }
    for (i, device) in devices.iter().enumerate() {
        if devices[..i].iter().any(|other| other.inside == device.inside) {
            let field = format!("linux.netDevices.{}.name", device.name);
            return Err(at(field, format!("{:?} is there twice", device.inside)));
        }
    }
    Ok(devices)
}

/// The kernel's own rule (`dev_valid_name`), and no `%`: it would be filled in with a number.
fn check(field: &str, name: &str) -> Result<(), Error> {
    /// `IFNAMSIZ` without its NUL.
    const LONGEST: usize = 15;
    let bad = |letter: char| letter.is_whitespace() || "/:%".contains(letter);
    if name.is_empty() || name.len() > LONGEST || matches!(name, "." | "..") || name.contains(bad) {
        return Err(at(field, format!("{name:?} is no name of an interface")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(json: &str, namespace: &str) -> Result<Vec<NetDevice>, Error> {
        let json = format!(
            r#"{{"ociVersion": "1.3.0", "linux":
                {{"namespaces": [{{"type": "{namespace}"}}], "netDevices": {json}}}}}"#
        );
        net_devices(&serde_json::from_str(&json).unwrap())
    }

    #[test]
    fn devices_keep_their_names_or_get_others() {
        let found = devices(r#"{"eth1": {}, "eth0": {"name": "net0"}}"#, "network").unwrap();
        let pairs: Vec<_> =
            found.iter().map(|device| (device.name.as_str(), device.inside.as_str())).collect();
        assert_eq!(pairs, [("eth0", "net0"), ("eth1", "eth1")]);
        assert!(devices("{}", "mount").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "a%d", "sixteen-letters-"] {
            let error = devices(&format!(r#"{{"{bad}": {{}}}}"#), "network").unwrap_err();
            assert!(error.to_string().contains("linux.netDevices."), "{error}");
            if !bad.is_empty() {
                let json = format!(r#"{{"eth0": {{"name": "{bad}"}}}}"#);
                let error = devices(&json, "network").unwrap_err().to_string();
                assert!(error.contains("linux.netDevices.eth0.name: "), "{error}");
            }
        }
    }

    #[test]
    fn they_need_a_place_and_a_name_each() {
        let error = devices(r#"{"eth0": {}}"#, "uts").unwrap_err().to_string();
        assert!(error.contains("linux.netDevices: "), "{error}");
        let twice = r#"{"eth0": {}, "eth1": {"name": "eth0"}}"#;
        let error = devices(twice, "network").unwrap_err().to_string();
        assert!(error.contains("linux.netDevices.eth1.name: "), "{error}");
    }
}
