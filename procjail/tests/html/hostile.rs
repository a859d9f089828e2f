//! A traced program whose texts attack the reader.

use serde_json::json;

use super::{assert_ready, page_of};
use crate::browser::Browser;
use crate::browser::traces::{lines, poisoned, recorded, write_trace};

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
