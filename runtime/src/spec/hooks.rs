//! The hooks of a specification.

use oci_spec::runtime::{Hook as OciHook, Spec};

use crate::error::Error;
use crate::hooks::Kind;
use crate::plan::{self, About, Hook};

use super::at;

/// All hooks of a container, each list in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Once the namespaces exist; the old name of the next.
    pub prestart: Vec<Hook>,
    /// Once the namespaces exist, in those of the caller.
    pub create_runtime: Vec<Hook>,
    /// Before the root is changed, in those of the container.
    pub create_container: Vec<Hook>,
    /// Before the program, inside of the container.
    pub start_container: Vec<Hook>,
    /// Once the program runs, in the namespaces of the caller.
    pub poststart: Vec<Hook>,
    /// Once the container is gone, in the namespaces of the caller.
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// The hooks of one kind.
    pub fn of(&self, kind: Kind) -> &[Hook] {
        match kind {
            Kind::Prestart => &self.prestart,
            Kind::CreateRuntime => &self.create_runtime,
            Kind::CreateContainer => &self.create_container,
            Kind::StartContainer => &self.start_container,
            Kind::Poststart => &self.poststart,
            Kind::Poststop => &self.poststop,
        }
    }
}

/// Reads the hooks of a specification.
///
/// # Errors
/// [`Error::Spec`] if a path is not absolute, a timeout not positive, or a variable nameless.
pub fn hooks(spec: &Spec) -> Result<Hooks, Error> {
    let Some(hooks) = spec.hooks() else { return Ok(Hooks::default()) };
    // The name is old, and in use.
    #[allow(deprecated)]
    let prestart = hooks.prestart();
    Ok(Hooks {
        prestart: list(Kind::Prestart, prestart)?,
        create_runtime: list(Kind::CreateRuntime, hooks.create_runtime())?,
        create_container: list(Kind::CreateContainer, hooks.create_container())?,
        start_container: list(Kind::StartContainer, hooks.start_container())?,
        poststart: list(Kind::Poststart, hooks.poststart())?,
        poststop: list(Kind::Poststop, hooks.poststop())?,
    })
}

/// What the child runs of them, nothing if there is nothing; the id and the bundle in
/// [`About`] are for the caller to fill in.
///
/// A `startContainer` hook that says nothing of its environment has that of the program: it is
/// inside of the container and has no more rights than that. The others, which run with ours,
/// never see a variable of the container.
pub(super) fn plan(spec: &Spec, env: &[Vec<u8>]) -> Result<Option<plan::Hooks>, Error> {
    let Hooks { create_container, mut start_container, .. } = hooks(spec)?;
    if create_container.is_empty() && start_container.is_empty() {
        return Ok(None);
    }
    let asked = spec.hooks().iter().filter_map(|hooks| hooks.start_container().as_ref()).flatten();
    for (hook, asked) in start_container.iter_mut().zip(asked) {
        if asked.env().is_none() {
            hook.env = env.to_vec();
        }
    }
    Ok(Some(plan::Hooks { create_container, start_container, about: about(spec) }))
}

/// What hooks are told of the container that is in its specification.
pub fn about(spec: &Spec) -> About {
    About {
        oci_version: spec.version().clone(),
        annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
        ..About::default()
    }
}

fn list(kind: Kind, hooks: &Option<Vec<OciHook>>) -> Result<Vec<Hook>, Error> {
    let hooks = hooks.iter().flatten().enumerate();
    hooks.map(|(i, hook)| one(hook, &format!("hooks.{kind}[{i}]"))).collect()
}

fn one(hook: &OciHook, field: &str) -> Result<Hook, Error> {
    let path = hook.path().to_str().filter(|path| path.starts_with('/') && !path.contains('\0'));
    let path = path.ok_or_else(|| {
        at(format!("{field}.path"), format!("{:?} is no absolute path", hook.path()))
    })?;
    let timeout = match hook.timeout() {
        None => None,
        Some(seconds) => {
            Some(u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).ok_or_else(|| {
                at(format!("{field}.timeout"), format!("{seconds} is not greater than zero"))
            })?)
        }
    };
    let args = hook.args().clone().unwrap_or_default();
    if let Some(i) = args.iter().position(|arg| arg.contains('\0')) {
        return Err(at(format!("{field}.args[{i}]"), "has a NUL in it"));
    }
    let env = hook.env().clone().unwrap_or_default();
    for (i, variable) in env.iter().enumerate() {
        if variable.find('=').is_none_or(|index| index == 0) || variable.contains('\0') {
            let text = format!("{variable:?} is not of the form NAME=value");
            return Err(at(format!("{field}.env[{i}]"), text));
        }
    }
    let env = env.into_iter().map(String::into_bytes).collect();
    Ok(Hook { path: path.to_owned(), args, env, timeout })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(hooks: &str) -> Spec {
        let json =
            format!(r#"{{"ociVersion": "1.2.0", "annotations": {{"a": "b"}}, "hooks": {hooks}}}"#);
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn every_kind_is_read() {
        for kind in Kind::ALL {
            let spec = spec(&format!(r#"{{"{kind}": [{{"path": "/{kind}"}}]}}"#));
            let hooks = hooks(&spec).unwrap();
            assert_eq!(hooks.of(kind)[0].path, format!("/{kind}"));
        }
    }

    #[test]
    fn a_hook_is_carried_over() {
        let hook = r#"{"path": "/h", "args": ["h", "x"], "env": ["A=b="], "timeout": 3}"#;
        let hooks = hooks(&spec(&format!(r#"{{"createRuntime": [{hook}]}}"#))).unwrap();
        let expected = Hook {
            path: "/h".to_owned(),
            args: vec!["h".to_owned(), "x".to_owned()],
            env: vec![b"A=b=".to_vec()],
            timeout: Some(3),
        };
        assert_eq!(hooks.create_runtime, [expected]);
    }

    #[test]
    fn bad_hooks_are_refused_by_field() {
        for (hook, field) in [
            (r#"{"path": "bin/h"}"#, "path"),
            (r#"{"path": ""}"#, "path"),
            (r#"{"path": "/h", "timeout": 0}"#, "timeout"),
            (r#"{"path": "/h", "timeout": -1}"#, "timeout"),
            (r#"{"path": "/h", "env": ["A=b", "A"]}"#, "env[1]"),
            (r#"{"path": "/h", "env": ["=b"]}"#, "env[0]"),
            (r#"{"path": "/h", "args": ["\u0000"]}"#, "args[0]"),
        ] {
            let spec = spec(&format!(r#"{{"poststop": [{{"path": "/ok"}}, {hook}]}}"#));
            let error = hooks(&spec).unwrap_err().to_string();
            assert!(error.contains(&format!("hooks.poststop[1].{field}: ")), "{hook}: {error}");
        }
    }

    #[test]
    fn the_child_runs_two_kinds_and_knows_what_about() {
        let env = [b"IMAGE=1".to_vec()];
        let asked = r#"{"createContainer": [{"path": "/c"}], "createRuntime": [{"path": "/r"}],
            "startContainer": [{"path": "/s"}, {"path": "/t", "env": []}]}"#;
        let planned = plan(&spec(asked), &env).unwrap().unwrap();
        assert_eq!(planned.create_container.len(), 1);
        assert!(planned.create_container[0].env.is_empty());
        assert_eq!(planned.start_container[0].env, env);
        assert!(planned.start_container[1].env.is_empty());
        assert_eq!(planned.about.oci_version, "1.2.0");
        assert_eq!(planned.about.annotations["a"], "b");
        assert_eq!(plan(&spec(r#"{"poststop": [{"path": "/r"}]}"#), &env).unwrap(), None);
    }
}
