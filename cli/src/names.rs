//! Which pod or container a person means.
//!
//! An object is named by its id, by its name, or by the beginning of its id, in this order. A
//! pod's name is `NAME` or `NAMESPACE/NAME`; a container's is `NAME` or `POD/NAME`. Of several
//! attempts of one thing, which is what restarts leave behind, a name means the last one.
//! Never is one of several guessed: the message lists them.

mod error;
mod image;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::Hash;

pub(crate) use error::NameError;
pub(crate) use image::{find_image, image_by_name, image_name};

use crate::api::runtime::{Container, PodSandbox};
use crate::node::{Cri, Refused};

/// The pods and containers of a node, to be asked by name.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// All pods, newest first.
    pub(crate) pods: Vec<PodSandbox>,
    /// All containers, newest first.
    pub(crate) containers: Vec<Container>,
}

/// A pod or a container.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Object<'a> {
    /// A pod.
    Pod(&'a PodSandbox),
    /// A container.
    Container(&'a Container),
}

/// What kind of thing is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A pod.
    Pod,
    /// A container.
    Container,
    /// Either of them.
    Any,
}

impl Names {
    /// Asks the node for all of them.
    pub(crate) async fn read(cri: &Cri) -> Result<Self, Refused> {
        let (mut pods, mut containers) = tokio::try_join!(cri.list_pods(), cri.list_containers())?;
        pods.sort_by_key(|pod| std::cmp::Reverse(pod.created_at));
        containers.sort_by_key(|container| std::cmp::Reverse(container.created_at));
        Ok(Self { pods, containers })
    }

    /// A pod or a container. Where both have the name, and the container is in the pod, the pod
    /// is meant: it is what goes by that name.
    pub(crate) fn object(&self, text: &str) -> Result<Object<'_>, NameError> {
        self.find(text, Kind::Any)
    }

    /// A container. A pod's name stands for the container in it, if there is only one.
    pub(crate) fn container(&self, text: &str) -> Result<&Container, NameError> {
        match self.find(text, Kind::Container) {
            Ok(Object::Container(container)) => Ok(container),
            Ok(Object::Pod(_)) => Err(self.unknown(text, Kind::Container)),
            Err(NameError::Unknown(message)) => {
                self.only_container(text).unwrap_or(Err(NameError::Unknown(message)))
            }
            Err(ambiguous) => Err(ambiguous),
        }
    }

    /// The container of the pod that is called `text`, if there is such a pod with containers.
    fn only_container(&self, text: &str) -> Option<Result<&Container, NameError>> {
        let Ok(Object::Pod(pod)) = self.find(text, Kind::Pod) else { return None };
        let inside = self.current_containers().into_iter().filter(|c| c.pod_sandbox_id == pod.id);
        match inside.collect::<Vec<_>>().as_slice() {
            [] => None,
            [one] => Some(Ok(one)),
            several => {
                let candidates = several.iter().map(|c| self.describe(Object::Container(c)));
                Some(Err(NameError::ambiguous(text, candidates)))
            }
        }
    }

    fn find(&self, text: &str, kind: Kind) -> Result<Object<'_>, NameError> {
        let all = self.objects(kind);
        if let Some(object) = all.iter().find(|object| object.id() == text) {
            return Ok(*object);
        }
        let mut found = self.named(text, kind);
        if found.is_empty() && !text.is_empty() {
            found = all.into_iter().filter(|object| object.id().starts_with(text)).collect();
        }
        match found.as_slice() {
            [] => Err(self.unknown(text, kind)),
            [one] => Ok(*one),
            several => {
                let candidates = several.iter().map(|object| self.describe(*object));
                Err(NameError::ambiguous(text, candidates))
            }
        }
    }

    fn named(&self, text: &str, kind: Kind) -> Vec<Object<'_>> {
        let pods = self.current_pods().into_iter().filter(|pod| is_called(pod, text));
        let pods: Vec<_> = pods.filter(|_| kind != Kind::Container).collect();
        let mut containers = self.current_containers();
        containers.retain(|container| {
            let inside = pods.iter().any(|pod| pod.id == container.pod_sandbox_id);
            kind != Kind::Pod && !inside && self.container_is_called(container, text)
        });
        let pods = pods.into_iter().map(Object::Pod);
        pods.chain(containers.into_iter().map(Object::Container)).collect()
    }

    fn container_is_called(&self, container: &Container, text: &str) -> bool {
        let name = container_name(container);
        let of_pod = |pod: &PodSandbox, text: &str| is_called(pod, text) || pod.id == text;
        name == text
            || text.rsplit_once('/').is_some_and(|(pod, last)| {
                name == last && self.pod_of(container).is_some_and(|p| of_pod(p, pod))
            })
    }

    fn objects(&self, kind: Kind) -> Vec<Object<'_>> {
        let pods = self.pods.iter().map(Object::Pod).filter(|_| kind != Kind::Container);
        let containers = self.containers.iter().map(Object::Container);
        pods.chain(containers.filter(|_| kind != Kind::Pod)).collect()
    }

    /// The last attempt of each pod.
    fn current_pods(&self) -> Vec<&PodSandbox> {
        last_attempts(&self.pods, |pod| {
            let metadata = pod.metadata.as_ref();
            let key = metadata.map(|m| (m.namespace.as_str(), m.name.as_str(), m.uid.as_str()));
            (key, metadata.map_or(0, |m| m.attempt))
        })
    }

    /// The last attempt of each container.
    fn current_containers(&self) -> Vec<&Container> {
        last_attempts(&self.containers, |container| {
            let attempt = container.metadata.as_ref().map_or(0, |m| m.attempt);
            ((container.pod_sandbox_id.as_str(), container_name(container)), attempt)
        })
    }

    /// The pod that a container is in.
    pub(crate) fn pod_of(&self, container: &Container) -> Option<&PodSandbox> {
        self.pods.iter().find(|pod| pod.id == container.pod_sandbox_id)
    }

    /// All containers of a pod.
    pub(crate) fn containers_of(&self, pod: &str) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(move |container| container.pod_sandbox_id == pod)
    }

    /// How an object is called in messages: its whole name.
    pub(crate) fn full_name(&self, object: Object<'_>) -> String {
        match object {
            Object::Pod(pod) => pod_name(pod),
            Object::Container(container) => {
                let name = container_name(container);
                let pod = self.pod_of(container).map(pod_name);
                pod.map_or(name.to_owned(), |pod| format!("{pod}/{name}"))
            }
        }
    }

    fn describe(&self, object: Object<'_>) -> String {
        let id = crate::table::id(object.id(), false);
        format!("{} {id} ({})", object.kind(), self.full_name(object))
    }

    fn unknown(&self, text: &str, kind: Kind) -> NameError {
        let all = self.objects(kind);
        let near = |object: &&Object<'_>| self.full_name(**object).contains(text);
        let mut candidates: Vec<_> = all.iter().filter(near).collect();
        if candidates.is_empty() {
            candidates = all.iter().collect();
        }
        let candidates = candidates.into_iter().map(|object| self.describe(*object));
        NameError::unknown(kind, text, candidates)
    }
}

impl<'a> Object<'a> {
    /// Its id.
    pub(crate) fn id(self) -> &'a str {
        match self {
            Self::Pod(pod) => &pod.id,
            Self::Container(container) => &container.id,
        }
    }

    /// What it is.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Pod(_) => "pod",
            Self::Container(_) => "container",
        }
    }
}

/// `NAMESPACE/NAME`.
pub(crate) fn pod_name(pod: &PodSandbox) -> String {
    let metadata = pod.metadata.clone().unwrap_or_default();
    format!("{}/{}", metadata.namespace, metadata.name)
}

/// The name that a container has in its pod.
pub(crate) fn container_name(container: &Container) -> &str {
    container.metadata.as_ref().map_or("", |metadata| &metadata.name)
}

fn is_called(pod: &PodSandbox, text: &str) -> bool {
    pod.metadata.as_ref().is_some_and(|m| m.name == text) || pod_name(pod) == text
}

/// Of things with one key, that with the highest number; in the order of `all`.
fn last_attempts<'a, T, K: Eq + Hash>(all: &'a [T], key: impl Fn(&'a T) -> (K, u32)) -> Vec<&'a T> {
    let mut last = HashMap::new();
    for thing in all {
        let (key, attempt) = key(thing);
        let highest = last.entry(key).or_insert(attempt);
        *highest = attempt.max(*highest);
    }
    let is_last = |thing: &&'a T| {
        let (key, attempt) = key(thing);
        last.get(&key) == Some(&attempt)
    };
    all.iter().filter(is_last).collect()
}
