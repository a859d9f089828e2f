//! Runtimes that bound their heap themselves.

use super::super::runtime::heap;
use super::*;

#[test]
fn runtimes_name_their_heap() {
    let argv = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    let heap_of = |text: &str, variables: &[(&str, &str)]| {
        let environment = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        heap(&argv(text), &environment, mib(100), mib(8192)).map(|heap| heap.bytes)
    };
    assert_eq!(heap_of("/usr/bin/java -Xmx256m Main", &[]), Some(mib(256)));
    assert_eq!(heap_of("java -Xmx1g -Xmx64M Main", &[]), Some(mib(64)));
    assert_eq!(
        heap_of("java Main", &[("JAVA_TOOL_OPTIONS", "-Dx=1 -Xmx2g")]),
        Some(mib(2048))
    );
    assert_eq!(
        heap_of("java -XX:MaxRAMPercentage=75.0 Main", &[]),
        Some(mib(75))
    );
    assert_eq!(
        heap_of("node --max-old-space-size=512 x.js", &[]),
        Some(mib(512))
    );
    assert_eq!(
        heap_of(
            "nodejs x.js",
            &[("NODE_OPTIONS", "--max-old-space-size=1024")]
        ),
        Some(mib(1024))
    );
    assert_eq!(
        heap_of("server", &[("GOMEMLIMIT", "900MiB")]),
        Some(mib(900))
    );
    assert_eq!(heap_of("server", &[("GOMEMLIMIT", "off")]), Some(mib(8192)));
    for unknown in [
        "java Main",
        "java -Xmx Main",
        "java -Xmxlots",
        "node x.js",
        "sh -Xmx1g",
    ] {
        assert_eq!(heap_of(unknown, &[]), None, "{unknown}");
    }
}

#[test]
fn a_heap_that_fits_is_not_blamed() {
    let scene = |option: &str| {
        let mut scene = Scene::new(&["java", option, "Main"]);
        let java = inside(1, "java");
        scene.at(
            5000,
            java.clone(),
            What::OomKill(kill(java, mib(60), full())),
        );
        scene
    };
    assert_eq!(
        scene("-Xmx256m").expect("oom-runtime-heap-exceeds-limit").0,
        Confidence::Proven
    );
    // The heap alone would fit.
    assert_eq!(
        scene("-Xmx60m").expect("oom-runtime-heap-exceeds-limit").0,
        Confidence::Likely
    );
    scene("-Xmx40m").expect_no("oom-runtime-heap-exceeds-limit");
}

#[test]
fn an_abort_far_below_the_heap_is_another_failure() {
    let scene = |peak: u64| {
        let mut scene = Scene::new(&["node", "--max-old-space-size=100", "x.js"]);
        let node = inside(1, "node");
        scene.signal(1000, node.clone(), node.clone(), libc::SIGABRT, -6);
        scene.exit(1001, node, -libc::SIGABRT, peak);
        scene
    };
    scene(mib(90)).expect("oom-inside-runtime");
    scene(mib(20)).expect_no("oom-inside-runtime");
}
