//! What an environment says about the memory of a language's runtime. All other variables are left
//! alone: many hold secrets.

use std::collections::BTreeMap;

/// Variables that set how much memory, how many threads or which allocator a runtime uses.
const KNOWN: [&str; 30] = [
    // Java: the launcher's, the virtual machine's own, and those that start scripts read.
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "JAVA_OPTS",
    "JAVA_OPTIONS",
    "CATALINA_OPTS",
    "MAVEN_OPTS",
    "GRADLE_OPTS",
    "SBT_OPTS",
    "ES_JAVA_OPTS",
    "KAFKA_HEAP_OPTS",
    "OPENJ9_JAVA_OPTIONS",
    "NODE_OPTIONS",
    "UV_THREADPOOL_SIZE",
    "GOMEMLIMIT",
    "GOGC",
    "GOMAXPROCS",
    "DOTNET_GCHeapHardLimit",
    "DOTNET_GCHeapHardLimitPercent",
    "DOTNET_gcServer",
    "COMPlus_GCHeapHardLimit",
    "RUBY_GC_HEAP_GROWTH_FACTOR",
    "PYTHONMALLOC",
    "WEB_CONCURRENCY",
    "OMP_NUM_THREADS",
    "MALLOC_ARENA_MAX",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_CONF",
    "TCMALLOC_MAX_TOTAL_THREAD_CACHE_BYTES",
    "GLIBC_TUNABLES",
];

/// Java's properties may be passwords (`-Dpassword=…`): they are left out.
const PROPERTY: &str = "-D";

/// A longer value is cut off.
const MAX_LEN: usize = 4096;

/// The known ones among `variables`, `NAME=VALUE` each; the last of a name counts.
pub fn runtime_settings<'a>(
    variables: impl IntoIterator<Item = &'a [u8]>,
) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for variable in variables {
        let Some(at) = variable.iter().position(|&byte| byte == b'=') else {
            continue;
        };
        let (name, value) = variable.split_at(at);
        if let Some(name) = KNOWN.iter().find(|known| known.as_bytes() == name) {
            let value = value.get(1..).unwrap_or_default();
            let value = value.get(..MAX_LEN).unwrap_or(value);
            let words = String::from_utf8_lossy(value);
            let mut words: Vec<&str> = words.split_whitespace().collect();
            if words.iter().any(|word| word.starts_with(PROPERTY)) {
                // A property in quotes goes on in words that look like no option.
                words.retain(|word| word.starts_with('-') && !word.starts_with(PROPERTY));
            }
            found.insert((*name).to_owned(), words.join(" "));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_variables_are_kept_and_the_last_counts() {
        let variables: [&[u8]; 6] = [
            b"AWS_SECRET_ACCESS_KEY=x",
            b"GOMEMLIMIT=1",
            b"GOMEMLIMIT=100MiB",
            b"=odd",
            b"NODE_OPTIONS",
            b"PATH=/bin",
        ];
        let found = runtime_settings(variables);
        assert_eq!(found.len(), 1);
        assert_eq!(found["GOMEMLIMIT"], "100MiB");
    }

    #[test]
    fn properties_are_left_out_of_options() {
        let variable: &[u8] = b"JAVA_TOOL_OPTIONS=-Xmx512m -Ddb.password='se cret'  -XX:+UseZGC";
        let found = runtime_settings([variable]);
        assert_eq!(found["JAVA_TOOL_OPTIONS"], "-Xmx512m -XX:+UseZGC");
    }

    #[test]
    fn a_long_or_broken_value_is_cut() {
        let mut variable = b"GOGC=".to_vec();
        variable.extend(std::iter::repeat_n(0xff, 100_000));
        let found = runtime_settings([variable.as_slice()]);
        assert!(found["GOGC"].chars().count() <= MAX_LEN);
    }
}
