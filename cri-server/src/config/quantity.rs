//! Values with a unit or a notation of their own: time limits, sizes, modes.

use std::time::Duration;

use toml::Value;
use toml::de::DeValue;

use super::value::Setting;

/// A length of time that is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout(Duration);

impl Timeout {
    pub(super) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub(super) const fn minutes(minutes: u64) -> Self {
        Self::seconds(minutes * 60)
    }

    /// The length of time.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl Setting for Timeout {
    fn expected() -> String {
        format!("{}, above zero", Duration::expected())
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        Duration::read(value).filter(|duration| !duration.is_zero()).map(Self)
    }

    fn write(&self) -> Value {
        self.0.write()
    }
}

/// A number of bytes above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(u64);

/// "B" ends every other unit too, so it is tried last.
const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Size {
    pub(super) const fn kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    pub(super) const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    pub(super) const fn gib(gib: u64) -> Self {
        Self(gib << 30)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Setting for Size {
    fn expected() -> String {
        "a size like \"16MiB\", above zero".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        let text = value.as_str()?;
        let (number, unit) =
            UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))?;
        let bytes = number.parse::<u64>().ok()?.checked_mul(unit)?;
        (bytes > 0).then_some(Self(bytes))
    }

    fn write(&self) -> Value {
        let whole = UNITS.iter().find(|(_, unit)| self.0.is_multiple_of(*unit));
        let (name, unit) = whole.unwrap_or(&("B", 1));
        Value::String(format!("{}{name}", self.0 / unit))
    }
}

/// Permission bits of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(u32);

impl Mode {
    pub(super) const fn new(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits, as chmod(2) takes them.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl Setting for Mode {
    fn expected() -> String {
        "permissions in octal like \"0660\"".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Self> {
        let digits = value.as_str().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
        let bits = u32::from_str_radix(digits, 8).ok()?;
        (bits <= 0o777).then_some(Self(bits))
    }

    fn write(&self) -> Value {
        Value::String(format!("{:04o}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Setting>(text: &str) -> Option<T> {
        T::read(&DeValue::String(text.into()))
    }

    #[test]
    fn sizes_are_read_and_written_in_their_largest_whole_unit() {
        for (text, bytes) in [("16MiB", 16 << 20), ("1500B", 1500), ("64GiB", 64 << 30)] {
            let size: Size = read(text).unwrap();
            assert_eq!((size.bytes(), size.write()), (bytes, Value::from(text)));
        }
        assert_eq!(read::<Size>("2048KiB"), read::<Size>("2MiB"));
    }

    #[test]
    fn sizes_without_a_binary_unit_or_without_bytes_are_refused() {
        for text in ["16", "16MB", "0B", "-1B", "MiB", "1.5GiB", "99999999999TiB"] {
            assert_eq!(read::<Size>(text), None, "{text}");
        }
    }

    #[test]
    fn modes_are_octal_permission_bits() {
        assert_eq!(read::<Mode>("0660").map(Mode::bits), Some(0o660));
        assert_eq!(read::<Mode>("660").map(Mode::bits), Some(0o660));
        for text in ["", "0888", "+660", "rw-rw----", "04755"] {
            assert_eq!(read::<Mode>(text), None, "{text}");
        }
    }

    #[test]
    fn a_timeout_of_zero_is_refused() {
        assert_eq!(read::<Timeout>("0s"), None);
        assert_eq!(read::<Timeout>("2m"), Some(Timeout::minutes(2)));
    }
}
