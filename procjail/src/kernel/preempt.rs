//! Keeps a program from being preempted while it runs.
//!
//! Up to Linux 6.18 a raw tracepoint runs its programs with preemption switched off. From 7.0 on it
//! doesn't: a task can be preempted inside a program, and when the next task on that processor comes to
//! the same tracepoint, the kernel takes this for a recursion and doesn't run the program. The event
//! is lost. So each program begins by switching preemption off itself, with functions that kernels
//! have from 6.10 on; where they are missing they are not needed.

use super::sys::Instruction;

/// `bpf_preempt_disable` and `bpf_preempt_enable`: their numbers in the kernel's type information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Switches preemption off.
    pub disable: u32,
    /// Switches it on again.
    pub enable: u32,
}

const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const JUMP: u8 = 0x05;
const MOVE_REGISTER: u8 = 0xbf;
const MOVE_CONSTANT: u8 = 0xb7;
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
    // What comes before the program. A call leaves only the registers from r6 on alone.
    let mut guarded = vec![
        instruction(MOVE_REGISTER, 6, 1, 0, 0),
        call(calls.disable)?,
        instruction(MOVE_REGISTER, 1, 6, 0, 0),
        instruction(JUMP, 0, 0, 3, 0),
        // EPILOGUE
        call(calls.enable)?,
        instruction(MOVE_CONSTANT, 0, 0, 0, 0),
        instruction(EXIT, 0, 0, 0, 0),
    ];
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
    };

    #[test]
    fn every_end_of_the_program_goes_through_the_epilogue() {
        let end = instruction(EXIT, 0, 0, 0, 0);
        let nothing = instruction(MOVE_CONSTANT, 0, 0, 0, 0);
        let code = [end, nothing, end];
        let guarded = guard(&code, CALLS).expect("short enough");
        assert_eq!(guarded.len(), 7 + code.len());
        assert_eq!((guarded[1].imm, guarded[1].src_reg()), (70, 2));
        for index in [7, 9] {
            let jump = guarded[index];
            assert_eq!(jump.code, JUMP);
            assert_eq!(index as i64 + 1 + i64::from(jump.off), EPILOGUE as i64);
        }
        assert_eq!((guarded[EPILOGUE].code, guarded[EPILOGUE].imm), (CALL, 71));
        assert_eq!(guarded[8].code, MOVE_CONSTANT);
    }

    #[test]
    fn functions_behind_the_program_return_as_before() {
        let end = instruction(EXIT, 0, 0, 0, 0);
        // Calls the function at 2.
        let call = instruction(CALL, 0, PSEUDO_CALL, 0, 1);
        let guarded = guard(&[call, end, end], CALLS).expect("short enough");
        let codes: Vec<u8> = guarded[7..].iter().map(|found| found.code).collect();
        assert_eq!(codes, [CALL, JUMP, EXIT]);
        assert_eq!(guarded[7].imm, 1);
    }

    #[test]
    fn the_second_half_of_a_wide_load_is_left_alone() {
        let wide = instruction(LOAD_WIDE, 1, 0, 0, 0);
        // Half an instruction that looks like an end.
        let half = instruction(EXIT, 0, 0, 0, 0);
        let guarded = guard(&[wide, half], CALLS).expect("short enough");
        assert_eq!(guarded[8].code, EXIT);
    }
}
