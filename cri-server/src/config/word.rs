//! Values that are one of a few words, and names with a fixed shape.

use std::fmt;

use toml::Value;
use toml::de::DeValue;

use super::value::Setting;

/// Defines an enum whose values are words.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)* })
            }
        }

        impl Setting for $name {
            fn expected() -> String {
                let words = [$(concat!("\"", $word, "\"")),*];
                format!("one of {}", words.join(", "))
            }

            fn read(value: &DeValue<'_>) -> Option<Self> {
                match value.as_str()? { $($word => Some(Self::$variant),)* _ => None }
            }

            fn write(&self) -> Value {
                Value::String(self.to_string())
            }
        }
    };
}

words! {
    /// How much berthd logs.
    LogLevel {
        /// What failed and cannot mend itself.
        Error = "error",
        /// Also what failed and was survived.
        Warn = "warn",
        /// Also every change that was made.
        Info = "info",
        /// Also every request, and the steps of each change.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

words! {
    /// How a log line looks.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

words! {
    /// What to do with a limit whose cgroup controller the node does not have.
    MissingControllers {
        /// Fail the request.
        Refuse = "refuse",
        /// Run without the limit; say so in the log and in Status.
        Tolerate = "tolerate",
    }
}

words! {
    /// Who makes cgroups.
    CgroupDriver {
        /// berthd itself.
        Cgroupfs = "cgroupfs",
        /// systemd, down to a pod's scope; berthd below that.
        Systemd = "systemd",
    }
}

/// Name of a Linux capability. Whether the kernel has it shows when it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability(String);

impl Capability {
    pub(super) fn named(rest: &str) -> Self {
        Self(format!("CAP_{rest}"))
    }

    /// The full name, as in `CAP_CHOWN`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Setting for Capability {
    fn expected() -> String {
        "a capability like \"CAP_CHOWN\"".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        let rest = value.as_str()?.strip_prefix("CAP_")?;
        let valid = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        valid.then(|| Self::named(rest))
    }

    fn write(&self) -> Value {
        Value::String(self.0.clone())
    }
}
