//! Identities from two small files, and everything that must not become one.

use proptest::prelude::*;

use super::*;

const PASSWD_FILE: &str = "\
root:x:0:0:root:/root:/bin/sh
app:x:1000:1000::/home/app:/bin/sh
evil\0:x:0:0::/:/bin/sh
short:x:5
bad:x:0x10:0::/:/bin/sh
negative:x:-1:0::/:/bin/sh
huge:x:4294967296:0::/:/bin/sh
9999999999:x:0:0::/root:/bin/sh
12:x:0:0::/root:/bin/sh
-1:x:0:0::/root:/bin/sh
homeless:x:1001:50:::
app:x:1:1::/second:/bin/sh
";
const GROUP_FILE: &str = "\
root:x:0:
wheel:x:10:root,app
app:x:1000:
video:x:5:app,app
broken:x:
staff:x:50:homeless
dup:x:10:app
";

fn accounts() -> Accounts {
    Accounts::parse(PASSWD_FILE.as_bytes(), GROUP_FILE.as_bytes())
}

#[test]
fn identities() {
    for (user, uid, gid, additional, home) in [
        ("", 0, 0, &[0, 10][..], "/root"),
        ("0", 0, 0, &[0, 10], "/root"),
        ("00", 0, 0, &[0, 10], "/root"),
        ("root", 0, 0, &[0, 10], "/root"),
        ("app", 1000, 1000, &[1000, 5, 10], "/home/app"),
        ("1000", 1000, 1000, &[1000, 5, 10], "/home/app"),
        ("app:wheel", 1000, 10, &[10, 5], "/home/app"),
        ("app:77", 1000, 77, &[77, 5, 10], "/home/app"),
        ("4242", 4242, 0, &[0], "/"),
        ("4242:4243", 4242, 4243, &[4243], "/"),
        ("12", 12, 0, &[0], "/"),
        ("2147483648", 2_147_483_648, 0, &[0], "/"),
        ("4294967294", u32::MAX - 1, 0, &[0], "/"),
        ("homeless", 1001, 50, &[50], "/"),
    ] {
        let identity = accounts().resolve(user).unwrap_or_else(|e| panic!("{user:?}: {e}"));
        let found =
            (identity.uid, identity.gid, &identity.additional_gids[..], identity.home.as_str());
        assert_eq!(found, (uid, gid, additional, home), "{user:?}");
    }
}

#[test]
fn what_names_nobody_is_an_error() {
    for user in [
        "4294967295",
        "4294967296",
        "9999999999",
        "-1",
        "+1",
        "0x0",
        "1e0",
        "nobody",
        "nobody:0",
        "root:4294967296",
        "root:nogroup",
        "root:",
        ":",
        ":0",
        "root:0:0",
        "short",
        "bad",
        "negative",
        "huge",
        "evil",
        "evil\0",
        "root\n",
        "٣",
        " 0",
        "0 ",
        "broken",
        "root:broken",
        "root:-1",
    ] {
        let resolved = accounts().resolve(user);
        assert!(resolved.is_err(), "{user:?} is {resolved:?}");
    }
}

#[test]
fn trouble_with_a_file_is_told_when_a_name_is_wanted() {
    let accounts =
        Accounts { trouble: Some("/etc/passwd: too large".into()), ..Accounts::default() };
    assert_eq!(accounts.resolve("7").unwrap().uid, 7);
    assert!(accounts.resolve("app").unwrap_err().contains("too large"));
}

proptest! {
    #[test]
    fn only_zero_and_roots_rows_are_root(user in "[0-9a-z:+-]{0,12}|\\PC{0,12}") {
        if let Ok(identity) = accounts().resolve(&user) {
            let name = user.split(':').next().unwrap_or_default();
            let is_zero = !name.is_empty() && name.bytes().all(|b| b == b'0');
            prop_assert_eq!(identity.uid == 0, user.is_empty() || is_zero || name == "root");
        }
    }

    #[test]
    fn digits_are_that_number_or_nothing(number in any::<u64>()) {
        match accounts().resolve(&number.to_string()) {
            Ok(identity) => prop_assert_eq!(u64::from(identity.uid), number),
            Err(_) => prop_assert!(number >= u64::from(u32::MAX)),
        }
    }

    #[test]
    fn any_bytes_parse_to_something(passwd: Vec<u8>, group: Vec<u8>) {
        Accounts::parse(&passwd, &group);
    }
}
