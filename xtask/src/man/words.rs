//! What the manual says beside the definitions of the commands: environment, files, examples.

/// Something with a name that commands have to do with.
pub struct Described {
    /// The commands, the program itself without one; all if empty.
    pub of: &'static [&'static str],
    pub name: &'static str,
    pub text: &'static str,
}

/// Variables of the environment.
pub const ENVIRONMENT: [Described; 8] = [
    Described {
        of: &[
            "procjail", "trace", "attach", "show", "explain", "lab", "check",
        ],
        name: "NO_COLOR",
        text: "If it is set and not empty, nothing is coloured. Without it, what goes to a terminal is.",
    },
    Described {
        of: &[
            "procjail", "trace", "attach", "show", "explain", "lab", "check",
        ],
        name: "CLICOLOR_FORCE",
        text: "If it is set and not 0, colours are used even if the output is no terminal.",
    },
    Described {
        of: &["export"],
        name: "OTEL_EXPORTER_OTLP_ENDPOINT",
        text: "The collector's address, for --to otlp without -o.",
    },
    Described {
        of: &["export", "trace", "attach"],
        name: "OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_EXPORTER_OTLP_HEADERS, \
               OTEL_EXPORTER_OTLP_COMPRESSION, OTEL_EXPORTER_OTLP_TIMEOUT",
        text: "How a collector is spoken to, as OpenTelemetry defines them: grpc or http/protobuf; \
               name=value,… to be sent with each message; gzip or none; milliseconds that one \
               attempt may take.",
    },
    Described {
        of: &["export", "trace", "attach"],
        name: "OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE, \
               OTEL_EXPORTER_OTLP_CLIENT_KEY",
        text: "Files for https:// and grpcs://: the authorities that are trusted, instead of the \
               system's; the certificate that is shown to the collector, and its key.",
    },
    Described {
        of: &["export", "trace", "attach"],
        name: "OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES",
        text: "What the collector is told of the jail, beside what the trace has.",
    },
    Described {
        of: &[],
        name: "PROCJAIL_LOG",
        text: "What procjail itself does, on standard error, for who looks for a fault in it: debug, \
               trace, or one module alone, such as procjail::kernel=trace.",
    },
    Described {
        of: &["procjail", "lab"],
        name: "PROCJAIL_LAB_DISPOSABLE",
        text: "1 says that the machine is thrown away afterwards, and allows the scenarios that would \
               do harm to another.",
    },
];

/// Files and directories.
pub const FILES: [Described; 5] = [
    Described {
        of: &["procjail", "run", "trace", "lab", "check", "clean"],
        name: "/sys/fs/cgroup/procjail/NAME",
        text: "The cgroup of the jail NAME, on a host with cgroup v2. On others it is in the directory of \
               each controller, and in unified. A jail that ends takes it along; what a launcher that was \
               killed has left is removed by procjail clean.",
    },
    Described {
        of: &["procjail", "trace", "lab", "check"],
        name: "/sys/kernel/btf/vmlinux",
        text: "The types of the running kernel, which the probes need.",
    },
    Described {
        of: &["procjail", "trace", "lab", "check"],
        name: "/dev/kmsg",
        text: "The kernel log: its report of an OOM kill is evidence.",
    },
    Described {
        of: &["procjail", "trace", "lab", "check"],
        name: "/var/cache/procjail/offsets-*",
        text: "Where the fields of a kernel's structures lie, one file for each kernel, so that the next \
               start is quicker. They may be deleted at any time.",
    },
    Described {
        of: &["procjail", "explain"],
        name: "/usr/share/doc/procjail/catalogue.md",
        text: "All verdicts and what they mean, where the Debian package is installed.",
    },
];

/// What a command is typed for, and how.
pub const EXAMPLES: [(&str, &str, &str); 23] = [
    (
        "procjail",
        "See what happens to a program, and why it ended:",
        "procjail trace --memory 64M -- python3 worker.py",
    ),
    (
        "procjail",
        "See whether this host can do that:",
        "procjail check",
    ),
    (
        "run",
        "A build that can take neither all of the memory nor all of the processes:",
        "procjail run --memory 2G --pids 500 -- make -j8",
    ),
    (
        "run",
        "Another root, which nothing can be written to, and no network:",
        "procjail run --root /srv/debian --read-only --net none -- /bin/sh",
    ),
    (
        "run",
        "The steps that would be taken:",
        "procjail run --plan --cpus 0.5 --user 1000 -- id",
    ),
    (
        "trace",
        "A timeline while it runs, and a file to look at later:",
        "procjail trace -o web.jsonl.zst --name web -- nginx -g 'daemon off;'",
    ),
    (
        "trace",
        "Nothing but the file, and three seconds to stop in:",
        "procjail trace --quiet -o stop.jsonl --stop-timeout 3s -- ./server",
    ),
    (
        "attach",
        "What there is to attach to:",
        "procjail attach --list",
    ),
    (
        "attach",
        "What happens to a container that runs already, until it ends:",
        "procjail attach -o web.jsonl.zst docker:web",
    ),
    (
        "attach",
        "A pod's container for ten minutes, and nothing but the file:",
        "procjail attach --quiet --for 10m -o web.jsonl.zst pod:shop/web-0/app",
    ),
    (
        "trace",
        "Whether a stop signal is lost under docker, which passes it on before there is a handler:",
        "procjail trace --stop-as-is -- ./entrypoint.sh",
    ),
    (
        "show",
        "Signals and exits of PID 1 from the third second on:",
        "procjail show --kind signal-generated,exit --pid 1 --since 2s web.jsonl.zst",
    ),
    (
        "show",
        "For another program:",
        "procjail show --format json web.jsonl.zst",
    ),
    (
        "explain",
        "The verdict, beside what the container runtime said of the same run:",
        "procjail explain --reported 137 web.jsonl.zst",
    ),
    (
        "export",
        "A draft of the incident write-up:",
        "procjail export --to markdown -o incident.md web.jsonl.zst",
    ),
    (
        "export",
        "One page for the browser, which needs no network:",
        "procjail export --to html -o incident.html web.jsonl.zst",
    ),
    (
        "export",
        "To a collector of OpenTelemetry, by gRPC:",
        "procjail export --to otlp -o grpc://collector:4317 web.jsonl.zst",
    ),
    (
        "lab",
        "All that can be made to happen:",
        "procjail lab --list",
    ),
    (
        "lab",
        "A SIGTERM without effect, with all its evidence:",
        "procjail lab --all term-ignored-pid1-default",
    ),
    (
        "check",
        "For a program that looks after many hosts:",
        "procjail check --format json",
    ),
    (
        "clean",
        "What is left of jails whose launchers were killed:",
        "procjail clean --dry-run",
    ),
    (
        "completions",
        "For bash, and this user alone:",
        "procjail completions bash > \
         ~/.local/share/bash-completion/completions/procjail",
    ),
    (
        "completions",
        "For zsh, if ~/.zfunc is in its fpath:",
        "procjail completions zsh > ~/.zfunc/_procjail",
    ),
];

/// Manual pages of others that explain what a jail is made of.
pub const OTHERS: [(&str, &str); 5] = [
    ("cgroups", "7"),
    ("mount_namespaces", "7"),
    ("namespaces", "7"),
    ("pid_namespaces", "7"),
    ("signal", "7"),
];
