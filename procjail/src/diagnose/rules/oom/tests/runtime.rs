//! Runtimes that bound their heap themselves.

use super::super::ceiling::{ceiling, explicit};
use super::*;
use crate::diagnose::program_of;

#[test]
fn runtimes_name_their_heap() {
    let argv = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    let heap_of = |text: &str, variables: &[(&str, &str)]| {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        explicit(&argv(text), variable, mib(8192)).and_then(|ceiling| ceiling.bytes)
    };
    assert_eq!(heap_of("/usr/bin/java -Xmx256m Main", &[]), Some(mib(256)));
    assert_eq!(heap_of("java -Xmx1g -Xmx64M Main", &[]), Some(mib(64)));
    assert_eq!(
        heap_of("java Main", &[("JAVA_TOOL_OPTIONS", "-Dx=1 -Xmx2g")]),
        Some(mib(2048))
    );
    assert_eq!(
        heap_of("java -XX:MaxRAMPercentage=75.0 Main", &[]),
        // Of the machine's memory, which is what a JVM sees in the jail.
        Some(mib(6144))
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
    assert_eq!(heap_of("memcached -m 512", &[]), Some(mib(512)));
    assert_eq!(heap_of("memcached -m512 -u x", &[]), Some(mib(512)));
    assert_eq!(
        heap_of("php -d memory_limit=256M x.php", &[]),
        Some(mib(256))
    );
    let by_default = |text: &str| ceiling(&argv(text), |_| None, mib(8192)).map(|one| one.bytes);
    assert_eq!(by_default("java Main"), Some(Some(mib(2048))));
    assert_eq!(by_default("node x.js"), Some(Some(mib(2048))));
    assert_eq!(by_default("redis-server"), Some(None));
    assert_eq!(by_default("nginx"), None);
}

/// PID 1 of that command line is killed at 64 MiB, most of it its own.
fn killed(argv: &[&str], anon: u64, total_vm: u64) -> Scene {
    let mut scene = Scene::new(argv);
    scene.header.host.memory_bytes = mib(8192);
    let app = inside(1, program_of(argv.first().copied().unwrap_or_default()));
    let mut victim = kill(app.clone(), anon, full());
    victim.memory.total_vm_bytes = total_vm;
    scene.at(5000, app, What::OomKill(victim));
    scene
}

#[test]
fn a_heap_that_fits_is_not_blamed() {
    let scene = |option: &str| killed(&["java", option, "Main"], mib(60), mib(3000));
    let found = scene("-Xmx256m").verdict("oom-runtime-heap-exceeds-limit");
    let (confidence, verdict) = (found.sure(), found.verdict());
    // A leak would have filled any heap.
    assert_eq!(confidence, Confidence::Likely);
    assert!(verdict.contains("a leak"), "{verdict}");
    // The heap alone would fit.
    assert_eq!(
        scene("-Xmx60m")
            .verdict("oom-runtime-heap-exceeds-limit")
            .sure(),
        Confidence::ConsistentWith
    );
    scene("-Xmx50m").expect_no("oom-runtime-heap-exceeds-limit");
}

#[test]
fn what_is_beyond_the_heap_is_no_heap() {
    let scene = killed(&["java", "-Xmx20m", "Main"], mib(62), mib(3000));
    let found = scene.verdict("oom-runtime-heap-exceeds-limit");
    let verdict = found.verdict();
    assert_eq!(found.sure(), Confidence::Likely);
    assert!(
        verdict.contains("42.0 MiB more than its heap may have")
            && verdict.contains("direct buffers"),
        "{verdict}"
    );
}

#[test]
fn a_default_is_blamed_only_if_the_addresses_fit_it() {
    let id = "oom-runtime-heap-exceeds-limit";
    let java = |total_vm| killed(&["java", "Main"], mib(60), total_vm);
    assert_eq!(java(mib(4000)).verdict(id).sure(), Confidence::Likely);
    // A JVM that saw the jail's limit reserves little.
    java(mib(1000)).expect_no(id);
    let node = killed(&["node", "x.js"], mib(60), mib(900));
    assert_eq!(node.verdict(id).sure(), Confidence::ConsistentWith);
    let memcached = killed(&["memcached", "-m", "1024"], mib(60), mib(900));
    assert_eq!(memcached.verdict(id).sure(), Confidence::Likely);
    killed(&["nginx"], mib(60), mib(900)).expect_no(id);
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

#[test]
fn a_runtime_that_says_so_gave_up() {
    let scene = |text: &str| {
        let mut scene = Scene::new(&["java", "-Xmx24m", "Fill"]);
        let java = inside(1, "java");
        let tail = StderrTail {
            text: text.to_owned(),
            truncated: false,
            head: None,
            before_ns: 1,
        };
        scene.exit(1001, &java, 1, mib(60));
        scene.at(1001, java, What::StderrTail(tail));
        scene
    };
    let found =
        scene("java.lang.OutOfMemoryError: Java heap space\n").verdict("oom-inside-runtime");
    // Words alone prove no cause.
    assert_eq!(found.sure(), Confidence::Likely);
    for other in [
        "java.lang.NullPointerException\n",
        "java.lang.OutOfMemoryError: unable to create native thread: possibly out of memory\n",
        "java.lang.OutOfMemoryError: Requested array size exceeds VM limit\n",
        "caught java.lang.OutOfMemoryError: Java heap space\njava.lang.IllegalStateException\n\tat A.main\n",
    ] {
        scene(other).expect_no("oom-inside-runtime");
    }
}
