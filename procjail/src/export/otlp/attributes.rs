//! Attributes: named values, as OTLP has them.

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};

/// Longest text of an attribute, bytes. A collector takes messages of 4 MiB, and an argument can be
/// longer than what anybody reads.
const TEXT_BYTES: usize = 4 << 10;

/// Most values of a list.
const VALUES: usize = 128;

/// Attributes in the making.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes(Vec<KeyValue>);

impl Attributes {
    /// No attributes, with room for so many.
    pub fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    /// Adds a text, cut if it is too long.
    pub fn text(&mut self, key: &str, text: &str) -> &mut Self {
        self.push(key, Value::StringValue(cut(text)))
    }

    /// Adds a text that is known to be short enough.
    pub fn whole_text(&mut self, key: &str, text: String) -> &mut Self {
        self.push(key, Value::StringValue(text))
    }

    /// Adds a number. One that is too large for OTLP's signed numbers is the largest of these.
    pub fn number(&mut self, key: &str, number: impl TryInto<i64>) -> &mut Self {
        self.push(key, Value::IntValue(number.try_into().unwrap_or(i64::MAX)))
    }

    /// Adds yes or no.
    pub fn flag(&mut self, key: &str, flag: bool) -> &mut Self {
        self.push(key, Value::BoolValue(flag))
    }

    /// Adds a list of texts, the first ones if there are too many.
    pub fn texts<'a>(&mut self, key: &str, texts: impl IntoIterator<Item = &'a str>) -> &mut Self {
        self.list(
            key,
            texts.into_iter().map(|text| Value::StringValue(cut(text))),
        )
    }

    /// Adds a list of numbers, the first ones if there are too many.
    pub fn numbers(&mut self, key: &str, numbers: impl IntoIterator<Item = u32>) -> &mut Self {
        self.list(
            key,
            numbers
                .into_iter()
                .map(|number| Value::IntValue(number.into())),
        )
    }

    /// The attributes.
    pub fn finish(self) -> Vec<KeyValue> {
        self.0
    }

    fn list(&mut self, key: &str, values: impl Iterator<Item = Value>) -> &mut Self {
        let values = values.take(VALUES).map(any).collect();
        self.push(key, Value::ArrayValue(ArrayValue { values }))
    }

    fn push(&mut self, key: &str, value: Value) -> &mut Self {
        self.0.push(KeyValue {
            key: key.to_owned(),
            value: Some(any(value)),
            key_strindex: 0,
        });
        self
    }
}

/// A text as a value.
pub(super) fn any_text(text: &str) -> AnyValue {
    any(Value::StringValue(cut(text)))
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

/// The beginning of a text, with `…` if that isn't all.
pub(super) fn cut(text: &str) -> String {
    if text.len() <= TEXT_BYTES {
        return text.to_owned();
    }
    let end = (0..=TEXT_BYTES)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "ä".repeat(TEXT_BYTES);
        let short = cut(&text);
        assert!(short.ends_with("ä…") && short.len() <= TEXT_BYTES + "…".len());
        assert_eq!(cut("short"), "short");
    }

    #[test]
    fn no_number_wraps_around() {
        let mut attributes = Attributes::default();
        attributes.number("n", u64::MAX);
        let value = attributes.finish().remove(0).value.and_then(|v| v.value);
        assert_eq!(value, Some(Value::IntValue(i64::MAX)));
    }
}
