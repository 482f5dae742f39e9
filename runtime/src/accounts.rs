//! Users and groups by the image's /etc/passwd and /etc/group. Pure.

use serde::{Deserialize, Serialize};

/// A user as an image or a pod names it: names or numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserName {
    /// Empty means root.
    pub user: String,
    /// The user's own group when not given.
    pub group: Option<String>,
}

/// Who a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// All supplementary groups, in order, each once.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

/// Why a name is nobody.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AccountError {
    /// No such user.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    /// No such group.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
}

impl UserName {
    /// Reads `user` or `user:group`.
    pub fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((user, group)) => {
                Self { user: user.to_owned(), group: Some(group.to_owned()).filter(|g| !g.is_empty()) }
            }
            None => Self { user: text.to_owned(), group: None },
        }
    }

    /// Looks the name up in the contents of passwd and group.
    pub fn identity(
        &self,
        passwd: &str,
        group: &str,
        more_groups: &[u32],
        image_groups: bool,
    ) -> Result<Identity, AccountError> {
        let entry =
            passwd.lines().map(fields).find(|f| f.len() >= 6 && (f[0] == self.wanted() || f[2] == self.wanted()));
        let number = |text: &str| text.parse::<u32>().ok();
        let uid = entry.as_ref().and_then(|f| number(f[2])).or_else(|| number(self.wanted()));
        let uid = uid.ok_or_else(|| AccountError::NoUser(self.user.clone()))?;
        let gid = match &self.group {
            Some(wanted) => group_id(group, wanted)?,
            None => entry.as_ref().and_then(|f| number(f[3])).unwrap_or(0),
        };
        let name = entry.as_ref().map_or("", |f| f[0]);
        let member = |f: &Vec<&str>| f.len() >= 4 && !name.is_empty() && f[3].split(',').any(|m| m == name);
        let of_image = group.lines().map(fields).filter(|f| image_groups && self.group.is_none() && member(f));
        let of_image: Vec<u32> = of_image.filter_map(|f| number(f[2])).collect();
        let mut groups = Vec::new();
        for id in std::iter::once(gid).chain(of_image).chain(more_groups.iter().copied()) {
            if !groups.contains(&id) {
                groups.push(id);
            }
        }
        let home = entry.map(|f| f[5].to_owned()).filter(|h| !h.is_empty());
        Ok(Identity { uid, gid, groups, home: home.unwrap_or_else(|| "/".to_owned()) })
    }

    fn wanted(&self) -> &str {
        if self.user.is_empty() { "0" } else { &self.user }
    }
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

fn group_id(group: &str, wanted: &str) -> Result<u32, AccountError> {
    let entry = group.lines().map(fields).find(|f| f.len() >= 3 && f[0] == wanted);
    let by_name = entry.and_then(|f| f[2].parse().ok());
    by_name.or_else(|| wanted.parse().ok()).ok_or_else(|| AccountError::NoGroup(wanted.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/var/www:/bin/false\nbroken\n";
    const GROUP: &str = "root:x:0:\nwww:x:102:\nlogs:x:200:web,other\n";

    #[test]
    fn names_and_numbers() {
        let id = |text: &str| UserName::parse(text).identity(PASSWD, GROUP, &[300, 200], true);
        let found = |text: &str| id(text).map(|i| (i.uid, i.gid, i.groups, i.home)).expect("found");
        assert_eq!(found(""), (0, 0, vec![0, 300, 200], "/root".to_owned()));
        assert_eq!(found("web"), (101, 102, vec![102, 200, 300], "/var/www".to_owned()));
        assert_eq!(found("101"), (101, 102, vec![102, 200, 300], "/var/www".to_owned()));
        assert_eq!(found("web:logs"), (101, 200, vec![200, 300], "/var/www".to_owned()));
        assert_eq!(found("5000"), (5000, 0, vec![0, 300, 200], "/".to_owned()));
        assert_eq!(found("5000:6000").1, 6000);
        assert_eq!(id("nobody"), Err(AccountError::NoUser("nobody".to_owned())));
        assert_eq!(id("web:none"), Err(AccountError::NoGroup("none".to_owned())));
    }

    #[test]
    fn strict_groups_leave_the_images_out() {
        let id = UserName::parse("web").identity(PASSWD, GROUP, &[300], false).expect("found");
        assert_eq!(id.groups, [102, 300]);
    }
}
