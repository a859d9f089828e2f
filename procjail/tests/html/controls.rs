//! What one does with the page: by mouse and by keyboard.

use serde_json::json;

use super::{COLOURS, pictures, shown};

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
    assert!(all.ends_with("of 116 (minor ones not shown)"), "{all}");

    browser.key("/");
    assert_eq!(browser.eval("document.activeElement.id"), json!("search"));
    browser.write("oom-kill");
    browser.wait_for(&format!("{found} === '1 of 116'"));
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
    browser.wait_for(&format!("{found} === '18 of 116'"));
    let chip = browser.text("document.querySelector('#chips').textContent");
    assert_eq!(chip, "fork ×");
    let chip = browser.place("#chips button", 0.5, 0.5);
    browser.click(chip);
    browser.wait_for(&format!("{found} === '{all}'"));

    let minor = browser.place("#minor", 0.5, 0.5);
    browser.click(minor);
    browser.wait_for(&format!("{found} === '116 of 116'"));
    browser.key("e");
    browser.key("Home");
    browser.key("ArrowDown");
    browser.key("End");
    browser.settle();
    let selected = "document.querySelector('#grid [aria-selected=true]').firstChild.textContent";
    assert_eq!(browser.text(selected), "116");
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
