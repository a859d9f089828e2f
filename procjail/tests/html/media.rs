//! The page where it is not the usual one: in the dark, on paper, without scripts.

use serde_json::json;

use super::{page_of, pictures, shown};
use crate::browser::Browser;
use crate::browser::traces::recorded;

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
    assert_eq!(browser.number(&seen("table.events tbody tr")), 116.0);
    assert_eq!(browser.number(&seen(".verdict")), 1.0);
    assert_eq!(browser.number(&seen("svg.picture")), 3.0);
    assert_eq!(browser.number(&seen(".tree tbody tr")), 19.0);
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
