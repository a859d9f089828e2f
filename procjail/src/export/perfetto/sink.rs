//! Packets, written one by one.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::mark::{Mark, Value};
use super::proto::*;

/// The one writer of this trace; any number but 0 would do.
const SEQUENCE: u32 = 1;
/// Number of `packet` in `Trace`.
const PACKET: u32 = 1;

/// The file, and what its later packets rely on.
pub(super) struct Sink<W: Write> {
    out: W,
    buffer: Vec<u8>,
    begun: bool,
    last_uuid: u64,
    categories: Names,
    events: Names,
    args: Names,
    /// Arrows that have begun and not ended.
    flows: HashSet<u64>,
}

/// Names and their numbers, from 1.
type Names = HashMap<&'static str, u64>;

impl<W: Write> Sink<W> {
    pub fn new(out: W) -> Self {
        Self {
            out,
            buffer: Vec::new(),
            begun: false,
            last_uuid: 0,
            categories: Names::new(),
            events: Names::new(),
            args: Names::new(),
            flows: HashSet::new(),
        }
    }

    /// An instant on both clocks: what makes UTC of the trace's times.
    pub fn clocks(&mut self, boot_ns: u64, unix_ns: u64) -> io::Result<()> {
        let clock = |clock_id, timestamp| Clock {
            clock_id: Some(clock_id),
            timestamp: Some(timestamp),
        };
        self.packet(TracePacket {
            data: Some(Data::ClockSnapshot(ClockSnapshot {
                clocks: vec![clock(BOOTTIME, boot_ns), clock(REALTIME, unix_ns)],
                primary_trace_clock: Some(BOOTTIME),
            })),
            ..TracePacket::default()
        })
    }

    /// A new track, on which nothing happens before that time; its number is returned.
    ///
    /// The viewer takes a process for another one where a track has a PID that it knows already, so the
    /// tracks have to be in order of time like the events.
    pub fn track(&mut self, time_ns: u64, track: TrackDescriptor) -> io::Result<u64> {
        self.last_uuid += 1;
        let uuid = self.last_uuid;
        self.packet(TracePacket {
            timestamp: Some(signed(time_ns)),
            data: Some(Data::TrackDescriptor(TrackDescriptor {
                uuid: Some(uuid),
                ..track
            })),
            ..TracePacket::default()
        })?;
        Ok(uuid)
    }

    /// A slice begins inside those that are open on its track.
    pub fn begin(&mut self, time_ns: u64, track: u64, mark: Mark) -> io::Result<()> {
        self.mark(time_ns, track, Kind::SliceBegin, mark)
    }

    /// The innermost slice of a track ends.
    pub fn end(&mut self, time_ns: u64, track: u64) -> io::Result<()> {
        self.event(time_ns, track, Kind::SliceEnd, TrackEvent::default(), None)
    }

    /// The innermost slice of a track ends, with more to say about it.
    pub fn end_with(
        &mut self,
        time_ns: u64,
        track: u64,
        arg: &'static str,
        value: impl Into<Value>,
    ) -> io::Result<()> {
        let mut interned = InternedData::default();
        let event = TrackEvent {
            debug_annotations: vec![self.annotation(arg, value.into(), &mut interned)],
            ..TrackEvent::default()
        };
        self.event(time_ns, track, Kind::SliceEnd, event, Some(interned))
    }

    /// Something happens in no time.
    pub fn instant(&mut self, time_ns: u64, track: u64, mark: Mark) -> io::Result<()> {
        self.mark(time_ns, track, Kind::Instant, mark)
    }

    /// A counter has a new value.
    pub fn count(&mut self, time_ns: u64, track: u64, value: u64) -> io::Result<()> {
        let event = TrackEvent {
            counter_value: Some(i64::try_from(value).unwrap_or(i64::MAX)),
            ..TrackEvent::default()
        };
        self.event(time_ns, track, Kind::Counter, event, None)
    }

    /// All that was written so far is on its way.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn mark(&mut self, time_ns: u64, track: u64, kind: Kind, mark: Mark) -> io::Result<()> {
        let mut interned = InternedData::default();
        let category = number(
            &mut self.categories,
            mark.category,
            &mut interned.event_categories,
        );
        let (name_iid, name) = match mark.name {
            std::borrow::Cow::Borrowed(name) => {
                let iid = number(&mut self.events, name, &mut interned.event_names);
                (Some(iid), None)
            }
            std::borrow::Cow::Owned(name) => (None, Some(name)),
        };
        let mut event = TrackEvent {
            category_iids: vec![category],
            name_iid,
            name,
            ..TrackEvent::default()
        };
        for (name, value) in mark.args {
            let annotation = self.annotation(name, value, &mut interned);
            event.debug_annotations.push(annotation);
        }
        // An arrow from nowhere, as in a trace that somebody has edited, is left out.
        for flow in mark.starts {
            if self.flows.insert(flow) {
                event.flow_ids.push(flow);
            }
        }
        let passes = mark.passes.into_iter();
        event
            .flow_ids
            .extend(passes.filter(|flow| self.flows.contains(flow)));
        let ends = mark.ends.into_iter();
        event
            .terminating_flow_ids
            .extend(ends.filter(|flow| self.flows.remove(flow)));
        self.event(time_ns, track, kind, event, Some(interned))
    }

    fn annotation(
        &mut self,
        name: &'static str,
        value: Value,
        interned: &mut InternedData,
    ) -> DebugAnnotation {
        DebugAnnotation {
            name_iid: Some(number(
                &mut self.args,
                name,
                &mut interned.debug_annotation_names,
            )),
            ..annotation(value)
        }
    }

    fn event(
        &mut self,
        time_ns: u64,
        track: u64,
        kind: Kind,
        event: TrackEvent,
        interned: Option<InternedData>,
    ) -> io::Result<()> {
        self.packet(TracePacket {
            timestamp: Some(signed(time_ns)),
            interned_data: interned.filter(|names| *names != InternedData::default()),
            data: Some(Data::TrackEvent(TrackEvent {
                r#type: Some(kind.into()),
                track_uuid: Some(track),
                ..event
            })),
            ..TracePacket::default()
        })
    }

    fn packet(&mut self, mut packet: TracePacket) -> io::Result<()> {
        packet.trusted_packet_sequence_id = Some(SEQUENCE);
        packet.sequence_flags = Some(NEEDED);
        if !self.begun {
            self.begun = true;
            packet.sequence_flags = Some(CLEARED);
            packet.first_packet_on_sequence = Some(true);
            packet.trace_packet_defaults = Some(TracePacketDefaults {
                timestamp_clock_id: Some(BOOTTIME),
            });
        }
        self.buffer.clear();
        encode_key(PACKET, WireType::LengthDelimited, &mut self.buffer);
        encode_varint(packet.encoded_len() as u64, &mut self.buffer);
        packet.encode_raw(&mut self.buffer);
        self.out.write_all(&self.buffer)
    }
}

/// A time as the viewer can hold it: its times are signed.
fn signed(time_ns: u64) -> u64 {
    time_ns.min(i64::MAX as u64)
}

/// The number of a name; a new one is told in `interned`.
fn number(known: &mut Names, name: &'static str, interned: &mut Vec<InternedName>) -> u64 {
    let next = known.len() as u64 + 1;
    *known.entry(name).or_insert_with(|| {
        interned.push(InternedName {
            iid: Some(next),
            name: Some(name.to_owned()),
        });
        next
    })
}

fn annotation(value: Value) -> DebugAnnotation {
    let mut annotation = DebugAnnotation::default();
    match value {
        Value::Nothing => {}
        Value::Bool(value) => annotation.bool_value = Some(value),
        Value::Int(value) => annotation.int_value = Some(value),
        Value::Uint(value) => annotation.uint_value = Some(value),
        Value::Text(text) => annotation.string_value = Some(text),
        Value::List(values) => {
            annotation.array_values = values.into_iter().map(self::annotation).collect();
        }
        Value::Dict(entries) => {
            annotation.dict_entries = entries
                .into_iter()
                .map(|(name, value)| DebugAnnotation {
                    name: Some(name),
                    ..self::annotation(value)
                })
                .collect();
        }
    }
    annotation
}
