//! The kinds of event: their names, whom they concern, and reading an event back from JSON.
//!
//! Deserialize is written by hand because the derived one for a flattened, adjacently tagged enum
//! buffers every event in a generic tree first, which makes reading a large trace several times slower.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor,
};

use super::model::*;

macro_rules! kinds {
    ($($variant:ident = $name:literal),+ $(,)?) => {
        /// All kinds of event, as they are written in `kind`.
        pub const KINDS: &[&str] = &[$($name),+];

        impl What {
            /// The kind, as it is written in the event's `kind`.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)+
                }
            }

            /// The kind as a name that is procjail's alone, for those who mix events of many programs.
            pub fn event_name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => concat!("procjail.", $name),)+
                }
            }

            /// The event's `data` alone, as JSON.
            ///
            /// # Errors
            ///
            /// None is known: all keys of the data are strings.
            pub fn data_json(&self) -> serde_json::Result<String> {
                match self {
                    $(Self::$variant(data) => serde_json::to_string(data),)+
                }
            }
        }

        /// Reads `data`, whose form is given by the kind.
        struct Data<'a>(&'a str);

        impl<'de> DeserializeSeed<'de> for Data<'_> {
            type Value = What;

            fn deserialize<D: Deserializer<'de>>(self, data: D) -> Result<What, D::Error> {
                match self.0 {
                    $($name => Deserialize::deserialize(data).map(What::$variant),)+
                    unknown => Err(unknown_kind(unknown)),
                }
            }
        }
    };
}

kinds! {
    Fork = "fork",
    Exec = "exec",
    ExecFailed = "exec-failed",
    Exit = "exit",
    Reap = "reap",
    Wait = "wait",
    Free = "free",
    SignalGenerated = "signal-generated",
    SignalDelivered = "signal-delivered",
    OomKill = "oom-kill",
    OomReap = "oom-reap",
    Mount = "mount",
    Cgroup = "cgroup",
    Leftover = "leftover",
    JailCreated = "jail-created",
    GateOpened = "gate-opened",
    SignalForwarded = "signal-forwarded",
    SetupFailed = "setup-failed",
    StopRequested = "stop-requested",
    Kill = "kill",
    JailExited = "jail-exited",
    Teardown = "teardown",
    Sender = "sender",
    FailedCalls = "failed-calls",
    StderrTail = "stderr-tail",
    LimitChanged = "limit-changed",
    MemorySample = "memory-sample",
    Counters = "counters",
    Snapshot = "snapshot",
    KernelOom = "kernel-oom",
    KernelMessage = "kernel-message",
    MountUse = "mount-use",
    ImplicitUnmounts = "implicit-unmounts",
    LeakCheck = "leak-check",
    Attached = "attached",
    Found = "found",
    Detached = "detached",
    Lost = "lost",
}

impl What {
    /// The other task that the event is about: the child of a fork, the target of a signal, the
    /// victim of an OOM kill.
    pub fn target(&self) -> Option<&Task> {
        match self {
            Self::Fork(fork) => Some(&fork.child),
            Self::Reap(reap) => Some(&reap.child),
            Self::Free(free) => Some(&free.process),
            Self::SignalGenerated(signal) => Some(&signal.target),
            Self::OomKill(kill) => Some(&kill.victim),
            Self::OomReap(reap) => Some(&reap.victim),
            Self::Cgroup(cgroup) => cgroup.member.as_ref(),
            Self::LimitChanged(limit) => Some(&limit.target),
            _ => None,
        }
    }
}

fn unknown_kind<E: Error>(kind: &str) -> E {
    E::custom(format_args!(
        "unknown kind of event `{}`",
        kind.escape_debug()
    ))
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EventVisitor)
    }
}

struct EventVisitor;

/// The names of an event's fields. A type of its own, so that no name is copied.
enum Field {
    Seq,
    TimeNs,
    Task,
    Kind,
    Data,
    Other,
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor;
        impl Visitor<'_> for FieldVisitor {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Field, E> {
                Ok(match name {
                    "seq" => Field::Seq,
                    "time_ns" => Field::TimeNs,
                    "task" => Field::Task,
                    "kind" => Field::Kind,
                    "data" => Field::Data,
                    _ => Field::Other,
                })
            }
        }
        deserializer.deserialize_identifier(FieldVisitor)
    }
}

/// A kind: one of [`KINDS`], or the unknown name.
struct Kind(Result<&'static str, String>);

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KindVisitor;
        impl Visitor<'_> for KindVisitor {
            type Value = Kind;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a kind of event")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Kind, E> {
                let known = KINDS.iter().find(|kind| **kind == name);
                Ok(Kind(known.copied().ok_or_else(|| name.to_owned())))
            }
        }
        deserializer.deserialize_str(KindVisitor)
    }
}

impl<'de> Visitor<'de> for EventVisitor {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event: an object with seq, time_ns, task, kind and data")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
        let (mut seq, mut time_ns, mut task, mut kind, mut what) = (None, None, None, None, None);
        // `data` before `kind` is not what procjail writes, but other programs may reorder fields.
        let mut early_data: Option<serde_json::Value> = None;
        while let Some(field) = map.next_key()? {
            match field {
                Field::Seq => seq = Some(map.next_value()?),
                Field::TimeNs => time_ns = Some(map.next_value()?),
                Field::Task => task = Some(map.next_value()?),
                Field::Kind => match map.next_value::<Kind>()?.0 {
                    Ok(known) => kind = Some(known),
                    Err(unknown) => return Err(unknown_kind(&unknown)),
                },
                Field::Data => match kind {
                    Some(kind) => what = Some(map.next_value_seed(Data(kind))?),
                    None => early_data = Some(map.next_value()?),
                },
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let kind = kind.ok_or_else(|| A::Error::missing_field("kind"))?;
        let what = match (what, early_data) {
            (Some(what), _) => what,
            (None, Some(data)) => Data(kind).deserialize(data).map_err(A::Error::custom)?,
            (None, None) => return Err(A::Error::missing_field("data")),
        };
        Ok(Event {
            seq: seq.ok_or_else(|| A::Error::missing_field("seq"))?,
            time_ns: time_ns.ok_or_else(|| A::Error::missing_field("time_ns"))?,
            task: task.ok_or_else(|| A::Error::missing_field("task"))?,
            what,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_documented() {
        let page = include_str!("../../../docs/events.md");
        for kind in KINDS {
            let heading = page.lines().any(|line| {
                line.strip_prefix("### ")
                    .and_then(|title| title.split(' ').next())
                    == Some(*kind)
            });
            assert!(heading || page.contains(&format!("| `{kind}` |")), "{kind}");
        }
    }
}
