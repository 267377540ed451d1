//! The cache and memory bandwidth of a container (`linux.intelRdt`).

use oci_spec::runtime::Spec;

use crate::error::Error;
use crate::rdt::Allocation;

use super::at;

/// Reads what the specification of the container `id` says of it.
///
/// # Errors
/// [`Error::Spec`] if the class could be somewhere else, or a schema is of several lines.
pub fn rdt(spec: &Spec, id: &str) -> Result<Option<Allocation>, Error> {
    let asked = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref());
    let Some(asked) = asked else { return Ok(None) };
    let class = asked.clos_id().as_deref().filter(|class| !class.is_empty());
    // "/" is the class of everybody, that of the file system's root.
    let bad = |class: &str| matches!(class, "." | "..") || (class.contains('/') && class != "/");
    if let Some(class) = class.filter(|class| bad(class)) {
        return Err(at("linux.intelRdt.closID", format!("{class:?} is no name of a directory")));
    }
    let mut schemata = Vec::new();
    let fields = [
        ("l3CacheSchema", asked.l3_cache_schema().as_deref().unwrap_or_default()),
        ("memBwSchema", asked.mem_bw_schema().as_deref().unwrap_or_default()),
    ];
    // Later lines win over earlier ones, as the specification has it for `schemata`.
    let lines = asked.schemata().iter().flatten().map(|line| ("schemata", line.as_str()));
    for (field, line) in fields.into_iter().chain(lines).filter(|(_, line)| !line.is_empty()) {
        if line.contains('\n') {
            let text = format!("{line:?} is of more than one line");
            return Err(at(format!("linux.intelRdt.{field}"), text));
        }
        schemata.push(line.to_owned());
    }
    Ok(Some(Allocation {
        class: class.unwrap_or(id).to_owned(),
        own: class.is_none(),
        container: id.to_owned(),
        schemata,
        monitoring: asked.enable_monitoring().unwrap_or(false),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Allocation, Error> {
        let json = format!(r#"{{"ociVersion": "1.3.0", "linux": {{"intelRdt": {json}}}}}"#);
        rdt(&serde_json::from_str(&json).unwrap(), "c1").map(Option::unwrap)
    }

    #[test]
    fn a_container_has_a_class_of_its_own_or_a_given_one() {
        let own =
            r#"{"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20", "schemata": ["L2:0=1"]}"#;
        let own = read(own).unwrap();
        assert_eq!((own.class.as_str(), own.own, own.monitoring), ("c1", true, false));
        assert_eq!(own.schemata, ["L3:0=f", "MB:0=20", "L2:0=1"]);
        let given = read(r#"{"closID": "gold", "enableMonitoring": true}"#).unwrap();
        assert_eq!((given.class.as_str(), given.own, given.monitoring), ("gold", false, true));
        assert!(!read(r#"{"closID": "/"}"#).unwrap().own);
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for (json, field) in [
            (r#"{"closID": ".."}"#, "closID"),
            (r#"{"closID": "."}"#, "closID"),
            (r#"{"closID": "a/b"}"#, "closID"),
            (r#"{"closID": "/.."}"#, "closID"),
            (r#"{"l3CacheSchema": "L3:0=f\nMB:0=1"}"#, "l3CacheSchema"),
            (r#"{"schemata": ["a\nb"]}"#, "schemata"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(&format!("linux.intelRdt.{field}: ")), "{json}: {error}");
        }
    }
}
