//! The conversation with systemd, over the system bus.
//!
//! One connection serves a whole daemon. When it breaks, because the bus was restarted, the call
//! is made once more over a new one. Units are started and stopped by *jobs*: a call answers
//! with the job's name, and a signal tells of its end; who listens only after the call may have
//! missed that.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::Mutex;
use tokio::time::{error::Elapsed, timeout};
use zbus::{OwnedObjectPath, Variant};

use crate::error::Error;

use super::Unit;
use super::properties::{Property, Value, of_scope};

/// How long systemd may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// The part of systemd's manager that is used here.
#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;

    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        auxiliary: &[(&str, &[(&str, Variant<'_>)])],
    ) -> zbus::Result<OwnedObjectPath>;

    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    fn set_unit_properties(
        &self,
        name: &str,
        runtime: bool,
        properties: &[(&str, Variant<'_>)],
    ) -> zbus::Result<()>;

    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;

    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: &str, result: &str);
}

/// The systemd of this machine; clones share a connection.
#[derive(Clone, Debug)]
pub struct Systemd(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Address of the bus; the system's if absent.
    bus: Option<String>,
    patience: Duration,
    manager: Mutex<Option<ManagerProxy<'static>>>,
}

/// Why a call failed.
#[derive(Debug)]
enum Fault {
    /// The bus, or what systemd answers.
    Bus(zbus::Error),
    /// A job that did not end as it should.
    Job(String),
    /// No answer in time.
    Late,
}

impl From<zbus::Error> for Fault {
    fn from(error: zbus::Error) -> Self {
        Self::Bus(error)
    }
}

impl From<Elapsed> for Fault {
    fn from(_: Elapsed) -> Self {
        Self::Late
    }
}

impl Fault {
    /// Whether systemd answers with this error of its own.
    fn is(&self, name: &str) -> bool {
        let Self::Bus(zbus::Error::MethodError(found, _, _)) = self else { return false };
        found.as_str().strip_prefix("org.freedesktop.systemd1.") == Some(name)
    }

    /// Whether nobody has answered, so that another connection may help.
    fn is_broken(&self) -> bool {
        match self {
            Self::Bus(zbus::Error::MethodError(name, _, _)) => matches!(
                name.as_str(),
                "org.freedesktop.DBus.Error.NoReply"
                    | "org.freedesktop.DBus.Error.Disconnected"
                    | "org.freedesktop.DBus.Error.ServiceUnknown"
                    | "org.freedesktop.DBus.Error.NameHasNoOwner"
            ),
            Self::Bus(_) => true,
            Self::Job(_) | Self::Late => false,
        }
    }
}

/// What is asked of the manager.
#[derive(Clone, Copy, Debug)]
enum Call<'a> {
    Start(&'a str, &'a [Property]),
    Stop(&'a str),
    Set(&'a str, &'a [Property]),
    Reset(&'a str),
}

impl Call<'_> {
    async fn make(self, manager: &ManagerProxy<'_>) -> Result<(), Fault> {
        match self {
            Self::Set(name, properties) => {
                Ok(manager.set_unit_properties(name, true, &variants(properties)).await?)
            }
            Self::Reset(name) => Ok(manager.reset_failed_unit(name).await?),
            Self::Start(..) | Self::Stop(_) => self.make_and_wait(manager).await,
        }
    }

    /// Makes a call that answers with a job, and waits for the end of that.
    async fn make_and_wait(self, manager: &ManagerProxy<'_>) -> Result<(), Fault> {
        let mut ends = manager.receive_job_removed().await?;
        let job = match self {
            Self::Start(name, properties) => {
                manager.start_transient_unit(name, "fail", &variants(properties), &[]).await?
            }
            Self::Stop(name) => manager.stop_unit(name, "replace").await?,
            Self::Set(..) | Self::Reset(_) => return Ok(()),
        };
        while let Some(signal) = ends.next().await {
            let end = signal.args()?;
            if end.job == job {
                return match end.result {
                    "done" => Ok(()),
                    other => Err(Fault::Job(other.to_owned())),
                };
            }
        }
        Err(Fault::Bus(zbus::Error::Failure("the connection was closed".to_owned())))
    }
}

impl Systemd {
    /// The systemd on the bus at `address`, the system's if absent. Nothing is connected to
    /// before the first call.
    pub fn new(address: Option<&str>) -> Self {
        Self::with_patience(address, PATIENCE)
    }

    fn with_patience(address: Option<&str>, patience: Duration) -> Self {
        let bus = address.map(str::to_owned);
        Self(Arc::new(Inner { bus, patience, manager: Mutex::default() }))
    }

    /// Starts a scope, whose first process is `pid`; returns when its cgroup is there.
    ///
    /// # Errors
    /// [`Error::Systemd`] if systemd refuses or does not answer; there is no such unit then.
    pub async fn start_scope(
        &self,
        unit: &Unit,
        description: &str,
        pid: u32,
        properties: &[Property],
    ) -> Result<(), Error> {
        let all = [&of_scope(description, &unit.slice, pid), properties].concat();
        let start = Call::Start(&unit.name, &all);
        let mut started = self.call(start).await;
        if started.as_ref().is_err_and(|fault| fault.is("UnitExists")) {
            // A failed unit keeps its name until somebody has looked at it.
            let _ = self.stop_and_reset(&unit.name).await;
            started = self.call(start).await;
        }
        if started.is_err() {
            let _ = self.stop_and_reset(&unit.name).await;
        }
        started.map_err(|fault| failed("start", unit, fault, self.0.patience))
    }

    /// Gives a unit other properties, until the machine is restarted.
    ///
    /// # Errors
    /// [`Error::Systemd`] if systemd refuses or does not answer.
    pub async fn set(&self, unit: &Unit, properties: &[Property]) -> Result<(), Error> {
        let set = self.call(Call::Set(&unit.name, properties)).await;
        set.map_err(|fault| failed("set properties of", unit, fault, self.0.patience))
    }

    /// Stops a unit, which ends what runs in it, and forgets it; one that is gone is fine.
    ///
    /// # Errors
    /// [`Error::Systemd`] if systemd refuses or does not answer.
    pub async fn stop(&self, unit: &Unit) -> Result<(), Error> {
        let stopped = self.stop_and_reset(&unit.name).await;
        stopped.map_err(|fault| failed("stop", unit, fault, self.0.patience))
    }

    async fn stop_and_reset(&self, name: &str) -> Result<(), Fault> {
        let stopped = self.call(Call::Stop(name)).await;
        // Nothing to reset is the rule.
        let _ = self.call(Call::Reset(name)).await;
        match stopped {
            Err(fault) if fault.is("NoSuchUnit") => Ok(()),
            stopped => stopped,
        }
    }

    /// Makes a call, within the deadline.
    async fn call(&self, call: Call<'_>) -> Result<(), Fault> {
        let result = timeout(self.0.patience, self.call_or_reconnect(call)).await;
        if result.is_err() {
            // Whatever it waits for, the next caller does not have to.
            *self.0.manager.lock().await = None;
        }
        result?
    }

    /// Makes a call, over a new connection if the one that was there turns out to be broken.
    async fn call_or_reconnect(&self, call: Call<'_>) -> Result<(), Fault> {
        let (manager, new) = self.manager().await?;
        let result = call.make(&manager).await;
        if !result.as_ref().is_err_and(Fault::is_broken) {
            return result;
        }
        *self.0.manager.lock().await = None;
        if new {
            return result;
        }
        let (manager, _) = self.manager().await?;
        call.make(&manager).await
    }

    /// The manager, and whether it has just been connected to.
    async fn manager(&self) -> Result<(ManagerProxy<'static>, bool), Fault> {
        let mut manager = self.0.manager.lock().await;
        if let Some(known) = &*manager {
            return Ok((known.clone(), false));
        }
        let connection = match &self.0.bus {
            None => zbus::Connection::system().await?,
            Some(address) => zbus::connection::Builder::address(address.as_str()).build().await?,
        };
        let new = ManagerProxy::new(&connection).await?;
        // Else systemd tells nobody of jobs.
        new.subscribe().await?;
        *manager = Some(new.clone());
        Ok((new, true))
    }
}

fn variants(properties: &[Property]) -> Vec<(&str, Variant<'_>)> {
    let variant = |value: &Value| match value.clone() {
        Value::Bool(value) => Variant::from(value),
        Value::Text(value) => Variant::from(value),
        Value::Number(value) => Variant::from(value),
        Value::Pids(value) => Variant::from(value),
        Value::Bits(value) => Variant::from(value),
    };
    properties.iter().map(|property| (property.name, variant(&property.value))).collect()
}

fn failed(attempt: &'static str, unit: &Unit, fault: Fault, after: Duration) -> Error {
    let unit = unit.name.clone();
    match fault {
        Fault::Late => Error::Deadline { attempt: format!("{attempt} unit {unit}"), after },
        Fault::Bus(zbus::Error::MethodError(name, text, _)) => {
            let cause = text.unwrap_or_else(|| name.to_string());
            Error::Systemd { attempt, unit, cause }
        }
        Fault::Bus(error) => Error::Systemd { attempt, unit, cause: error.to_string() },
        Fault::Job(result) => Error::Systemd { attempt, unit, cause: format!("its job: {result}") },
    }
}

#[cfg(test)]
mod tests;
