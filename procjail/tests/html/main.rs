//! The page that `procjail export --to html` makes, in a real browser.
//!
//! With `PROCJAIL_SCREENSHOTS=DIRECTORY` the pages are left there as pictures and as printed, to look at.

#[path = "../browser/mod.rs"]
mod browser;
mod controls;
mod hostile;
mod media;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use browser::Browser;
use browser::traces::{lines, recorded, storm, write_trace};

/// The page of a trace, in a directory of its own.
fn page_of(trace: &Path) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let page = directory.path().join("page.html");
    let made = Command::new(env!("CARGO_BIN_EXE_procjail"))
        .args(["export", "--to", "html", "-o"])
        .args([&page, trace])
        .stdin(Stdio::null())
        .output()
        .expect("runs");
    let complaint = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success(), "{complaint}");
    (directory, page)
}

/// A browser that shows the page of a recorded trace.
fn shown(name: &str) -> (Browser, TempDir, PathBuf) {
    let (directory, page) = page_of(&recorded(name));
    let mut browser = Browser::start();
    browser.open(&page);
    assert_ready(&mut browser);
    (browser, directory, page)
}

fn assert_ready(browser: &mut Browser) {
    browser.wait_for("'ready' in document.documentElement.dataset");
    browser.settle();
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Where pictures are left, if anybody asked for them.
fn pictures() -> Option<PathBuf> {
    std::env::var_os("PROCJAIL_SCREENSHOTS").map(PathBuf::from)
}

/// Colours of so many different pixels: a canvas that shows something has several.
const COLOURS: &str = "(canvas => { const {width, height} = canvas; \
    const data = new Uint32Array(canvas.getContext('2d').getImageData(0, 0, width, height).data.buffer); \
    return new Set(data).size; })";

#[test]
fn recorded_traces_become_pages_without_a_complaint() {
    for name in [
        "oom-own-limit",
        "oom-fork-bomb",
        "mem-growth-leak",
        "kill-external",
        "hang-d-state-fuse",
        "zombie-pid1-not-reaping",
        "mount-propagated-to-host",
        "fork-bomb",
    ] {
        let (mut browser, _directory, page) = shown(name);
        let events = lines(name).len() - 2;
        assert_eq!(
            browser.number("document.querySelectorAll('table.events tbody tr').length"),
            events as f64,
            "{name}"
        );
        let first = browser.text("document.querySelector('.verdict h3 code').textContent");
        let title = browser.text("document.title");
        assert!(title.starts_with(&format!("{first}: ")), "{title}");
        let colours = browser.number(&format!(
            "{COLOURS}(document.querySelector('#lanes-canvas'))"
        ));
        assert!(colours > 5.0, "{name}: an empty timeline");
        // One thing lies beside the other, not over it, and nothing sticks out.
        assert_eq!(
            browser.number(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            ),
            0.0,
            "{name}"
        );
        if let Some(directory) = pictures() {
            for (scheme, width) in [("light", 1280), ("dark", 1280), ("light", 800)] {
                browser.media("screen", scheme);
                browser.size(width, 900);
                browser.settle();
                browser.picture(
                    &directory.join(format!("{name}-{scheme}-{width}.png")),
                    true,
                );
            }
            browser.media("", "light");
            std::fs::write(directory.join(format!("{name}.pdf")), browser.print()).expect("left");
            std::fs::copy(&page, directory.join(format!("{name}.html"))).expect("left");
        }
    }
}

#[test]
fn a_hundred_thousand_events_stay_usable() {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = write_trace(directory.path(), storm(100_000));
    let start = Instant::now();
    let (_page_directory, page) = page_of(&trace);
    println!("exported in {:?}", start.elapsed());
    let mut browser = Browser::start();
    let start = Instant::now();
    browser.open(&page);
    assert_ready(&mut browser);
    let loaded = start.elapsed();
    let total = browser.number("Number(document.querySelector('#grid').ariaRowCount)");
    assert!(total > 90_000.0, "{total} rows");
    assert_eq!(
        browser.number("document.querySelectorAll('table.events tbody tr').length"),
        20_000.0
    );
    let note = browser.text("document.querySelector('#events > p').textContent");
    assert!(note.starts_with("All 100,00"), "{note}");

    let timed = |browser: &mut Browser, action: &mut dyn FnMut(&mut Browser)| {
        let start = Instant::now();
        action(browser);
        browser
            .eval("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))");
        start.elapsed()
    };
    let searched = timed(&mut browser, &mut |browser| {
        browser.key("/");
        browser.write("worker-3 99");
        browser
            .wait_for("/^[1-9][0-9]{0,3} of/.test(document.querySelector('#found').textContent)");
    });
    browser.key("Escape");
    browser.settle();
    let middle = browser.place("#lanes", 0.6, 0.5);
    let zoomed = timed(&mut browser, &mut |browser| {
        browser.zoom_wheel(middle, -400.0)
    });
    let scrolled = timed(&mut browser, &mut |browser| {
        browser.key("e");
        browser.key("End");
    });
    // A group of thousands opens.
    let folded = browser.number("document.querySelector('#lanes .paper').offsetHeight");
    browser.eval("document.querySelector('#lanes').focus()");
    for _ in 0..100 {
        browser.key("ArrowDown");
        let lane = browser.text("document.querySelector('#lane-status').textContent");
        if lane.contains(" × ") {
            break;
        }
    }
    let opened = timed(&mut browser, &mut |browser| browser.key(" "));
    let unfolded = browser.number("document.querySelector('#lanes .paper').offsetHeight");
    assert!(
        folded < 4_000.0 && unfolded > 10.0 * folded,
        "{folded} to {unfolded}"
    );
    println!(
        "loaded {loaded:?}, searched {searched:?}, zoomed {zoomed:?}, to the end {scrolled:?}, opened {opened:?}"
    );
    assert!(loaded < Duration::from_secs(20));
    for took in [searched, zoomed, scrolled, opened] {
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
    if let Some(directory) = pictures() {
        browser.picture(&directory.join("storm.png"), false);
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_trace_that_was_cut_off_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    for kept in [1, 2, 5] {
        let some = lines("oom-own-limit").into_iter().take(kept);
        let trace = write_trace(directory.path(), some);
        let (_page_directory, page) = page_of(&trace);
        let mut browser = Browser::start();
        browser.open(&page);
        assert_ready(&mut browser);
        let note = browser.text("document.querySelector('main > .note.bad').textContent");
        assert!(note.contains("not whole"), "{note}");
    }
}
