//! `update`: other limits for a container that lives.

use oci_spec::runtime::{LinuxIntelRdt, LinuxResources};
use serde_json::{Map, Value};

use crate::error::{Error, Storing as _};
use crate::rdt::Resctrl;
use crate::spec;

use super::Runtime;
use super::record::{Record, Status};
use super::scope;

/// What is to change.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// Limits, as the specification has them below `linux.resources`. What is not said stays.
    pub resources: Value,
    /// Shares of cache and memory bandwidth.
    pub rdt: IntelRdt,
}

/// Lines for the file `schemata` of resctrl. What is not said stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntelRdt {
    /// Cache of the third level.
    pub l3_cache: Option<String>,
    /// Memory bandwidth.
    pub memory_bandwidth: Option<String>,
}

impl Runtime {
    /// Changes the limits of a container, all or none. Devices stay as they are.
    ///
    /// # Errors
    /// [`Error::WrongState`] if it has ended, [`Error::Spec`] if the limits make no sense,
    /// [`Error::Limit`] with what the kernel refused.
    pub fn update(&self, id: &str, update: &Update) -> Result<(), Error> {
        let _hold = self.hold(id)?;
        let mut record = self.load(id)?;
        let status = self.status(&record)?;
        if matches!(status, Status::Creating | Status::Stopped) {
            let (id, state) = (id.to_owned(), status.name());
            return Err(Error::WrongState { id, state, verb: "update it" });
        }
        let mut asked = update.resources.clone();
        if let Some(asked) = asked.as_object_mut() {
            asked.remove("devices");
        }
        spec::drop_unsaid(&mut asked);
        let all = merged(&spec::all_resources(&record.spec), &asked)?;
        let changes = completed(&asked, &all)?;
        let tell = || scope::tell(&record, &all);
        self.hierarchy()?.update_and(&record.cgroup, &changes, tell)?;
        remember(&mut record, all);
        if update.rdt != IntelRdt::default() {
            update_rdt(&mut record, &update.rdt)?;
        }
        self.save(&record)
    }
}

/// What a container is limited to with `asked` on top of it.
fn merged(now: &LinuxResources, asked: &Value) -> Result<LinuxResources, Error> {
    let mut all = serde_json::to_value(now).unwrap_or_default();
    lay_over(&mut all, asked);
    typed(all)
}

/// `asked`, and what the kernel keeps in one file with it, which alone would be reset.
fn completed(asked: &Value, all: &LinuxResources) -> Result<LinuxResources, Error> {
    let all = serde_json::to_value(all).unwrap_or_default();
    let mut completed = asked.clone();
    for (section, together) in [("cpu", ["quota", "period"]), ("memory", ["limit", "swap"])] {
        let Some(fields) = completed.get_mut(section).and_then(Value::as_object_mut) else {
            continue;
        };
        if together.iter().any(|name| is_said(fields, name)) {
            for name in together.iter().filter(|name| !is_said(fields, name)).collect::<Vec<_>>() {
                let known = all.get(section).and_then(|section| section.get(*name));
                if let Some(known) = known.filter(|known| !known.is_null()) {
                    fields.insert((*name).to_owned(), known.clone());
                }
            }
        }
    }
    typed(completed)
}

fn is_said(fields: &Map<String, Value>, name: &str) -> bool {
    fields.get(name).is_some_and(|value| !value.is_null())
}

/// Objects are laid over each other, anything else takes the place of what was there; null and
/// an empty text say nothing.
fn lay_over(below: &mut Value, above: &Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (name, value) in above {
                lay_over(below.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (_, Value::String(text)) if text.is_empty() => {}
        (below, above) => *below = above.clone(),
    }
}

fn typed(resources: Value) -> Result<LinuxResources, Error> {
    if resources.is_null() {
        return Ok(LinuxResources::default());
    }
    serde_path_to_error::deserialize(resources).map_err(|error| {
        Error::Spec(format!("linux.resources.{}: {}", error.path(), error.inner()))
    })
}

fn remember(record: &mut Record, resources: LinuxResources) {
    let mut linux = record.spec.linux().clone().unwrap_or_default();
    linux.set_resources(Some(resources));
    record.spec.set_linux(Some(linux));
}

fn update_rdt(record: &mut Record, asked: &IntelRdt) -> Result<(), Error> {
    let mut linux = record.spec.linux().clone().unwrap_or_default();
    let Some(mut own) = linux.intel_rdt().clone() else {
        let text = "linux.intelRdt: the container has none that could be updated";
        return Err(Error::Spec(text.to_owned()));
    };
    set_schemata(&mut own, asked);
    linux.set_intel_rdt(Some(own));
    record.spec.set_linux(Some(linux));
    let Some(life) = record.process else { return Ok(()) };
    match spec::rdt(&record.spec, &record.id)? {
        Some(allocation) => Resctrl::find()?.apply(&allocation, life.pid),
        None => Ok(()),
    }
}

fn set_schemata(own: &mut LinuxIntelRdt, asked: &IntelRdt) {
    if asked.l3_cache.is_some() {
        own.set_l3_cache_schema(asked.l3_cache.clone());
    }
    if asked.memory_bandwidth.is_some() {
        own.set_mem_bw_schema(asked.memory_bandwidth.clone());
    }
}

impl Update {
    /// Reads limits from a JSON document.
    ///
    /// # Errors
    /// [`Error::Spec`] if it is none, or is no object.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let resources: Value = serde_json::from_slice(json)
            .map_err(|error| Error::Spec(format!("resources: {error}")))?;
        if !resources.is_object() {
            return Err(Error::Spec("resources: not a JSON object".to_owned()));
        }
        Ok(Self { resources, rdt: IntelRdt::default() })
    }

    /// Reads limits from a file, or from standard input.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and if there is no such file.
    pub fn read(path: &std::path::Path) -> Result<Self, Error> {
        let read = match path.as_os_str() == "-" {
            true => std::io::read_to_string(std::io::stdin()).map(String::into_bytes),
            false => std::fs::read(path),
        };
        Self::parse(&read.storing("read", path)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn known() -> LinuxResources {
        typed(json!({"cpu": {"quota": 5000, "period": 10000, "shares": 512},
            "memory": {"limit": 1 << 20}}))
        .unwrap()
    }

    #[test]
    fn what_is_not_said_stays() {
        let all =
            merged(&known(), &json!({"cpu": {"quota": 7000, "cpus": ""}, "pids": {"limit": 9}}));
        let all = all.unwrap();
        let cpu = all.cpu().as_ref().unwrap();
        assert_eq!((cpu.quota(), cpu.period(), cpu.shares()), (Some(7000), Some(10000), Some(512)));
        assert_eq!(all.pids().unwrap().limit(), 9);
        assert_eq!(all.memory().unwrap().limit(), Some(1 << 20));
    }

    #[test]
    fn a_number_of_processes_that_is_not_said_is_not_zero() {
        for (asked, pids) in [
            (json!({"pids": {}}), None),
            (json!({"pids": {"limit": null}}), None),
            (json!({"pids": {"limit": 0}}), Some(0)),
            (json!({"pids": {"limit": -1}}), Some(-1)),
        ] {
            let mut said = asked.clone();
            spec::drop_unsaid(&mut said);
            let all = merged(&known(), &said).unwrap();
            assert_eq!(all.pids().map(|pids| pids.limit()), pids, "{asked}");
        }
    }

    #[test]
    fn what_shares_a_file_is_written_together() {
        let asked = json!({"cpu": {"period": 20000}});
        let all = merged(&known(), &asked).unwrap();
        let written = completed(&asked, &all).unwrap();
        let cpu = written.cpu().as_ref().unwrap();
        assert_eq!((cpu.quota(), cpu.period(), cpu.shares()), (Some(5000), Some(20000), None));
        assert!(written.memory().is_none());
    }

    #[test]
    fn nonsense_is_refused_by_field() {
        let error = merged(&known(), &json!({"cpu": {"quota": "x"}})).unwrap_err().to_string();
        assert!(error.contains("linux.resources.cpu"), "{error}");
        assert!(Update::parse(b"[]").is_err());
        assert!(Update::parse(b"{").is_err());
    }
}
