//! The OOM killer: whose limit was hit, who died of it, and what the trigger was doing.

use procjail_common::{self as common, oom_reap_stage};

use super::Enricher;
use crate::event::decode::text;
use crate::event::model::*;
use crate::event::{Frame, Stack};

/// What processors hold in stock for cgroups (`NR_MEMCG_STOCK` batches each) is given back when a limit is
/// hit, in part by work that runs only when the victim has been chosen. So much may be free by then: a part
/// of the limit, and at most what some dozens of processors hold.
const STOCK: (u64, u64) = (16, 64 << 20);

impl Enricher {
    pub(super) fn oom_kill(&mut self, record: &common::OomKill) -> OomKill {
        self.processes.see(&record.victim);
        let mut chain: Vec<MemoryCgroup> = record
            .chain
            .iter()
            .take(record.levels as usize)
            .map(memory_cgroup)
            .collect();
        if let Some(level) = level_at_limit(&chain, self.page_bytes)
            && let Some(level) = chain.get_mut(level)
        {
            level.at_limit = true;
        }
        OomKill {
            victim: self.processes.describe(&record.victim),
            memory: ProcessMemory {
                anon_bytes: record.anon_bytes,
                file_bytes: record.file_bytes,
                shmem_bytes: record.shmem_bytes,
                swap_bytes: record.swap_bytes,
                page_table_bytes: record.page_table_bytes,
                total_vm_bytes: record.total_vm_bytes,
            },
            oom_score_adj: record.oom_score_adj,
            killed_by_kernel: record.killed_by_kernel != 0,
            syscall: Syscall::entered(record.syscall),
            chain,
            chain_truncated: record.more_levels != 0,
            stack: stack(record),
        }
    }

    pub(super) fn oom_reap(&self, record: &common::OomReap) -> OomReap {
        let stage = match record.stage {
            oom_reap_stage::WAKE => OomReapStage::Wake,
            oom_reap_stage::START => OomReapStage::Start,
            oom_reap_stage::FINISH => OomReapStage::Finish,
            oom_reap_stage::SKIP => OomReapStage::Skip,
            _ => OomReapStage::Unknown,
        };
        let victim = self.processes.find(record.tid).unwrap_or_else(|| Task {
            tid: record.tid,
            ..Task::default()
        });
        OomReap { stage, victim }
    }
}

fn memory_cgroup(level: &common::MemcgLevel) -> MemoryCgroup {
    let limit = |bytes: u64| (bytes != u64::MAX).then_some(bytes);
    let name = text(&level.name);
    MemoryCgroup {
        id: level.cgroup_id,
        name: if name.is_empty() {
            "/".to_owned()
        } else {
            name
        },
        usage_bytes: level.usage_bytes,
        limit_bytes: limit(level.limit_bytes),
        swap_usage_bytes: level.swap_usage_bytes,
        swap_limit_bytes: limit(level.swap_limit_bytes),
        at_limit: false,
    }
}

/// The trigger's calls, without names yet. A file is known by its build ID.
fn stack(record: &common::OomKill) -> Stack {
    let kernel = record.kernel_stack_len as usize / size_of::<u64>();
    let user = record.user_stack_len as usize / size_of::<common::UserFrame>();
    Stack {
        kernel: record
            .kernel_stack
            .iter()
            .take(kernel)
            .map(|&address| Frame {
                address,
                ..Frame::default()
            })
            .collect(),
        user: record
            .user_stack
            .iter()
            .take(user)
            .map(|frame| Frame {
                address: frame.place,
                symbol: None,
                module: (frame.status == common::BUILD_ID_VALID)
                    .then(|| Frame::unknown_file(&frame.build_id)),
            })
            .collect(),
    }
}

/// The level whose limit was hit: the lowest one without room for another charge. On v1 that may be
/// its limit of memory and swap together. Else the one with the least room, if that is no more than what
/// was in stock.
fn level_at_limit(chain: &[MemoryCgroup], page_bytes: u64) -> Option<usize> {
    let batch_bytes = page_bytes.saturating_mul(MemoryCgroup::CHARGE_BATCH_PAGES);
    let full = |room_bytes: Option<u64>| room_bytes.is_some_and(|room| room <= batch_bytes);
    let stock = |level: &MemoryCgroup| {
        let (part, most_bytes) = STOCK;
        let room_bytes = level.room_bytes()?;
        (room_bytes <= (level.limit_bytes? / part).min(most_bytes)).then_some(room_bytes)
    };
    let memory = chain.iter().position(|level| full(level.room_bytes()));
    let with_swap = || chain.iter().position(|level| full(level.swap_room_bytes()));
    let least = || {
        let rooms = chain.iter().enumerate();
        let rooms = rooms.filter_map(|(index, level)| Some((stock(level)?, index)));
        rooms.min().map(|(_, index)| index)
    };
    memory.or_else(with_swap).or_else(least)
}
