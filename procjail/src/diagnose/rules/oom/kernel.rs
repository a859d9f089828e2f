//! The kernel's own memory at the limit: page tables, pipes, sockets, stacks, slab.

use super::kill::{Kill, percent};
use super::makeup::{KERNEL, Makeup, Purpose, SOCK};
use super::shape::MOST;
use crate::diagnose::{Case, Confidence, Finding, Tagged};
use crate::text;

const READ: &str = "Read faster, write less ahead, or cap the buffers";

pub(super) fn analyse(case: &Case, kill: &Kill<'_>, makeup: Option<&Makeup<'_>>) -> Option<Tagged> {
    if let Some(finding) = page_tables(case, kill, makeup) {
        return Some(("oom-kernel-memory", finding));
    }
    let makeup = makeup?;
    sockets(case, makeup)
        .map(|finding| ("oom-socket-buffers", finding))
        .or_else(|| other(case, kill, makeup))
}

/// What the kind that was last asked for could stand for.
pub(super) const ANOTHER_KIND: &str =
    "kernel memory of another kind, of which this was only the last bit";

fn page_tables(case: &Case, kill: &Kill<'_>, makeup: Option<&Makeup<'_>>) -> Option<Finding> {
    let usage = kill.usage_bytes();
    let memory = &kill.oom.memory;
    let own = memory.page_table_bytes;
    let all = makeup.map_or(own, Makeup::page_tables).max(own);
    if percent(all, usage) < MOST {
        return None;
    }
    let finding = match percent(own, usage) >= MOST {
        true => Finding::new(format!(
            "{} had {} of page tables ({}% of what was in use) for {} of address space.",
            kill.name(case),
            text::bytes(own),
            percent(own, usage),
            text::bytes(memory.total_vm_bytes)
        ))
        .not(
            "anonymous memory",
            format!("it had {} of that", text::bytes(memory.anon_bytes)),
        )
        .remedy(
            "Touch memory less sparsely, or use huge pages: each 2 MiB of which a byte is touched costs 4 KiB of \
             page tables.",
        ),
        false => Finding::new(format!(
            "The processes had {} of page tables together ({}% of what was in use).",
            text::bytes(all),
            percent(all, usage)
        ))
        .remedy(
            "Use fewer processes, or let them map less or in huge pages: each has page tables of its own, also \
             for memory that they share.",
        ),
    };
    Some(finding.proven().fact_alone().shown_by(
        kill.event,
        format!("the victim had {} of page tables", text::bytes(own)),
    ))
}

/// What `sock` counts: TCP's and UDP's. On v1 it is not charged to the limit of memory.
fn sockets(case: &Case, makeup: &Makeup<'_>) -> Option<Finding> {
    let bytes = makeup.kinds.sock;
    if makeup.percent(bytes) < MOST || case.cgroup_v1() {
        return None;
    }
    Some(
        makeup
            .show(Finding::new(format!(
                "Of the {} in use, {} ({}%) was {SOCK}.",
                text::bytes(makeup.usage_bytes),
                text::bytes(bytes),
                makeup.percent(bytes)
            )))
            .proven()
            .cause(
                "Data that was sent or received faster than it was read.",
                Confidence::Likely,
            )
            .or("very many connections with a little data each")
            .remedy(format!(
                "{READ} (net.ipv4.tcp_rmem and tcp_wmem, SO_RCVBUF), or accept fewer connections."
            )),
    )
}

fn other(case: &Case, kill: &Kill<'_>, makeup: &Makeup<'_>) -> Option<Tagged> {
    // Slab that can be reclaimed (names and inodes) kills nobody.
    let held = makeup
        .kinds
        .kernel
        .saturating_sub(makeup.kinds.slab_reclaimable);
    if makeup.percent(held) < MOST {
        return None;
    }
    let parts = [
        ("page tables", makeup.kinds.page_tables),
        ("stacks of threads", makeup.kinds.kernel_stack),
        (
            "slab that cannot be reclaimed",
            makeup.kinds.slab_unreclaimable,
        ),
    ];
    let known = parts
        .iter()
        .map(|(_, bytes)| *bytes)
        .fold(0, u64::saturating_add);
    let pages = ("pages outside slab", held.saturating_sub(known));
    let largest = parts.iter().chain([&pages]).max_by_key(|(_, bytes)| *bytes);
    let split = match largest {
        _ if known == 0 => format!(
            " {} does not tell page tables, stacks, slab, pipes and socket buffers apart.",
            match case.cgroup_v1() {
                false => "This kernel",
                true => "cgroup v1",
            }
        ),
        Some((what, bytes)) => format!(" Most of that was {what} ({}).", text::bytes(*bytes)),
        None => String::new(),
    };
    let purpose = Purpose::of(kill.oom);
    let trigger = case.task_name(&kill.event.task);
    let doing = purpose
        .doing()
        .map_or_else(String::new, |doing| format!(" {trigger} {doing}."));
    let finding = makeup
        .show(Finding::new(format!(
            "Of the {} in use, {} ({}%) was {KERNEL}.{split}{doing}",
            text::bytes(makeup.usage_bytes),
            text::bytes(held),
            makeup.percent(held)
        )))
        .proven()
        .not(
            "anonymous memory",
            format!("there was {} of it", text::bytes(makeup.kinds.anon)),
        );
    let likely = |finding: Finding, cause: &str, remedy: String| {
        finding
            .cause(cause, Confidence::Likely)
            .or(ANOTHER_KIND)
            .remedy(remedy)
    };
    Some(match purpose {
        Purpose::Pipe => (
            "oom-kernel-memory",
            likely(
                finding,
                "Data in pipes that nobody reads.",
                format!("{READ} (F_SETPIPE_SZ); each pipe holds up to 64 KiB unless it was enlarged."),
            ),
        ),
        Purpose::UnixSocket => (
            "oom-socket-buffers",
            likely(
                finding,
                "Data in Unix sockets that nobody reads.",
                format!("{READ} (SO_SNDBUF)."),
            ),
        ),
        Purpose::Task => (
            "oom-kernel-memory",
            likely(
                finding,
                "Threads or processes: each costs a stack in the kernel and more.",
                "Use fewer threads and processes (--pids caps them).".to_owned(),
            ),
        ),
        Purpose::PageTable => (
            "oom-kernel-memory",
            likely(
                finding,
                "Page tables.",
                "Touch memory less sparsely, use fewer processes, or use huge pages.".to_owned(),
            ),
        ),
        _ => (
            "oom-kernel-memory",
            finding.fact_alone().remedy(
                "Use fewer threads, mappings, files or connections: each costs the kernel memory that counts \
                 against the jail. If none of them grows, look for a leak in the kernel.",
            ),
        ),
    })
}
