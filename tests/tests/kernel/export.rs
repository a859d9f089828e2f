//! Exports of real traces, and to disks that fill up half-way.

use procjail_tests::{Finished, Scene, misbehave, scene};

use super::bad_input::SmallDisk;

const FORMATS: [&str; 3] = ["csv", "json", "markdown"];

fn export(scene: &Scene, file: &str, format: &str, more: &[&str]) -> Finished {
    scene
        .procjail(&["export", file, "--to", format])
        .args(more)
        .finish()
}

/// The trace of a small run; its lines again and again, if there are to be more.
fn trace(scene: &Scene, times: usize) -> String {
    scene
        .trace(&[], &[&misbehave(), "zombies", "3"])
        .finish()
        .expect_code(0)
        .trace()
        .expect_complete();
    let path = scene.path("trace.jsonl").display().to_string();
    if times > 1 {
        let whole = std::fs::read_to_string(&path).expect("the trace");
        let (header, events) = whole.split_once('\n').expect("a header");
        let (events, footer) = events.trim_end().rsplit_once('\n').expect("a footer");
        let events = format!("{events}\n").repeat(times);
        std::fs::write(&path, format!("{header}\n{events}{footer}\n")).expect("room");
    }
    path
}

#[test]
fn a_fresh_trace_is_exported_in_each_form() {
    scene(|scene| {
        let file = trace(scene, 1);
        for (format, has) in [
            ("csv", "seq,time_utc,"),
            ("json", "\"format\":\"procjail-report\""),
            ("markdown", "## Timeline"),
        ] {
            let finished = export(scene, &file, format, &[]).expect_code(0);
            assert_eq!(finished.stderr, "");
            assert!(
                finished.stdout.contains(has),
                "{format}: {}",
                finished.stdout
            );
        }
    });
}

/// Neither half a file nor one of another name is left, and one that was there is whole.
#[test]
fn a_disk_that_fills_up_half_way() {
    scene(|scene| {
        // More than what is held before it is written.
        let file = trace(scene, 200);
        let disk = SmallDisk::of_size(scene, 0, c"size=512k");
        let out = disk.0.join("out").display().to_string();
        let left = || std::fs::read_dir(&disk.0).expect("the disk").count();
        for format in ["csv", "json"] {
            export(scene, &file, format, &["-o", &out])
                .expect_refusal(125, &["out", "ENOSPC", "make room"]);
            assert_eq!(left(), 0, "{format}");
            std::fs::write(&out, "mine").expect("room");
            export(scene, &file, format, &["-o", &out, "--force"])
                .expect_refusal(125, &["out", "ENOSPC"]);
            assert_eq!(std::fs::read_to_string(&out).expect("the old one"), "mine");
            assert_eq!(left(), 1, "{format}");
            std::fs::remove_file(&out).expect("removed");
        }
    });
}

#[test]
fn a_full_disk() {
    scene(|scene| {
        let file = trace(scene, 1);
        let disk = SmallDisk::of_size(scene, 0, c"size=4k");
        let filler = disk.0.join("filler");
        std::fs::write(&filler, [0_u8; 4096]).expect("the disk holds one page");
        let out = disk.0.join("out").display().to_string();
        for format in FORMATS {
            export(scene, &file, format, &["-o", &out]).expect_refusal(125, &["out", "ENOSPC"]);
            assert_eq!(std::fs::read_dir(&disk.0).expect("the disk").count(), 1);
        }
    });
}

#[test]
fn a_read_only_disk() {
    scene(|scene| {
        let file = trace(scene, 1);
        let disk = SmallDisk::of_size(scene, libc::MS_RDONLY, c"size=64k");
        let out = disk.0.join("out").display().to_string();
        for format in FORMATS {
            export(scene, &file, format, &["-o", &out])
                .expect_refusal(125, &["out", "EROFS", "another place"]);
        }
    });
}
