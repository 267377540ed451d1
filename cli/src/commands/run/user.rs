//! `-u`: who a container runs as.

use std::str::FromStr;

use crate::api::runtime::{Int64Value, LinuxContainerSecurityContext};

/// `USER[:GROUP]`; the user is a name in the image or a number, the group a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    name: String,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl User {
    /// Puts the user where the CRI has it.
    pub(crate) fn apply(&self, security: &mut LinuxContainerSecurityContext) {
        let value = |id: u32| Int64Value { value: id.into() };
        security.run_as_user = self.uid.map(value);
        security.run_as_group = self.gid.map(value);
        security.run_as_username = self.name.clone();
    }
}

impl FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if user.is_empty() {
            return Err(format!("{text:?} names no user"));
        }
        // The CRI can carry a user's name, but not a group's.
        let number = |group: &str| {
            group.parse().map_err(|_| format!("{group:?} is no group's number; names do not work"))
        };
        let uid = user.parse().ok();
        let name = if uid.is_some() { String::new() } else { user.to_owned() };
        Ok(Self { name, uid, gid: group.map(number).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(text: &str) -> (Option<i64>, Option<i64>, String) {
        let mut security = LinuxContainerSecurityContext::default();
        text.parse::<User>().unwrap().apply(&mut security);
        let number = |id: Option<Int64Value>| id.map(|id| id.value);
        let LinuxContainerSecurityContext { run_as_user, run_as_group, run_as_username, .. } =
            security;
        (number(run_as_user), number(run_as_group), run_as_username)
    }

    #[test]
    fn users_are_numbers_or_names_and_groups_are_numbers() {
        assert_eq!(applied("1000"), (Some(1000), None, String::new()));
        assert_eq!(applied("0:0"), (Some(0), Some(0), String::new()));
        assert_eq!(applied("nobody:65534"), (None, Some(65534), "nobody".into()));
        for text in ["", ":1", "nobody:nogroup", "1:", "1:2:3"] {
            assert!(text.parse::<User>().is_err(), "{text:?}");
        }
    }
}
