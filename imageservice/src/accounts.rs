//! Users and groups of an image, and who a user string means.
//!
//! The tables are read from `/etc/passwd` and `/etc/group` of the image when it is published, and
//! kept with its record: a container's identity does not depend on what it does to these files
//! later. Lines that are not well-formed do not exist (passwd(5), group(5)).

use std::io;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::stack::Stack;

const PASSWD: &[u8] = b"etc/passwd";
const GROUP: &[u8] = b"etc/group";

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups: the primary group, then those that list the user, in rising order. The
    /// primary one is among them so that a file that denies its group denies this process too.
    pub additional_gids: Vec<u32>,
    /// Home directory; `/` for a user without one.
    pub home: String,
    /// Name of the user, if the image knows one.
    pub name: Option<String>,
}

/// The users and groups of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
    /// Why names cannot be looked up, if a file is there and cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

impl Accounts {
    /// Reads both files of an image. Files that are missing are empty; a file that is too large or
    /// not a regular one makes names unusable, and numbers still work.
    pub(crate) fn load(image: &Stack, limit: u64) -> io::Result<Self> {
        let mut trouble = None;
        let mut read = |path: &[u8]| match image.read(path, limit) {
            Ok(content) => Ok(content.unwrap_or_default()),
            Err(error) if is_the_images_fault(&error) => {
                trouble = Some(format!("/{}: {error}", String::from_utf8_lossy(path)));
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        };
        let (passwd, group) = (read(PASSWD)?, read(GROUP)?);
        let mut accounts = Self::parse(&passwd, &group);
        accounts.trouble = trouble;
        Ok(accounts)
    }

    fn parse(passwd: &[u8], group: &[u8]) -> Self {
        let users = lines(passwd).filter_map(User::parse).collect();
        let groups = lines(group).filter_map(Group::parse).collect();
        Self { users, groups, trouble: None }
    }

    /// Resolves `user[:group]`; see [`crate::Image::resolve_user`].
    pub(crate) fn resolve(&self, text: &str) -> Result<Identity, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None if text.is_empty() => ("0", None),
            None => (text, None),
        };
        let (uid, row) = match parse_id(user)? {
            Some(uid) => (uid, self.users.iter().find(|row| row.uid == uid)),
            None => {
                let row = self.users.iter().find(|row| row.name == user);
                let row = row.ok_or_else(|| self.unknown("user", user, "/etc/passwd"))?;
                (row.uid, Some(row))
            }
        };
        let gid = match group {
            None => row.map_or(0, |row| row.gid),
            Some(group) => self.group(group)?,
        };
        let listed = |group: &&Group| row.is_some_and(|row| group.members.contains(&row.name));
        let mut others: Vec<u32> =
            self.groups.iter().filter(listed).map(|group| group.gid).collect();
        others.sort_unstable();
        others.dedup();
        others.retain(|other| *other != gid);
        Ok(Identity {
            uid,
            gid,
            additional_gids: [vec![gid], others].concat(),
            home: row.map_or("/", |row| row.home.as_str()).to_owned(),
            name: row.map(|row| row.name.clone()),
        })
    }

    fn group(&self, text: &str) -> Result<u32, String> {
        match parse_id(text)? {
            Some(gid) => Ok(gid),
            None => {
                let row = self.groups.iter().find(|row| row.name == text);
                row.map(|row| row.gid).ok_or_else(|| self.unknown("group", text, "/etc/group"))
            }
        }
    }

    fn unknown(&self, kind: &str, name: &str, file: &str) -> String {
        match &self.trouble {
            Some(trouble) => format!("no {kind} {name:?}, because of {trouble}"),
            None => format!("no {kind} {name:?} in {file}"),
        }
    }
}

/// A number if all are digits, and then an id of Linux, of which the last means "unchanged"; else a
/// name that could be one.
fn parse_id(text: &str) -> Result<Option<u32>, String> {
    if text.is_empty() {
        return Err("an empty user or group".to_owned());
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let id = text.parse().ok().filter(|id| *id != u32::MAX);
        return id.map(Some).ok_or_else(|| format!("{text} is not an id of 0 to 4294967294"));
    }
    if text.starts_with(['-', '+']) || text.contains(|c: char| c.is_control() || c == ':') {
        return Err(format!("{text:?} is neither an id nor a name"));
    }
    Ok(None)
}

fn is_the_images_fault(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge)
        || Errno::from_io_error(error) == Some(Errno::LOOP)
}

fn lines(content: &[u8]) -> impl Iterator<Item = &str> {
    content.split(|b| *b == b'\n').filter_map(|line| std::str::from_utf8(line).ok())
}

/// The fields of a line that has at least `count` of them, and a name.
fn fields(line: &str, count: usize) -> Option<Vec<&str>> {
    let fields: Vec<&str> = line.trim_end_matches('\r').split(':').collect();
    let is_usable = fields.len() >= count && !fields[0].is_empty() && !line.contains('\0');
    is_usable.then_some(fields)
}

impl User {
    fn parse(line: &str) -> Option<Self> {
        let fields = fields(line, 6)?;
        let (uid, gid) = (parse_id(fields[2]).ok()??, parse_id(fields[3]).ok()??);
        let home = if fields[5].is_empty() { "/" } else { fields[5] };
        Some(Self { name: fields[0].to_owned(), uid, gid, home: home.to_owned() })
    }
}

impl Group {
    fn parse(line: &str) -> Option<Self> {
        let fields = fields(line, 3)?;
        let members = fields.get(3).into_iter().flat_map(|list| list.split(','));
        Some(Self {
            name: fields[0].to_owned(),
            gid: parse_id(fields[2]).ok()??,
            members: members.filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
