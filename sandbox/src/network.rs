//! The pod network, as far as those who run pods have to do with it: its settings, what a pod can
//! ask of it, whether it is there, and how it fails. What speaks to plugins is [`berth_cni`].

pub use berth_cni::{
    Bandwidth, Capabilities, Error, Fault, NetworkStatus, NotReadyReason, PortMapping, Protocol,
    Resolver, Settings,
};
