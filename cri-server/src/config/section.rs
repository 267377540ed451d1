//! A table of the file as a struct: declared once, with its texts.
//!
//! The doc comment of a key is both its rustdoc and the comment that
//! `berthd config default` prints above it, so the two cannot disagree.

use toml::Value;
use toml::de::DeValue;

/// A key of a table, as `config default` explains it.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// Lines of the explanation.
    pub(super) doc: &'static [&'static str],
}

/// Why a key could not be set.
pub(super) enum Refused {
    UnknownKey,
    /// The value is not what completes "expected ...".
    Expected(String),
}

/// What loading and printing need of a table, whichever it is.
pub(super) trait Section {
    /// Name of the table; empty for the top of the file.
    fn name(&self) -> &'static str;

    /// Lines that explain the table.
    fn doc(&self) -> &'static [&'static str];

    fn keys(&self) -> &'static [Key];

    fn set(&mut self, key: &str, value: &DeValue<'_>) -> Result<(), Refused>;

    /// The values, in the order of [`Section::keys`].
    fn values(&self) -> Vec<Value>;
}

/// Full name of a key: `grpc.socket`, or `root` at the top of the file.
pub(super) fn full_name(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

macro_rules! section {
    ($(#[doc = $doc:literal])* $name:ident = $table:literal {
        $($(#[doc = $key_doc:literal])* $key:ident: $kind:ty = $default:expr,)*
    }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $($(#[doc = $key_doc])* pub $key: $kind,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl $crate::config::section::Section for $name {
            fn name(&self) -> &'static str {
                $table
            }

            fn doc(&self) -> &'static [&'static str] {
                &[$($doc),*]
            }

            fn keys(&self) -> &'static [$crate::config::section::Key] {
                &[$($crate::config::section::Key {
                    name: stringify!($key),
                    doc: &[$($key_doc),*],
                }),*]
            }

            fn set(
                &mut self,
                key: &str,
                value: &toml::de::DeValue<'_>,
            ) -> Result<(), $crate::config::section::Refused> {
                use $crate::config::{section::Refused, value::Setting};
                match key {
                    $(stringify!($key) => match <$kind as Setting>::read(value) {
                        Some(value) => self.$key = value,
                        None => return Err(Refused::Expected(<$kind as Setting>::expected())),
                    },)*
                    _ => return Err(Refused::UnknownKey),
                }
                Ok(())
            }

            fn values(&self) -> Vec<toml::Value> {
                vec![$($crate::config::value::Setting::write(&self.$key)),*]
            }
        }
    };
}

pub(super) use section;
