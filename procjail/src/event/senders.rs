//! Who a sender of signals is, from what the kernel side could read.

use std::iter::zip;

use procjail_common::{self as common, SENDER_NAME_LEN, sender_flags};

use super::decode::{arguments, text};
use super::evidence::{Ancestor, Sender};

/// Stands for what a record had no room for.
const CUT: &str = "…";

impl From<&common::Sender> for Sender {
    fn from(record: &common::Sender) -> Self {
        let used = record.argv.get(..record.argv_len as usize);
        let mut argv = arguments(used.unwrap_or(&record.argv));
        if record.argv_len > 0 && record.argv_total_len > record.argv_len {
            argv.push(CUT.to_owned());
        }
        let tty = text(&record.tty);
        let whole = |flag: u32| record.flags & flag != 0;
        let cgroup = path(&record.cgroup, whole(sender_flags::CGROUP_WHOLE));
        Self {
            exe: path(&record.exe, whole(sender_flags::EXE_WHOLE)),
            argv,
            uid: record.uid,
            tty: (!tty.is_empty()).then_some(tty),
            // The root's name is empty.
            cgroup: match cgroup.is_empty() && whole(sender_flags::CGROUP_WHOLE) {
                true => "/".to_owned(),
                false => cgroup,
            },
            parents: zip(record.parent_pids, &record.parent_comms)
                .take_while(|(pid, _)| *pid != 0)
                .map(|(pid, comm)| Ancestor {
                    pid,
                    comm: text(comm),
                })
                .collect(),
        }
    }
}

/// Joins names, the last of the path first; empty without any.
fn path(names: &[[u8; SENDER_NAME_LEN]], whole: bool) -> String {
    let names: Vec<String> = names
        .iter()
        .rev()
        .map(|name| text(name))
        .filter(|name| !name.is_empty())
        .collect();
    if names.is_empty() {
        return String::new();
    }
    let root = if whole { "" } else { CUT };
    format!("{root}/{}", names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::fixture::{GATE_NS, bytes, outside, sender};

    #[test]
    fn names_are_joined_from_the_root() {
        let record = sender(
            GATE_NS,
            outside(900, "kill"),
            &["kill", "", "bin", "usr"],
            &["kill", "-9", "4131"],
        );
        let sender = Sender::from(&record);
        assert_eq!(sender.exe, "/usr/bin/kill");
        assert_eq!(sender.argv, ["kill", "-9", "4131"]);
        assert_eq!(sender.cgroup, "/ssh.service");
        assert_eq!(sender.tty.as_deref(), Some("pts3"));
        let parents: Vec<(u32, &str)> = sender
            .parents
            .iter()
            .map(|parent| (parent.pid, parent.comm.as_str()))
            .collect();
        assert_eq!(parents, [(800, "sshd"), (1, "systemd")]);
    }

    #[test]
    fn what_is_not_known_is_empty_and_what_was_cut_says_so() {
        let mut record = sender(GATE_NS, outside(57, "kworker/0:1"), &[], &[]);
        record.cgroup = [[0; SENDER_NAME_LEN]; _];
        record.tty = bytes("");
        record.parent_pids = [0; _];
        let nothing = Sender {
            uid: 1000,
            cgroup: "/".to_owned(),
            ..Sender::default()
        };
        assert_eq!(Sender::from(&record), nothing);
        record.flags = 0;
        assert_eq!(Sender::from(&record).cgroup, "");
        record.exe[0] = bytes("kill");
        record.argv = bytes("kill\0--long");
        (record.argv_len, record.argv_total_len) = (8, 5000);
        let sender = Sender::from(&record);
        assert_eq!(sender.exe, "…/kill");
        assert_eq!(sender.argv, ["kill", "--l", "…"]);
    }
}
