//! scratch
use procjail::kernel::{Options, Tracer};
#[test]
fn attaches() {
    use std::os::unix::fs::MetadataExt as _;
    tracing_subscriber::fmt().with_max_level(if std::env::var_os("V").is_some() {tracing::Level::TRACE} else {tracing::Level::DEBUG}).with_ansi(false).init();
    let dir = std::path::PathBuf::from(format!("/sys/fs/cgroup/unified/procjail-test-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let id = std::fs::metadata(&dir).unwrap().ino();
    for mb in [8u32,4,2,1,8,4,2,1] {
        let s = std::time::Instant::now();
    let t = Tracer::attach(id, 1, &Options{ring_bytes: mb<<20, ..Options::default()}).unwrap();
        println!("ring {mb} MiB attach {:?}", s.elapsed());
    let s = std::time::Instant::now(); drop(t); println!("drop {:?}", s.elapsed());
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    std::fs::remove_dir(&dir).unwrap();
}
