//! Keeps a program from being preempted while it runs.
//!
//! Up to Linux 6.19 a raw tracepoint runs its programs with preemption switched off. From 7.0 on it
//! doesn't: a task can be preempted inside a program, and when the next task on that processor comes to
//! the same tracepoint, the kernel takes this for a recursion and doesn't run the program. The event
//! is lost, and in a fork storm many are: everything that comes there until the first task runs again.
//!
//! So each program begins by switching preemption off itself, with functions that kernels have from
//! 6.10 on. Switching it on again is a point where the kernel preempts, still inside the program, unless
//! interrupts are off: so they are, for that moment (functions from 6.14 on). A few instructions of the
//! kernel's own remain in which a task can be preempted; what is lost there is counted and told.

use super::{host, sys::Instruction};

/// The kernel's functions that are called, by their numbers in its type information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// `bpf_preempt_disable`.
    pub disable: u32,
    /// `bpf_preempt_enable`.
    pub enable: u32,
    /// `bpf_local_irq_save`.
    pub irq_save: u32,
    /// `bpf_local_irq_restore`.
    pub irq_restore: u32,
}

impl Calls {
    /// How they are called, in the order of [`Self::to_array`].
    pub const NAMES: [&'static str; 4] = [
        "bpf_preempt_disable",
        "bpf_preempt_enable",
        "bpf_local_irq_save",
        "bpf_local_irq_restore",
    ];

    /// From numbers in the order of [`Self::NAMES`].
    pub fn from_array([disable, enable, irq_save, irq_restore]: [u32; 4]) -> Calls {
        Calls {
            disable,
            enable,
            irq_save,
            irq_restore,
        }
    }

    /// The numbers in the order of [`Self::NAMES`].
    pub fn to_array(self) -> [u32; 4] {
        [self.disable, self.enable, self.irq_save, self.irq_restore]
    }
}

/// Whether the running kernel is one that needs it: the types don't tell.
pub fn needed() -> bool {
    host::is_at_least(7, 0)
}

/// Whether a program gains by it. The hook on the entry of system calls does not: it runs for every call
/// of the host, mostly to find that it is none of the jail's, and that is over as soon as the guard
/// would be.
pub fn pays(program: &str) -> bool {
    program != "sys_enter"
}

const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const JUMP: u8 = 0x05;
const MOVE_REGISTER: u8 = 0xbf;
const MOVE_CONSTANT: u8 = 0xb7;
const ADD_CONSTANT: u8 = 0x07;
const LOAD_WIDE: u8 = 0x18;

/// `src_reg` of a call of another function of the program.
const PSEUDO_CALL: u8 = 1;
/// `src_reg` of a call of one of the kernel's functions.
const PSEUDO_KFUNC_CALL: u8 = 2;

fn instruction(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Instruction {
    Instruction {
        code,
        _bitfield_align_1: [],
        _bitfield_1: Instruction::new_bitfield_1(dst, src),
        off,
        imm,
    }
}

/// Where a guarded program goes back to instead of ending.
const EPILOGUE: usize = 4;
/// Where the program itself begins.
#[cfg(test)]
const BODY: usize = 13;

/// The same program with preemption off from its first instruction to its last; `None` if it is too
/// long to jump over.
pub fn guard(code: &[Instruction], calls: Calls) -> Option<Vec<Instruction>> {
    let call = |id: u32| {
        Some(instruction(
            CALL,
            0,
            PSEUDO_KFUNC_CALL,
            0,
            id.try_into().ok()?,
        ))
    };
    // The frame pointer is r10. What the program kept there is of no use any more.
    let flags = [
        instruction(MOVE_REGISTER, 1, 10, 0, 0),
        instruction(ADD_CONSTANT, 1, 0, 0, -8),
    ];
    let epilogue = [
        flags[0],
        flags[1],
        call(calls.irq_save)?,
        call(calls.enable)?,
        flags[0],
        flags[1],
        call(calls.irq_restore)?,
        instruction(MOVE_CONSTANT, 0, 0, 0, 0),
        instruction(EXIT, 0, 0, 0, 0),
    ];
    // A call leaves only the registers from r6 on alone.
    let mut guarded = vec![
        instruction(MOVE_REGISTER, 6, 1, 0, 0),
        call(calls.disable)?,
        instruction(MOVE_REGISTER, 1, 6, 0, 0),
        instruction(JUMP, 0, 0, epilogue.len() as i16, 0),
    ];
    guarded.extend(epilogue);
    // Functions that the program calls lie behind it, and return by the same instruction.
    let first_function = code
        .iter()
        .enumerate()
        .filter(|(_, found)| found.code == CALL && found.src_reg() == PSEUDO_CALL)
        .filter_map(|(index, found)| usize::try_from(index as i64 + 1 + i64::from(found.imm)).ok())
        .min()
        .unwrap_or(code.len());
    let mut second_half = false;
    for (index, found) in code.iter().enumerate() {
        if found.code == EXIT && !second_half && index < first_function {
            let back = EPILOGUE as i64 - (guarded.len() as i64 + 1);
            guarded.push(instruction(JUMP, 0, 0, back.try_into().ok()?, 0));
        } else {
            guarded.push(*found);
        }
        // This one takes the place of two; the second is no instruction.
        second_half = found.code == LOAD_WIDE && !second_half;
    }
    Some(guarded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLS: Calls = Calls {
        disable: 70,
        enable: 71,
        irq_save: 72,
        irq_restore: 73,
    };

    fn end() -> Instruction {
        instruction(EXIT, 0, 0, 0, 0)
    }

    #[test]
    fn every_end_of_the_program_goes_through_the_epilogue() {
        let nothing = instruction(MOVE_CONSTANT, 0, 0, 0, 0);
        let guarded = guard(&[end(), nothing, end()], CALLS).expect("short enough");
        assert_eq!(guarded.len(), BODY + 3);
        for index in [BODY, BODY + 2] {
            let jump = guarded[index];
            assert_eq!(jump.code, JUMP);
            assert_eq!(index as i64 + 1 + i64::from(jump.off), EPILOGUE as i64);
        }
        assert_eq!(guarded[BODY + 1].code, MOVE_CONSTANT);
        let over = guarded[EPILOGUE - 1];
        assert_eq!(EPILOGUE + over.off as usize, BODY);
    }

    #[test]
    fn preemption_comes_back_while_interrupts_are_off() {
        let guarded = guard(&[end()], CALLS).expect("short enough");
        let kernel = guarded
            .iter()
            .filter(|found| found.code == CALL && found.src_reg() == PSEUDO_KFUNC_CALL);
        let called: Vec<i32> = kernel.map(|found| found.imm).collect();
        assert_eq!(called, [70, 72, 71, 73]);
        assert_eq!(guarded[BODY - 1].code, EXIT);
    }

    #[test]
    fn functions_behind_the_program_return_as_before() {
        // Calls the function at 2.
        let call = instruction(CALL, 0, PSEUDO_CALL, 0, 1);
        let guarded = guard(&[call, end(), end()], CALLS).expect("short enough");
        let codes: Vec<u8> = guarded[BODY..].iter().map(|found| found.code).collect();
        assert_eq!(codes, [CALL, JUMP, EXIT]);
        assert_eq!(guarded[BODY].imm, 1);
    }

    #[test]
    fn the_second_half_of_a_wide_load_is_left_alone() {
        let wide = instruction(LOAD_WIDE, 1, 0, 0, 0);
        // Half an instruction that looks like an end.
        let guarded = guard(&[wide, end()], CALLS).expect("short enough");
        assert_eq!(guarded[BODY + 1].code, EXIT);
    }
}
