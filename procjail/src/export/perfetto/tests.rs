//! Every recorded trace, decoded again: what a viewer relies on holds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use prost::Message;

use super::proto::*;
use crate::diagnose::{self, Builder};
use crate::event::{Event, Task, What, story};
use crate::export::{Format, Source, Subject};
use crate::trace::Output;
use crate::trace::{Footer, Header};

fn recorded() -> Vec<PathBuf> {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let mut paths: Vec<PathBuf> = traces
        .read_dir()
        .expect("recorded traces")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    assert!(paths.len() > 100, "{}", paths.len());
    paths
}

/// A trace in the file of that name.
fn exported(path: &Path) -> Exported {
    let source = Source::open(path).expect("a trace");
    let subject = source.explain(None).expect("an explanation");
    let mut bytes = Vec::new();
    let mut output = Format::Perfetto
        .output(&subject, &mut bytes)
        .expect("an output");
    source.pass_on(output.as_mut()).expect("an export");
    drop(output);
    Exported::of(&bytes)
}

/// A trace of these events.
fn export(header: &Header, events: &[Event], footer: Option<&Footer>) -> Exported {
    let mut builder = Builder::new();
    builder.header(header).expect("a header");
    for event in events {
        builder.event(event).expect("an event");
    }
    builder.footer(footer).expect("a footer");
    let case = builder.finish().expect("a case");
    let subject = Subject {
        explanation: diagnose::explain(&case),
        missing: footer.is_none().then(|| "it has no end".to_owned()),
        case,
    };
    let mut bytes = Vec::new();
    let mut output = Format::Perfetto
        .output(&subject, &mut bytes)
        .expect("an output");
    output.header(header).expect("a header");
    for event in events {
        output.event(event).expect("an event");
    }
    output.footer(footer).expect("a footer");
    drop(output);
    Exported::of(&bytes)
}

/// What a viewer makes of a file.
struct Exported {
    tracks: BTreeMap<u64, TrackDescriptor>,
    /// In order of time, as a viewer sorts them: those of one time as they were written.
    events: Vec<(u64, TrackEvent)>,
    /// Names of events by position; empty for ends and counters.
    names: Vec<String>,
    args: HashMap<u64, String>,
    clocks: Vec<ClockSnapshot>,
}

/// An arrow, by the tracks and the names of what it joins.
type Flow = Vec<(u64, String)>;

impl Exported {
    fn of(bytes: &[u8]) -> Self {
        let trace = Trace::decode(bytes).expect("a trace");
        let mut exported = Self {
            tracks: BTreeMap::new(),
            events: Vec::new(),
            names: Vec::new(),
            args: HashMap::new(),
            clocks: Vec::new(),
        };
        let mut names: HashMap<u64, String> = HashMap::new();
        let mut begun: HashMap<u64, u64> = HashMap::new();
        for (index, packet) in trace.packet.into_iter().enumerate() {
            assert_eq!(packet.trusted_packet_sequence_id, Some(1));
            let first = index == 0;
            assert_eq!(packet.first_packet_on_sequence, first.then_some(true));
            assert_eq!(
                packet.sequence_flags,
                Some(if first { CLEARED } else { NEEDED })
            );
            let interned = packet.interned_data.unwrap_or_default();
            for name in interned.event_names {
                let known = names.insert(name.iid.expect("a number"), name.name.expect("a name"));
                assert_eq!(known, None, "interned twice");
            }
            for name in interned.debug_annotation_names {
                let known = exported
                    .args
                    .insert(name.iid.expect("a number"), name.name.expect("a name"));
                assert_eq!(known, None, "interned twice");
            }
            match packet.data.expect("data") {
                Data::ClockSnapshot(clocks) => exported.clocks.push(clocks),
                Data::TrackDescriptor(track) => {
                    let uuid = track.uuid.expect("a number");
                    begun.insert(uuid, packet.timestamp.expect("a time"));
                    let known = exported.tracks.insert(uuid, track);
                    assert_eq!(known, None, "a track's number is used twice");
                }
                Data::TrackEvent(event) => {
                    let track = event.track_uuid.expect("a track");
                    let time = packet.timestamp.expect("a time");
                    let begun = *begun.get(&track).expect("a track comes first");
                    // The set-up began before the trace did, and has its track for itself.
                    assert!(
                        begun <= time || track == 1,
                        "a track comes first: {event:?}"
                    );
                    exported.events.push((time, event));
                }
            }
        }
        exported.events.sort_by_key(|(time, _)| *time);
        for (_, event) in &exported.events {
            let interned = event.name_iid.map(|iid| names[&iid].clone());
            let name = interned.or(event.name.clone()).unwrap_or_default();
            exported.names.push(name);
        }
        exported
    }

    /// What any viewer relies on; `first_ns` to `last_ns` is the time of the trace.
    fn check(&self) {
        assert_eq!(self.clocks.len(), 1);
        for track in self.tracks.values() {
            let parent = track.parent_uuid;
            assert!(
                parent.is_none_or(|parent| self.tracks.contains_key(&parent)),
                "{track:?}"
            );
        }
        let mut open: HashMap<u64, u64> = HashMap::new();
        for (index, (_, event)) in self.events.iter().enumerate() {
            let track = event.track_uuid.expect("a track");
            let is_counter = self.tracks[&track].counter.is_some();
            let depth = open.entry(track).or_default();
            assert!(event.debug_annotations.iter().all(|arg| self.is_whole(arg)));
            match event.r#type() {
                Kind::SliceBegin => *depth += 1,
                Kind::SliceEnd => {
                    *depth = depth.checked_sub(1).expect("no slice ends twice");
                    continue;
                }
                Kind::Instant => {}
                Kind::Counter => {
                    assert!(is_counter && event.counter_value.is_some());
                    continue;
                }
                Kind::Unspecified => panic!("no kind"),
            }
            assert!(!is_counter, "no slice on a counter's track");
            assert!(!self.names[index].is_empty());
        }
        assert!(open.values().all(|depth| *depth == 0), "every slice ends");
        for (flow, steps) in self.flows() {
            assert!(!steps.is_empty(), "{flow}");
        }
    }

    fn is_whole(&self, arg: &DebugAnnotation) -> bool {
        let named = arg.name_iid.is_none_or(|iid| self.args.contains_key(&iid));
        let children = arg.array_values.iter().chain(&arg.dict_entries);
        let values = usize::from(arg.bool_value.is_some())
            + usize::from(arg.uint_value.is_some())
            + usize::from(arg.int_value.is_some())
            + usize::from(arg.string_value.is_some())
            + usize::from(!arg.array_values.is_empty())
            + usize::from(!arg.dict_entries.is_empty());
        named && values == 1 && children.clone().all(|child| self.is_whole(child))
    }

    /// The arrows. One that ended doesn't go on; one that begins has not begun before.
    fn flows(&self) -> BTreeMap<u64, Flow> {
        let mut flows: BTreeMap<u64, Flow> = BTreeMap::new();
        let mut ended = HashSet::new();
        for ((_, event), name) in self.events.iter().zip(&self.names) {
            let step = (event.track_uuid.expect("a track"), name.clone());
            for flow in &event.flow_ids {
                assert!(!ended.contains(flow), "{flow} went on after its end");
                flows.entry(*flow).or_default().push(step.clone());
            }
            for flow in &event.terminating_flow_ids {
                let steps = flows.get_mut(flow).expect("an arrow that began");
                assert!(ended.insert(*flow), "{flow} ended twice");
                steps.push(step.clone());
            }
        }
        flows
    }

    fn process(&self, name: &str) -> u64 {
        let of = |track: &TrackDescriptor| track.process.as_ref()?.process_name.clone();
        let found = self
            .tracks
            .iter()
            .find(|(_, track)| of(track).as_deref() == Some(name));
        let names = || self.tracks.values().filter_map(of).collect::<Vec<_>>();
        *found.unwrap_or_else(|| panic!("{name}: {:?}", names())).0
    }

    /// The slices of a track, with their duration and depth.
    fn slices(&self, track: u64) -> Vec<(String, u64, usize)> {
        let mut slices = Vec::new();
        let mut open = Vec::new();
        for ((time, event), name) in self.events.iter().zip(&self.names) {
            match event.r#type() {
                _ if event.track_uuid != Some(track) => {}
                Kind::SliceBegin => {
                    open.push((slices.len(), *time));
                    slices.push((name.clone(), 0, open.len()));
                }
                Kind::SliceEnd => {
                    let (index, begun) = open.pop().expect("an open slice");
                    slices[index].1 = time - begun;
                }
                _ => {}
            }
        }
        slices
    }

    fn track(&self, name: &str) -> u64 {
        let found = self
            .tracks
            .iter()
            .find(|(_, track)| track.name.as_deref() == Some(name));
        *found.unwrap_or_else(|| panic!("{name}")).0
    }

    fn on(&self, track: u64) -> Vec<&str> {
        let events = self.events.iter().zip(&self.names);
        events
            .filter(|((_, event), name)| event.track_uuid == Some(track) && !name.is_empty())
            .map(|(_, name)| &**name)
            .collect()
    }

    fn counts(&self, track: u64) -> Vec<i64> {
        let events = self.events.iter();
        events
            .filter(|(_, event)| event.track_uuid == Some(track))
            .filter_map(|(_, event)| event.counter_value)
            .collect()
    }
}

fn fixture(name: &str) -> Exported {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    exported(&traces.join(format!("{name}.jsonl.zst")))
}

#[test]
fn what_a_viewer_relies_on_holds_for_every_recorded_trace() {
    for path in recorded() {
        println!("{}", path.display());
        let exported = exported(&path);
        exported.check();
        let verdicts = exported.on(exported.track("verdicts"));
        assert!(!verdicts.is_empty());
        let (first, last) = (exported.events.first(), exported.events.last());
        let length_ns = last.expect("events").0 - first.expect("events").0;
        assert!(length_ns < 3_600_000_000_000, "{length_ns}");
    }
}

#[test]
fn a_signal_leads_from_its_sender_to_the_end_of_its_target() {
    let trace = fixture("kill-external");
    let victim = trace.process("app (PID 1)");
    let flows = trace.flows();
    let deadly = flows
        .values()
        .find(|steps| steps.len() == 3)
        .unwrap_or_else(|| panic!("{flows:#?}"));
    let names: Vec<&str> = deadly.iter().map(|(_, name)| &**name).collect();
    assert_eq!(
        names,
        ["SIGKILL sent", "SIGKILL delivered", "killed by SIGKILL"]
    );
    assert_ne!(deadly[0].0, victim);
    assert_eq!((deadly[1].0, deadly[2].0), (victim, victim));
}

#[test]
fn an_oom_kill_leads_to_the_victims_end_and_memory_is_counted() {
    let trace = fixture("oom-own-limit");
    let flows = trace.flows();
    let kill = flows
        .values()
        .find(|steps| steps[0].1 == "OOM kill")
        .expect("an arrow");
    assert_eq!(kill.last().expect("steps").1, "killed by SIGKILL");
    let limits = trace.counts(trace.track("limit"));
    assert!(!limits.is_empty() && limits.iter().all(|limit| *limit == 48 << 20));
    let used = trace.counts(trace.track("in use"));
    assert!(used.iter().any(|used| *used > 40 << 20), "{used:?}");
    let own = trace.counts(trace.track("resident memory"));
    assert_eq!(own.last(), Some(&0), "{own:?}");
    let names = trace.on(trace.track("verdicts"));
    assert!(names.contains(&"oom-own-limit"), "{names:?}");
}

#[test]
fn the_stop_window_lies_in_the_run_and_an_ignored_signal_ends_at_its_target() {
    let trace = fixture("term-ignored-pid1-default");
    let jail = trace.tracks.values().find(|track| {
        let name = track.name.as_deref();
        name.is_some_and(|name| name.starts_with("jail "))
    });
    let phases = trace.slices(jail.and_then(|track| track.uuid).expect("a track"));
    let depths: Vec<(&str, usize)> = phases
        .iter()
        .map(|(name, _, depth)| (name.split(':').next().unwrap_or(name), *depth))
        .collect();
    assert_eq!(
        depths,
        [
            ("set-up", 1),
            ("run", 1),
            ("grace period", 2),
            ("teardown", 1)
        ]
    );
    // How long the others took is the recording machine's.
    let (run_ns, window_ns) = (phases[1].1, phases[2].1);
    assert!((600_000_000..run_ns).contains(&window_ns), "{phases:?}");
    let steps = trace.slices(trace.track("teardown steps"));
    let steps: Vec<&str> = steps.iter().map(|(step, ..)| &**step).collect();
    assert_eq!(
        steps,
        [
            "kill the jail",
            "reap PID 1",
            "remove the cgroups",
            "end the guard"
        ]
    );
    let app = trace.process("app (PID 1)");
    let ignored = trace.flows().into_values().find(|steps| {
        steps[0].1 == "SIGTERM sent" && steps.last().is_some_and(|step| step.1 == "SIGTERM ignored")
    });
    assert_eq!(ignored.expect("an arrow").last().expect("steps").0, app);
}

#[test]
fn a_zombie_is_a_slice_of_its_own_and_a_fork_leads_to_the_child() {
    let trace = fixture("zombie-pid1-not-reaping");
    let zombies = trace.tracks.keys().flat_map(|track| trace.slices(*track));
    let zombies: Vec<u64> = zombies
        .filter(|(name, ..)| name == "zombie")
        .map(|(_, ns, _)| ns)
        .collect();
    assert!(zombies.iter().any(|ns| *ns > 10_000_000), "{zombies:?}");
    let forks = trace.flows();
    let forks = forks.values().filter(|steps| steps[0].1 == "fork");
    assert!(forks.clone().count() > 0);
    for fork in forks {
        assert_eq!(fork.len(), 2, "{fork:?}");
        assert_ne!(fork[0].0, fork[1].0, "{fork:?}");
    }
}

#[test]
fn a_pid_that_is_used_again_has_a_track_of_its_own() {
    let (events, footer) = story::trace();
    let mut again = events.clone();
    let last = events.last().expect("events");
    for event in &events {
        let mut event = event.clone();
        event.seq += last.seq;
        event.time_ns += last.time_ns;
        event.task.start_ns += last.time_ns;
        if let What::Fork(fork) = &mut event.what {
            fork.child.start_ns += last.time_ns;
        }
        again.push(event);
    }
    let trace = export(&story::header_line(), &again, Some(&footer));
    trace.check();
    let mut pids: HashMap<i32, u32> = HashMap::new();
    for process in trace
        .tracks
        .values()
        .filter_map(|track| track.process.as_ref())
    {
        *pids.entry(process.pid.expect("a PID")).or_default() += 1;
    }
    assert!(pids.values().any(|count| *count > 1), "{pids:?}");
}

#[test]
fn a_trace_that_was_cut_off_says_so_and_leaves_nothing_open() {
    let (events, _) = story::trace();
    for length in 0..events.len() {
        let trace = export(&story::header_line(), &events[..length], None);
        trace.check();
        assert_eq!(trace.on(trace.track("losses"))[0], "trace cut off");
    }
}

/// Text that somebody who is traced may choose.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,40}",
        Just("<script>alert(1)</script>".to_owned()),
        Just("\0\u{1b}[31m\r\n\u{202e}\u{fffd}".to_owned()),
        Just(String::new()),
        Just("x".repeat(100_000)),
    ]
}

fn renamed(task: &mut Task, text: &str) {
    text.clone_into(&mut task.comm);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However events are left out, mixed up and named, the file is whole and its text is text.
    #[test]
    fn any_events_make_a_whole_file(
        picks in proptest::collection::vec((0usize..1_000, 0u64..5_000_000, any::<bool>()), 0..80),
        text in hostile(),
        end in any::<bool>(),
    ) {
        let (events, footer) = story::trace();
        let mut header = story::header_line();
        header.jail.name.clone_from(&text);
        header.jail.command = vec![text.clone()];
        let mut time_ns = header.start_boot_ns;
        let mut chosen = Vec::new();
        for (seq, (pick, later, unknown)) in picks.into_iter().enumerate() {
            let mut event = events[pick % events.len()].clone();
            time_ns += later;
            event.seq = seq as u64 + 1;
            event.time_ns = time_ns;
            renamed(&mut event.task, &text);
            if unknown {
                event.task.start_ns = 0;
            }
            match &mut event.what {
                What::Exec(exec) => exec.argv = vec![text.clone(), text.clone()],
                What::Fork(fork) => renamed(&mut fork.child, &text),
                What::SignalGenerated(signal) => signal.signal.name.clone_from(&text),
                What::SignalDelivered(signal) => {
                    signal.generated_seq = Some(later % 80);
                }
                What::Mount(mount) => mount.target.clone_from(&text),
                _ => {}
            }
            chosen.push(event);
        }
        let trace = export(&header, &chosen, end.then_some(&footer));
        trace.check();
        for name in &trace.names {
            let harmful = name.contains(['\0', '\u{1b}', '\n', '\u{202e}']);
            prop_assert!(!harmful, "{:?}", name);
            prop_assert!(name.chars().count() < 60_000);
        }
    }
}
