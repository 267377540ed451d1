//! The rules for names that become file names, environment variables and
//! interface names. The first two are the specification's, the third is the
//! kernel's (`dev_valid_name`).

/// `NAME_MAX`, in bytes.
pub(crate) const LONGEST_FILE_NAME: usize = 255;

/// `IFNAMSIZ` without its terminating zero, in bytes.
const LONGEST_INTERFACE_NAME: usize = 15;

/// Checks a container id or the name of a network: a letter or digit, then
/// letters, digits, `_`, `.`, `-`. Such a name is a safe part of a file name.
///
/// # Errors
/// The rule that is broken.
pub(crate) fn check_identifier(name: &str) -> Result<(), &'static str> {
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err("must begin with a letter or a digit");
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !name.chars().all(allowed) {
        return Err("may hold only letters, digits, '_', '.' and '-'");
    }
    if name.len() > LONGEST_FILE_NAME {
        return Err("is longer than a file name may be");
    }
    Ok(())
}

/// Checks the name of a network interface.
///
/// # Errors
/// The rule that is broken.
pub(crate) fn check_interface(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > LONGEST_INTERFACE_NAME {
        return Err("must be 1 to 15 bytes long");
    }
    if matches!(name, "." | "..") {
        return Err("is reserved");
    }
    if name.contains(|c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control()) {
        return Err("may not hold '/', ':', spaces or control characters");
    }
    Ok(())
}

/// Checks the `type` of a plugin: one path component, so that the executable
/// can only be one of the plugin directories (CVE-2021-20206).
///
/// # Errors
/// The rule that is broken.
pub(crate) fn check_plugin_type(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > LONGEST_FILE_NAME {
        return Err("must be 1 to 255 bytes long");
    }
    if matches!(name, "." | "..") || name.contains(['/', '\\', '\0']) {
        return Err("must be the plain name of an executable, not a path");
    }
    Ok(())
}

/// Checks a value of `CNI_ARGS`, which is a list of `KEY=VALUE` joined by `;`:
/// a value must not be able to add or change another pair.
///
/// # Errors
/// The rule that is broken.
pub(crate) fn check_args_value(value: &str) -> Result<(), &'static str> {
    if value.contains(|c: char| matches!(c, ';' | '=') || c.is_control()) {
        return Err("may not hold ';', '=' or control characters");
    }
    if value.len() > 1024 {
        return Err("is longer than 1024 bytes");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers() {
        for good in ["a", "0", "pods", "a_b.c-d", &"f".repeat(64)] {
            assert_eq!(check_identifier(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", ".", "..", "a/b", "a b", "a\n", "é", "a\0", &"f".repeat(256)] {
            assert!(check_identifier(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn interfaces() {
        for good in ["eth0", "net1.5", "abcdefghijklmno"] {
            assert_eq!(check_interface(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\0", "abcdefghijklmnop"] {
            assert!(check_interface(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn plugin_types() {
        for good in ["bridge", "host-local", "my.plugin", "...", "a b"] {
            assert_eq!(check_plugin_type(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "/bin/sh", "../../bin/sh", "a/", "a\\b", "a\0b"] {
            assert!(check_plugin_type(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn args_values_cannot_break_out() {
        let long = "x".repeat(300);
        for good in ["", "web-0", "name with spaces", "ünïcode", long.as_str()] {
            assert_eq!(check_args_value(good), Ok(()), "{good}");
        }
        for bad in
            ["a;K8S_POD_INFRA_CONTAINER_ID=x", "a=b", "a\nb", "a\0b", "\x7f", &"x".repeat(1025)]
        {
            assert!(check_args_value(bad).is_err(), "{bad:?}");
        }
    }
}
