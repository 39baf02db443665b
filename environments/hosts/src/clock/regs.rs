//! A stopped thread's registers, as far as they matter.
use nix::errno::Errno;
use std::mem::size_of;

const NT_PRSTATUS: usize = 1;

/// All of them.
#[derive(Clone, Copy)]
pub(super) struct Regs(libc::user_regs_struct);

fn request(request: libc::c_uint, tid: i32, regs: *mut libc::user_regs_struct) -> Result<(), Errno> {
    let mut io = libc::iovec {
        iov_base: regs.cast(),
        iov_len: size_of::<libc::user_regs_struct>(),
    };
    // SAFETY: the vector spans the registers, which are ours.
    let done = unsafe { libc::ptrace(request, tid, NT_PRSTATUS, &raw mut io) };
    Errno::result(done)?;
    if io.iov_len == size_of::<libc::user_regs_struct>() {
        Ok(())
    } else {
        // A 32-bit thread.
        Err(Errno::ENOEXEC)
    }
}

impl Regs {
    pub fn of(tid: i32) -> Result<Regs, Errno> {
        // SAFETY: plain numbers.
        let mut regs: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        request(libc::PTRACE_GETREGSET, tid, &raw mut regs)?;
        Ok(Regs(regs))
    }

    pub fn set(mut self, tid: i32) -> Result<(), Errno> {
        request(libc::PTRACE_SETREGSET, tid, &raw mut self.0)
    }
}

#[cfg(target_arch = "x86_64")]
impl Regs {
    /// The instruction that comes next.
    pub fn at(&self) -> u64 {
        self.0.rip
    }

    pub fn stack(&self) -> u64 {
        self.0.rsp
    }

    /// What a function has returned.
    pub fn returned(&self) -> u64 {
        self.0.rax
    }

    /// These registers, about to call.
    pub fn calling(&self, trampoline: u64, function: u64, arguments: [u64; 2], stack: u64) -> Regs {
        let mut regs = self.0;
        regs.rip = trampoline;
        regs.rax = function;
        [regs.rdi, regs.rsi] = arguments;
        regs.rsp = stack;
        // Not inside a system call any more, so that the kernel restarts none, whatever the result's register holds.
        regs.orig_rax = u64::MAX;
        // Strings go upwards in functions.
        regs.eflags &= !0x400;
        Regs(regs)
    }
}

#[cfg(target_arch = "aarch64")]
impl Regs {
    /// The instruction that comes next.
    pub fn at(&self) -> u64 {
        self.0.pc
    }

    pub fn stack(&self) -> u64 {
        self.0.sp
    }

    /// What a function has returned.
    pub fn returned(&self) -> u64 {
        self.0.regs[0]
    }

    /// These registers, about to call.
    pub fn calling(&self, trampoline: u64, function: u64, arguments: [u64; 2], stack: u64) -> Regs {
        let mut regs = self.0;
        regs.pc = trampoline;
        regs.regs[9] = function;
        [regs.regs[0], regs.regs[1]] = arguments;
        regs.sp = stack;
        // No landing pad is expected here.
        regs.pstate &= !0xc00;
        Regs(regs)
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
impl Regs {
    /// Never reached: there is no stub for this architecture.
    pub fn at(&self) -> u64 {
        unreachable!("no stub for this architecture")
    }

    /// Never reached: there is no stub for this architecture.
    pub fn stack(&self) -> u64 {
        unreachable!("no stub for this architecture")
    }

    /// Never reached: there is no stub for this architecture.
    pub fn returned(&self) -> u64 {
        unreachable!("no stub for this architecture")
    }

    /// Never reached: there is no stub for this architecture.
    pub fn calling(&self, _: u64, _: u64, _: [u64; 2], _: u64) -> Regs {
        unreachable!("no stub for this architecture")
    }
}
