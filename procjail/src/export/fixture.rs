//! Traces for the tests of the forms.

use std::io::Write;

use super::{Format, Subject};
use crate::diagnose::{Builder, explain};
use crate::event::{Event, story};
use crate::trace::Output;
use crate::trace::{Footer, Header};

/// What is known of these events before they are written.
pub(super) fn subject(header: &Header, events: &[Event], footer: Option<&Footer>) -> Subject {
    let mut builder = Builder::new();
    builder.header(header).expect("taken");
    for event in events {
        builder.event(event).expect("taken");
    }
    builder.footer(footer).expect("taken");
    let case = builder.finish().expect("a header");
    let explanation = explain(&case);
    let missing = footer
        .is_none()
        .then(|| format!("no footer: the file ends after {} events", events.len()));
    Subject {
        case,
        explanation,
        missing,
    }
}

/// These events in a form.
pub(super) fn written(format: Format, subject: &Subject, events: &[Event]) -> String {
    let mut bytes = Vec::new();
    {
        let out: &mut dyn Write = &mut bytes;
        let mut output = format.output(subject, out).expect("written");
        output.header(&subject.case.header).expect("written");
        for event in events {
            output.event(event).expect("written");
        }
        output
            .footer(subject.case.footer.as_ref())
            .expect("written");
    }
    String::from_utf8(bytes).expect("UTF-8")
}

/// The story's trace: what is known of it, its events, and it in that form.
pub(super) fn story(format: Format) -> (Subject, Vec<Event>, String) {
    let (events, footer) = story::trace();
    let subject = subject(&story::header_line(), &events, Some(&footer));
    let text = written(format, &subject, &events);
    (subject, events, text)
}

/// A trace of which only the header was written, in that form.
pub(super) fn empty(format: Format) -> String {
    let subject = subject(&story::header_line(), &[], None);
    written(format, &subject, &[])
}
