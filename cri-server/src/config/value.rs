//! What a value in the file may look like: the trait, and the plain types.
//!
//! A type accepts or refuses a TOML value and writes itself back; where the
//! value stood, and what to say about it, is its caller's business.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;
use toml::de::DeValue;

use super::duration;

/// A kind of value.
pub(super) trait Setting: Sized {
    /// Completes the sentence "expected ...".
    fn expected() -> String;

    /// The value, or `None` when it is of another kind or out of range.
    fn read(value: &DeValue<'_>) -> Option<Self>;

    /// The value as [`Setting::read`] accepts it.
    fn write(&self) -> Value;
}

impl Setting for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        value.as_bool()
    }

    fn write(&self) -> Value {
        Value::Boolean(*self)
    }
}

impl Setting for u32 {
    fn expected() -> String {
        format!("a whole number from 0 to {}", Self::MAX)
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        integer(value)?.try_into().ok()
    }

    fn write(&self) -> Value {
        Value::Integer(i64::from(*self))
    }
}

impl Setting for NonZeroUsize {
    fn expected() -> String {
        "a whole number above 0".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        Self::new(integer(value)?.try_into().ok()?)
    }

    fn write(&self) -> Value {
        Value::Integer(i64::try_from(self.get()).unwrap_or(i64::MAX))
    }
}

impl Setting for String {
    fn expected() -> String {
        "a string".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }

    fn write(&self) -> Value {
        Value::String(self.clone())
    }
}

impl Setting for PathBuf {
    fn expected() -> String {
        "an absolute path".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        let path = Self::from(value.as_str()?);
        path.is_absolute().then_some(path)
    }

    fn write(&self) -> Value {
        Value::String(self.display().to_string())
    }
}

impl Setting for SocketAddr {
    fn expected() -> String {
        "an address like \"127.0.0.1:9810\"".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        value.as_str()?.parse().ok()
    }

    fn write(&self) -> Value {
        Value::String(self.to_string())
    }
}

impl Setting for Duration {
    fn expected() -> String {
        "a length of time like \"10s\" or \"1m30s\"".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        duration::parse(value.as_str()?)
    }

    fn write(&self) -> Value {
        Value::String(duration::format(*self))
    }
}

/// The empty string stands for none.
impl<T: Setting> Setting for Option<T> {
    fn expected() -> String {
        format!("{} or an empty string", T::expected())
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        if value.as_str() == Some("") { Some(None) } else { T::read(value).map(Some) }
    }

    fn write(&self) -> Value {
        self.as_ref().map_or_else(|| Value::String(String::new()), T::write)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn expected() -> String {
        format!("a list, each item {}", T::expected())
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        value.as_array()?.iter().map(|item| T::read(item.get_ref())).collect()
    }

    fn write(&self) -> Value {
        Value::Array(self.iter().map(T::write).collect())
    }
}

/// The value in words, for "expected ..., found ...".
pub(super) fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| found(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// `value` as a whole number in whatever radix it was written.
pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}
