//! What is put on a track: its name, its arguments, and the arrows from and to it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::text::escape;

/// Longest text of an argument or a name, characters; a viewer shows no more in one place.
const LONGEST: usize = 4_000;

/// Something on a track.
#[derive(Debug)]
pub(super) struct Mark {
    /// Constant names are stored once.
    pub name: Cow<'static, str>,
    pub category: &'static str,
    pub args: Vec<(&'static str, Value)>,
    /// Arrows that begin here.
    pub starts: Vec<u64>,
    /// Arrows that go on through here.
    pub passes: Vec<u64>,
    /// Arrows that end here.
    pub ends: Vec<u64>,
}

impl Mark {
    /// A mark whose name never changes.
    pub fn new(category: &'static str, name: &'static str) -> Self {
        Self::named(category, Cow::Borrowed(name))
    }

    /// A mark whose name has something of the trace in it; of what has no name the category is told.
    pub fn of(category: &'static str, name: &str) -> Self {
        match name {
            "" => Self::new(category, category),
            name => Self::named(category, Cow::Owned(harmless(name))),
        }
    }

    fn named(category: &'static str, name: Cow<'static, str>) -> Self {
        Self {
            name,
            category,
            args: Vec::new(),
            starts: Vec::new(),
            passes: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// With an argument, unless there is nothing in it.
    pub fn arg(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        let value = value.into();
        if !value.is_nothing() {
            self.args.push((name, value));
        }
        self
    }

    pub fn starts(mut self, flow: u64) -> Self {
        self.starts.push(flow);
        self
    }

    pub fn passes(mut self, flow: impl IntoIterator<Item = u64>) -> Self {
        self.passes.extend(flow);
        self
    }

    pub fn ends(mut self, flow: impl IntoIterator<Item = u64>) -> Self {
        self.ends.extend(flow);
        self
    }
}

/// An argument's value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Nothing,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Text(String),
    List(Vec<Value>),
    Dict(Vec<(String, Value)>),
}

impl Value {
    /// Values in order.
    pub fn list<T: Into<Self>>(values: impl IntoIterator<Item = T>) -> Self {
        Self::List(values.into_iter().map(T::into).collect())
    }

    /// Whether it tells nothing, and can be left out.
    pub fn is_nothing(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Text(text) => text.is_empty(),
            Self::List(values) => values.is_empty(),
            Self::Dict(entries) => entries.is_empty(),
            Self::Bool(_) | Self::Int(_) | Self::Uint(_) => false,
        }
    }
}

/// Text without control characters, of a length that a viewer can show.
pub(super) fn harmless(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => escape(text),
        Some((end, _)) => format!("{}…", escape(text.get(..end).unwrap_or_default())),
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(harmless(text))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(harmless(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(harmless(&text))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Uint(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Uint(value.into())
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Nothing, T::into)
    }
}

impl From<&[String]> for Value {
    fn from(texts: &[String]) -> Self {
        Self::list(texts)
    }
}

impl From<&BTreeMap<String, String>> for Value {
    fn from(entries: &BTreeMap<String, String>) -> Self {
        let entries = entries.iter();
        Self::Dict(
            entries
                .map(|(name, text)| (harmless(name), text.into()))
                .collect(),
        )
    }
}
