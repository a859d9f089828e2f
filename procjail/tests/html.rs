//! The page that `procjail export --to html` makes, in a real browser.
//!
//! With `PROCJAIL_SCREENSHOTS=DIRECTORY` the pages are left there as pictures and as printed, to look at.

mod browser;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use browser::Browser;
use browser::traces::{lines, poisoned, recorded, storm, write_trace};

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
fn the_timeline_zooms_moves_and_tells() {
    let (mut browser, _directory, _page) = shown("oom-fork-bomb");
    let window = "document.querySelector('#window').textContent";
    let whole = browser.text(window);
    assert!(whole.starts_with("whole run"), "{whole}");

    let middle = browser.place("#lanes", 0.5, 0.5);
    browser.zoom_wheel(middle, -400.0);
    browser.settle();
    let zoomed = browser.text(window);
    assert!(zoomed.contains(" to "), "{zoomed}");

    browser.drag(middle, (middle.0 - 150.0, middle.1), false);
    browser.settle();
    let moved = browser.text(window);
    assert_ne!(moved, zoomed);
    // Moving changes no length.
    let length = |text: &str| text.rsplit(", ").next().map(str::to_owned);
    assert_eq!(length(&moved), length(&zoomed));

    let button = browser.place("[data-do=fit]", 0.5, 0.5);
    browser.click(button);
    browser.settle();
    assert_eq!(browser.text(window), whole);

    let middle = browser.place("#lanes", 0.5, 0.5);
    browser.drag(middle, (middle.0 + 100.0, middle.1), true);
    browser.settle();
    assert!(browser.text(window).contains(" to "));

    browser.place("#lanes", 0.5, 0.5);
    browser.eval("document.querySelector('#lanes').focus()");
    browser.key("0");
    browser.settle();
    assert_eq!(browser.text(window), whole);
    browser.key("+");
    browser.settle();
    let zoomed = browser.text(window);
    browser.key("ArrowRight");
    browser.settle();
    assert_ne!(browser.text(window), zoomed);
    browser.key("0");

    // Down to PID 1, whose events Enter shows.
    browser.key("ArrowDown");
    browser.key("ArrowDown");
    browser.settle();
    let told = browser.text("document.querySelector('#lane-status').textContent");
    assert!(told.starts_with("1 app"), "{told}");

    let tip = "document.querySelector('#tip')";
    let name = browser.place("#lanes", 0.03, 0.0);
    browser.hover((name.0, name.1 + 64.0 + 22.0 + 11.0));
    browser.wait_for(&format!("!{tip}.hidden"));
    let told = browser.text(&format!("{tip}.textContent"));
    assert!(
        told.starts_with("1 app") && told.contains("killed by SIGKILL"),
        "{told}"
    );

    if let Some(directory) = pictures() {
        browser.picture(&directory.join("hover.png"), false);
    }

    browser.key("Enter");
    browser.settle();
    let chip = browser.text("document.querySelector('#chips').textContent");
    assert!(chip.contains("process: 1 app"), "{chip}");
    if let Some(directory) = pictures() {
        browser.picture(&directory.join("events.png"), false);
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_lane_is_found_by_its_name() {
    let (mut browser, _directory, _page) = shown("oom-fork-bomb");
    let height = "document.querySelector('#lanes .paper').offsetHeight";
    let all = browser.number(height);
    browser.eval("document.querySelector('#lane-filter').focus()");
    browser.write("17");
    browser.settle();
    assert!(browser.number(height) < all);
    browser.key("Escape");
    browser.settle();
    assert_eq!(browser.number(height), all);
}

#[test]
fn memory_is_told_by_kind_and_by_process() {
    let (mut browser, _directory, _page) = shown("mem-growth-leak");
    let colours = format!("{COLOURS}(document.querySelector('#memory-canvas'))");
    assert!(browser.number(&colours) > 5.0);
    let middle = browser.place("#memory-canvas", 0.7, 0.5);
    browser.hover(middle);
    let tip = "document.querySelector('#tip').textContent";
    browser.wait_for(&format!("{tip}.includes('anonymous: ')"));
    assert!(browser.text(tip).contains("limit: 64.0 MiB"));
    let button = browser.place("[data-memory=processes]", 0.5, 0.5);
    browser.click(button);
    let middle = browser.place("#memory-canvas", 0.7, 0.5);
    browser.hover((middle.0 + 3.0, middle.1));
    browser.wait_for(&format!("{tip}.includes('1 app: ')"));
    assert_eq!(
        browser.eval("document.querySelector('[data-memory=processes]').ariaPressed"),
        json!("true")
    );
    // The same stretch of time as in the timeline.
    browser.zoom_wheel(middle, -300.0);
    browser.settle();
    let window = browser.text("document.querySelector('#window').textContent");
    assert!(window.contains(" to "), "{window}");
}

#[test]
fn events_are_searched_filtered_and_walked_by_keys() {
    let (mut browser, _directory, _page) = shown("oom-fork-bomb");
    let found = "document.querySelector('#found').textContent";
    let all = browser.text(found);
    assert!(all.ends_with("of 113 (minor ones not shown)"), "{all}");

    browser.key("/");
    assert_eq!(browser.eval("document.activeElement.id"), json!("search"));
    browser.write("oom-kill");
    browser.wait_for(&format!("{found} === '1 of 113'"));
    browser.key("Enter");
    browser.wait_for("!document.querySelector('#details').hidden");
    let details = browser.text("document.querySelector('#details').textContent");
    assert!(details.contains("OOM kill of 1 app"), "{details}");
    browser.settle();
    assert_eq!(
        browser.number("document.querySelectorAll('#grid [aria-selected=true]').length"),
        1.0
    );
    browser.key("Escape");
    browser.wait_for(&format!("{found} === '{all}'"));

    let kinds = browser.place("#kinds-menu summary", 0.5, 0.5);
    browser.click(kinds);
    let fork = browser.place("#kind-0", 0.5, 0.5);
    browser.click(fork);
    browser.wait_for(&format!("{found} === '17 of 113'"));
    let chip = browser.text("document.querySelector('#chips').textContent");
    assert_eq!(chip, "fork ×");
    let chip = browser.place("#chips button", 0.5, 0.5);
    browser.click(chip);
    browser.wait_for(&format!("{found} === '{all}'"));

    let minor = browser.place("#minor", 0.5, 0.5);
    browser.click(minor);
    browser.wait_for(&format!("{found} === '113 of 113'"));
    browser.key("e");
    browser.key("Home");
    browser.key("ArrowDown");
    browser.key("End");
    browser.settle();
    let selected = "document.querySelector('#grid [aria-selected=true]').firstChild.textContent";
    assert_eq!(browser.text(selected), "113");
    // Only what is in sight has an element.
    let rows = browser.number("document.querySelectorAll('#grid .rows .row').length");
    assert!(rows < 80.0, "{rows} rows");

    // A link of the evidence goes to its event.
    let link = browser.place("a.seq", 0.5, 0.5);
    let target = browser.text("document.querySelector('a.seq').textContent");
    browser.click(link);
    browser.settle();
    assert_eq!(format!("#{}", browser.text(selected)), target);
    // And that to its place in the timeline.
    let show = browser.place("#details button", 0.5, 0.5);
    browser.click(show);
    browser.settle();
    let lane = browser.text("document.querySelector('#lane-status').textContent");
    assert!(lane.contains("app"), "{lane}");

    browser.key("?");
    browser.wait_for("document.querySelector('#help').open");
    browser.key("Escape");
    browser.wait_for("!document.querySelector('#help').open");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn the_keyboard_reaches_everything() {
    let (mut browser, _directory, _page) = shown("oom-own-limit");
    let mut reached = Vec::new();
    for _ in 0..60 {
        browser.key("Tab");
        let one = browser.text(
            "(one => one.id || one.dataset.do || one.dataset.memory || one.hash || one.tagName)(document.activeElement)",
        );
        if reached.len() > 5 && one == "BODY" {
            break;
        }
        let outlined = browser.eval(
            "document.activeElement === document.body || getComputedStyle(document.activeElement).outlineStyle !== 'none'",
        );
        assert_eq!(outlined, json!(true), "{one} shows no focus");
        reached.push(one);
    }
    for wanted in [
        "#verdicts",
        "theme",
        "zoom-in",
        "lane-filter",
        "lanes",
        "memory-canvas",
        "search",
        "minor",
        "grid",
    ] {
        assert!(
            reached.iter().any(|one| one == wanted),
            "{wanted}: {reached:?}"
        );
    }
    let unnamed = browser.eval(
        "[...document.querySelectorAll('button, input, canvas[tabindex], [role=application], [role=grid]')] \
         .filter(one => !(one.textContent.trim() || one.ariaLabel || one.labels?.length)).map(one => one.outerHTML)",
    );
    assert_eq!(unnamed, json!([]));
}

#[test]
fn light_and_dark_follow_the_system_or_the_button() {
    let (mut browser, _directory, _page) = shown("kill-external");
    let paper = "getComputedStyle(document.body).backgroundColor";
    browser.media("screen", "light");
    let light = browser.text(paper);
    browser.media("screen", "dark");
    let dark = browser.text(paper);
    assert_eq!(
        (light.as_str(), dark.as_str()),
        ("rgb(255, 255, 255)", "rgb(20, 24, 29)")
    );
    let button = browser.place("#theme", 0.5, 0.5);
    browser.click(button);
    assert_eq!(browser.text(paper), light);
    browser.click(button);
    assert_eq!(browser.text(paper), dark);
    browser.click(button);
    browser.media("screen", "light");
    assert_eq!(browser.text(paper), light);
    // Text can be told from what it is on, as far as WCAG asks for it (AA).
    for scheme in ["light", "dark"] {
        browser.media("screen", scheme);
        let faint = browser.eval(
            "(() => { const parse = text => text.match(/[\\d.]+/g).map(Number); \
             const light = ([r, g, b]) => { const f = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; \
               return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); }; \
             const paper = one => { for (; one; one = one.parentElement) { const c = parse(getComputedStyle(one).backgroundColor); \
               if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; }; \
             return [...document.querySelectorAll('main *')].filter(one => one.checkVisibility() && !one.closest('svg') && \
               [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim())) \
               .filter(one => { const [a, b] = [light(parse(getComputedStyle(one).color)), light(paper(one))]; \
                 return (Math.max(a, b) + .05) / (Math.min(a, b) + .05) < 4.5; }).map(one => one.outerHTML.slice(0, 200)); })()",
        );
        assert_eq!(faint, json!([]), "{scheme}");
    }
}

#[test]
fn verdicts_pictures_and_tables_need_no_script() {
    let (_directory, page) = page_of(&recorded("oom-fork-bomb"));
    let mut browser = Browser::start();
    browser.call(
        "Emulation.setScriptExecutionDisabled",
        json!({"value": true}),
    );
    browser.open(&page);
    let seen = |selector: &str| {
        format!(
            "[...document.querySelectorAll('{selector}')].filter(one => one.checkVisibility()).length"
        )
    };
    assert_eq!(browser.number(&seen("table.events tbody tr")), 113.0);
    assert_eq!(browser.number(&seen(".verdict")), 1.0);
    assert_eq!(browser.number(&seen("svg.picture")), 3.0);
    assert_eq!(browser.number(&seen(".tree tbody tr")), 18.0);
    assert_eq!(browser.number(&seen(".js-only")), 0.0);
    assert_eq!(browser.number(&seen("noscript p")), 1.0);
    if let Some(directory) = pictures() {
        browser.picture(&directory.join("without-script.png"), true);
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn it_prints_without_what_only_a_screen_has() {
    let (mut browser, _directory, _page) = shown("oom-fork-bomb");
    browser.media("print", "dark");
    let displayed =
        |selector: &str| format!("document.querySelector('{selector}').checkVisibility()");
    for (selector, expected) in [
        (".toolbar", false),
        (".plot", false),
        ("#grid", false),
        (".sections", false),
        ("svg.picture", true),
        ("[data-chart=processes] svg.picture", true),
        ("table.events", true),
        (".verdict", true),
        ("tr.minor", false),
    ] {
        assert_eq!(
            browser.eval(&displayed(selector)),
            json!(expected),
            "{selector}"
        );
    }
    // Paper is white.
    assert_eq!(
        browser.text("getComputedStyle(document.body).backgroundColor"),
        "rgb(255, 255, 255)"
    );
    let printed = browser.print();
    assert!(printed.starts_with(b"%PDF-") && printed.len() > 20_000);
}

#[test]
fn text_of_the_traced_program_stays_text() {
    for name in [
        "oom-fork-bomb",
        "term-ignored-pid1-default",
        "hang-d-state-fuse",
        "mount-propagated-to-host",
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let trace = write_trace(directory.path(), lines(name).into_iter().map(poisoned));
        let (_page_directory, page) = page_of(&trace);
        for scripts in [true, false] {
            let mut browser = Browser::start();
            browser.call(
                "Emulation.setScriptExecutionDisabled",
                json!({"value": !scripts}),
            );
            browser.open(&page);
            if scripts {
                assert_ready(&mut browser);
                // All that is made only then: rows, details, tips, chips.
                browser.key("e");
                for key in ["Home", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown"] {
                    browser.key(key);
                }
                browser.settle();
                let lane = browser.place("#lanes", 0.5, 0.0);
                for down in [75.0, 97.0] {
                    browser.hover((lane.0, lane.1 + down));
                }
                browser.click((lane.0, lane.1 + 97.0));
                browser.eval("document.querySelector('#lanes').focus()");
                browser.key("Enter");
                browser.settle();
            }
            assert_eq!(browser.eval("typeof pwned"), json!("undefined"), "{name}");
            let strange = browser.eval(
                "[...document.querySelectorAll('img, svg[onload], iframe, object, embed, base, b, link:not([href=\"data:,\"])')] \
                 .map(one => one.outerHTML)",
            );
            assert_eq!(strange, json!([]), "{name}");
            assert_eq!(
                browser.number("document.scripts.length + document.styleSheets.length"),
                4.0,
                "{name}"
            );
            // What turns writing around, or moves a cursor, is shown as what it is.
            let raw = browser.eval(
                "/[\\u202e\\u2028\\u001b\\u009b\\u0000]/.test(document.documentElement.innerHTML)",
            );
            assert_eq!(raw, json!(false), "{name}");
            assert!(browser.text("document.title").contains("</title>"));
            assert_eq!(browser.complaints(), Vec::<String>::new(), "{name}");
        }
    }
}

#[test]
fn a_script_that_got_in_would_not_run() {
    let (directory, page) = page_of(&recorded("kill-external"));
    let text = std::fs::read_to_string(&page).expect("readable");
    let broken = text.replace(
        "<main>",
        "<main><script>window.pwned = 1</script><img src='x' onerror='window.pwned = 2'>",
    );
    assert_ne!(text, broken);
    let page = directory.path().join("broken.html");
    std::fs::write(&page, broken).expect("written");
    let mut browser = Browser::start();
    browser.open(&page);
    browser.wait_for("'ready' in document.documentElement.dataset");
    assert_eq!(browser.eval("typeof pwned"), json!("undefined"));
    assert!(!browser.complaints().is_empty(), "the policy says nothing");
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
