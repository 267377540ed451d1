//! A real bus, with a manager on it that does what a test says. What systemd itself does is
//! tested where it is the first process.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex as StdMutex;

use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedVariant};

use super::*;
use crate::cgroup::systemd::of_pod;

/// A message bus of our own.
struct Bus {
    daemon: Child,
    address: String,
}

impl Bus {
    fn start(directory: &Path) -> Self {
        let address = format!("unix:path={}", directory.join("bus").display());
        let config = directory.join("bus.conf");
        let text = format!(
            "<busconfig><type>custom</type><listen>{address}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow send_destination=\"*\"/><allow own=\"*\"/>\
             <allow user=\"*\"/><allow receive_sender=\"*\"/></policy></busconfig>"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("dbus-daemon");
        command.arg("--nofork").arg("--print-address=1").arg("--config-file").arg(&config);
        let mut daemon = command.stdout(Stdio::piped()).spawn().expect("run dbus-daemon");
        let mut line = String::new();
        // It prints the address once it listens.
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "dbus-daemon does not start");
        Self { daemon, address }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }
}

type Seen = Arc<StdMutex<Vec<String>>>;

/// Does what the name of a unit says.
struct Fake {
    seen: Seen,
    properties: Arc<StdMutex<HashMap<String, OwnedVariant>>>,
    failed: bool,
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Fake {
    fn subscribe(&mut self) {
        self.saw("subscribe");
    }

    async fn start_transient_unit(
        &mut self,
        name: &str,
        mode: &str,
        properties: Vec<(String, OwnedVariant)>,
        _auxiliary: Vec<(String, Vec<(String, OwnedVariant)>)>,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<OwnedObjectPath, FakeError> {
        self.saw(&format!("start {name} ({mode})"));
        if name == "exists.scope" && !self.failed {
            return Err(FakeError::UnitExists("Unit exists.scope already exists.".to_owned()));
        }
        if name == "refused.scope" {
            return Err(FakeError::BadProperty("Cannot set property".to_owned()));
        }
        self.properties.lock().unwrap().extend(properties);
        Ok(end(name, emitter).await)
    }

    async fn stop_unit(
        &mut self,
        name: &str,
        mode: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<OwnedObjectPath, FakeError> {
        self.saw(&format!("stop {name} ({mode})"));
        if name == "gone.scope" {
            return Err(FakeError::NoSuchUnit("Unit gone.scope not loaded.".to_owned()));
        }
        Ok(end(name, emitter).await)
    }

    fn set_unit_properties(
        &mut self,
        name: &str,
        runtime: bool,
        properties: Vec<(String, OwnedVariant)>,
    ) {
        self.saw(&format!("set {name} ({runtime})"));
        self.properties.lock().unwrap().extend(properties);
    }

    fn reset_failed_unit(&mut self, name: &str) {
        self.saw(&format!("reset {name}"));
        self.failed = true;
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;
}

impl Fake {
    fn saw(&self, call: &str) {
        self.seen.lock().unwrap().push(call.to_owned());
    }
}

/// Tells of the end of a job before the call that began it is answered: who would listen only
/// after that would wait for ever.
async fn end(name: &str, emitter: SignalEmitter<'_>) -> OwnedObjectPath {
    let path = |number| {
        OwnedObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{number}")).unwrap()
    };
    let other = Fake::job_removed(&emitter, 1, path(1), "other.scope", "failed");
    other.await.unwrap();
    let result = if name == "fails.scope" { "failed" } else { "done" };
    if name != "silent.scope" {
        Fake::job_removed(&emitter, 2, path(2), name, result).await.unwrap();
    }
    path(2)
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop.systemd1")]
enum FakeError {
    #[zbus(error)]
    ZBus(zbus::Error),
    UnitExists(String),
    NoSuchUnit(String),
    BadProperty(String),
}

struct Stage {
    bus: Bus,
    directory: tempfile::TempDir,
    manager: Option<Connection>,
    systemd: Systemd,
    seen: Seen,
    properties: Arc<StdMutex<HashMap<String, OwnedVariant>>>,
}

impl Stage {
    async fn set(patience: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bus = Bus::start(directory.path());
        let systemd = Systemd::with_patience(Some(&bus.address), patience);
        let (seen, properties) = Default::default();
        let mut stage = Self { bus, directory, manager: None, systemd, seen, properties };
        stage.serve().await;
        stage
    }

    async fn serve(&mut self) {
        let (seen, properties) = (Arc::clone(&self.seen), Arc::clone(&self.properties));
        let fake = Fake { seen, properties, failed: false };
        let builder = zbus::connection::Builder::address(self.bus.address.as_str());
        let builder = builder.serve_at("/org/freedesktop/systemd1", fake);
        let builder = builder.name("org.freedesktop.systemd1");
        self.manager = Some(builder.build().await.unwrap());
    }

    async fn start(&self, name: &str) -> Result<(), Error> {
        self.systemd.start_scope(&unit(name), "a pod", 42, &of_pod()).await
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn unit(name: &str) -> Unit {
    Unit::new("a-b.slice", "", name).unwrap()
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_scope_is_started_changed_and_stopped() {
    let stage = Stage::set(LONG).await;
    stage.start("good").await.unwrap();
    let more = [Property { name: "MemoryMax", value: Value::Number(7) }];
    stage.systemd.set(&unit("good"), &more).await.unwrap();
    stage.systemd.stop(&unit("good")).await.unwrap();
    stage.systemd.stop(&unit("gone")).await.unwrap();
    let expected = [
        "subscribe",
        "start good.scope (fail)",
        "set good.scope (true)",
        "stop good.scope (replace)",
        "reset good.scope",
        "stop gone.scope (replace)",
        "reset gone.scope",
    ];
    assert_eq!(stage.seen(), expected);
    let properties = stage.properties.lock().unwrap();
    let text = |name: &str| String::try_from(properties[name].clone()).unwrap();
    let number = |name: &str| u64::try_from(properties[name].clone()).unwrap();
    assert_eq!(text("Slice"), "a-b.slice");
    assert!(bool::try_from(properties["Delegate"].clone()).unwrap());
    assert_eq!(Vec::<u32>::try_from(properties["PIDs"].clone()).unwrap(), [42]);
    assert_eq!((number("TasksMax"), number("MemoryMax")), (u64::MAX, 7));
}

#[tokio::test]
async fn what_systemd_refuses_is_told_and_leaves_no_unit() {
    let stage = Stage::set(LONG).await;
    let refused = stage.start("refused").await.unwrap_err().to_string();
    assert_eq!(refused, "start unit refused.scope: systemd: Cannot set property");
    let failed = stage.start("fails").await.unwrap_err().to_string();
    assert_eq!(failed, "start unit fails.scope: systemd: its job: failed");
    let seen = stage.seen();
    assert!(seen.contains(&"stop fails.scope (replace)".to_owned()), "{seen:?}");
    assert!(seen.contains(&"reset fails.scope".to_owned()), "{seen:?}");
}

#[tokio::test]
async fn a_unit_that_failed_before_makes_room() {
    let stage = Stage::set(LONG).await;
    stage.start("exists").await.unwrap();
    let expected = [
        "subscribe",
        "start exists.scope (fail)",
        "stop exists.scope (replace)",
        "reset exists.scope",
        "start exists.scope (fail)",
    ];
    assert_eq!(stage.seen(), expected);
}

#[tokio::test]
async fn a_job_that_does_not_end_is_given_up() {
    let stage = Stage::set(Duration::from_millis(300)).await;
    let error = stage.start("silent").await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error}");
    // The next one is not held up.
    stage.start("good").await.unwrap();
}

#[tokio::test]
async fn a_bus_that_was_restarted_is_connected_to_again() {
    let mut stage = Stage::set(LONG).await;
    stage.start("good").await.unwrap();
    stage.bus.daemon.kill().unwrap();
    stage.bus.daemon.wait().unwrap();
    stage.bus = Bus::start(stage.directory.path());
    stage.serve().await;
    stage.seen();
    stage.start("better").await.unwrap();
    assert_eq!(stage.seen(), ["subscribe", "start better.scope (fail)"]);
}

#[tokio::test]
async fn without_a_bus_there_is_an_error() {
    let systemd = Systemd::new(Some("unix:path=/nonexistent/bus"));
    let error = systemd.stop(&unit("good")).await.unwrap_err().to_string();
    assert!(error.starts_with("stop unit good.scope: systemd:"), "{error}");
}
