//! Tells the compiler which BPF object to embed: the committed one, unless `PROCJAIL_BPF_OBJECT` names
//! another (a freshly built one, to run the tests on).

use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=PROCJAIL_BPF_OBJECT");
    let object = env::var_os("PROCJAIL_BPF_OBJECT").map_or_else(
        || {
            let root = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
            PathBuf::from(root).join("bpf/procjail.bpf.o")
        },
        PathBuf::from,
    );
    println!("cargo::rerun-if-changed={}", object.display());
    println!("cargo::rustc-env=PROCJAIL_BPF_OBJECT={}", object.display());
}
