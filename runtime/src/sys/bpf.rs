//! `bpf(2)`, as far as a cgroup's device filter needs it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{check, fds};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// Largest number of programs that the kernel lets a cgroup have (`BPF_CGROUP_MAX_PROGS`).
const MAX_PROGRAMS: usize = 64;

/// What our device programs are called. With its last byte, which is 0, it fills a
/// `bpf_prog_info.name`.
const NAME: &[u8] = b"berth_devices";

/// One instruction of the kernel's eBPF machine (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// Operation code.
    pub(crate) code: u8,
    /// Destination register in the low four bits, source register in the high ones.
    pub(crate) registers: u8,
    /// Offset of a jump or a memory access.
    pub(crate) offset: i16,
    /// Immediate operand.
    pub(crate) immediate: i32,
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads.
#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The part of `union bpf_attr` that `BPF_PROG_ATTACH` and `_DETACH` read.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replace: u32,
}

/// The part of `union bpf_attr` that `BPF_PROG_QUERY` reads and writes.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// The part of `union bpf_attr` that `BPF_OBJ_GET_INFO_BY_FD` reads and writes.
#[repr(C)]
struct InfoByFd {
    program: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`, up to the name.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    lengths: [u32; 2],
    instructions: [u64; 2],
    load_time: u64,
    created_by: u32,
    map_count: u32,
    maps: u64,
    name: [u8; 16],
}

/// Loads a `BPF_PROG_TYPE_CGROUP_DEVICE` program.
pub(crate) fn load_device_program(program: &[Instruction]) -> io::Result<OwnedFd> {
    let count = u32::try_from(program.len())
        .map_err(|_| io::Error::other("a device program of more than 2^32 instructions"))?;
    let mut name = [0; 16];
    name[..NAME.len()].copy_from_slice(NAME);
    let argument = Load {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: count,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        name,
        ..Load::default()
    };
    // SAFETY: `argument` is of the size told, its pointers are to live memory of the length told.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const argument, size_of::<Load>())
    })?;
    let fd = i32::try_from(fd).map_err(|_| io::Error::other("bpf returned no descriptor"))?;
    Ok(fds::adopt(fd))
}

/// Attaches a device program to a cgroup, beside those of its ancestors, and in the place of one
/// that is attached already: at no moment is the cgroup without (Linux 5.6).
pub(crate) fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let replace = if replaced.is_some() { BPF_F_REPLACE } else { 0 };
    let argument = Attach {
        target: number(cgroup),
        program: number(program),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI | replace,
        replace: replaced.map_or(0, number),
    };
    // SAFETY: `argument` is of the size told and holds no pointers.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const argument, size_of::<Attach>())
    })?;
    Ok(())
}

/// Detaches a device program from a cgroup.
pub(crate) fn detach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    let (target, program) = (number(cgroup), number(program));
    let argument = Attach { target, program, kind: BPF_CGROUP_DEVICE, flags: 0, replace: 0 };
    // SAFETY: `argument` is of the size told and holds no pointers.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_DETACH, &raw const argument, size_of::<Attach>())
    })?;
    Ok(())
}

/// The device programs that are attached to a cgroup itself and that were loaded by
/// [`load_device_program`], in this process or another, with their ids.
pub(crate) fn our_device_programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<(u32, OwnedFd)>> {
    let mut ids = [0_u32; MAX_PROGRAMS];
    let mut argument = Query {
        target: number(cgroup),
        kind: BPF_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: u32::try_from(MAX_PROGRAMS).unwrap_or(u32::MAX),
        ..Query::default()
    };
    // SAFETY: `argument` is of the size told, and its pointer is to live memory for as many ids
    // as told.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut argument, size_of::<Query>())
    })?;
    let mut ours = Vec::new();
    for id in ids.into_iter().take(argument.count as usize) {
        match program_by_id(id) {
            // Another's that is detached meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            program => {
                let program = program?;
                if info(program.as_fd())?.name.starts_with(NAME) {
                    ours.push((id, program));
                }
            }
        }
    }
    Ok(ours)
}

/// The id of a program.
pub(crate) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    info(program).map(|info| info.id)
}

fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let argument = [id, 0, 0];
    // SAFETY: `argument` is of the size told and holds no pointers.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_GET_FD_BY_ID,
            argument.as_ptr(),
            size_of_val(&argument),
        )
    })?;
    let fd = i32::try_from(fd).map_err(|_| io::Error::other("bpf returned no descriptor"))?;
    Ok(fds::adopt(fd))
}

fn info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let mut info = ProgramInfo::default();
    let length = u32::try_from(size_of::<ProgramInfo>()).unwrap_or(0);
    let argument = InfoByFd { program: number(program), length, info: &raw mut info as u64 };
    // SAFETY: `argument` is of the size told, and its pointer is to live memory of the length
    // told, in which every bit pattern is a value.
    check(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_OBJ_GET_INFO_BY_FD,
            &raw const argument,
            size_of::<InfoByFd>(),
        )
    })?;
    Ok(info)
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX)
}
