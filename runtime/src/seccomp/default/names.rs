//! Calls of the default profile, by what they are for.

/// Files and what is in them, directories, links, extended attributes.
macro_rules! files {
    () => {
        "access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3
        faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2
        fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr
        fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat
        getcwd getdents getdents64 getxattr getxattrat ioctl lchown lchown32 lgetxattr link linkat
        listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir
        mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64
        preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
        removexattr removexattrat rename renameat renameat2 rmdir sendfile sendfile64 setxattr
        setxattrat splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range
        syncfs tee truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64
        utimes vmsplice write writev"
    };
}

/// Waiting for files, and for changes of them.
macro_rules! events {
    () => {
        "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
        epoll_wait_old eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1
        inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64
        io_setup io_submit _newselect poll ppoll ppoll_time64 pselect6 pselect6_time64 select
        signalfd signalfd4"
    };
}

/// Sockets, once they are made: `socket` itself depends on the family.
macro_rules! sockets {
    () => {
        "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom
        recvmmsg recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown
        socketcall socketpair"
    };
}

/// Memory of a process, and what processes share.
macro_rules! memory {
    () => {
        "brk cachestat ipc madvise map_shadow_stack membarrier memfd_create memfd_secret mincore
        mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
        mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl
        msgget msgrcv msgsnd msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect
        process_mrelease process_vm_readv process_vm_writev remap_file_pages semctl semget semop
        semtimedop semtimedop_time64 shmat shmctl shmdt shmget"
    };
}

/// Processes and threads: their life, their order, their signals. `clone` depends on its flags.
macro_rules! processes {
    () => {
        "execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait
        futex_waitv futex_wake getcpu getpgid getpgrp getpid getppid getpriority get_robust_list
        getrlimit getrusage getsid get_thread_area gettid ioprio_get ioprio_set kill pause
        pidfd_open pidfd_send_signal prctl prlimit64 ptrace restart_syscall rseq rt_sigaction
        rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
        rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam
        sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval
        sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
        sched_setscheduler sched_yield setpgid setpriority setrlimit set_robust_list setsid
        set_thread_area set_tid_address sigaltstack sigprocmask sigreturn tgkill tkill ugetrlimit
        uretprobe vfork wait4 waitid waitpid"
    };
}

/// Who a process is, and how it restricts itself.
macro_rules! identity {
    () => {
        "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32
        getresgid getresgid32 getresuid getresuid32 getuid getuid32 landlock_add_rule
        landlock_create_ruleset landlock_restrict_self lsm_get_self_attr lsm_list_modules
        lsm_set_self_attr seccomp setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
        setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32
        setreuid setreuid32 setuid setuid32"
    };
}

/// Clocks as they are, timers, and facts of the system. To set a clock takes a capability, which
/// `adjtimex` and `clock_adjtime` check themselves: without it they tell how the clock goes.
macro_rules! system {
    () => {
        "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64
        clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer getrandom
        gettimeofday listmount nanosleep setitimer statmount sysinfo time timer_create
        timer_delete timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
        timerfd_settime64 timer_getoverrun timer_gettime timer_gettime64 timer_settime
        timer_settime64 times uname"
    };
}

/// Calls that are allowed whatever their arguments.
pub(super) const ALWAYS: &str = concat!(
    files!(),
    " ",
    events!(),
    " ",
    sockets!(),
    " ",
    memory!(),
    " ",
    processes!(),
    " ",
    identity!(),
    " ",
    system!(),
);

/// What only x86 has.
pub(super) const X86_ONLY: &str = "arch_prctl modify_ldt";

/// What only ARM has.
pub(super) const ARM_ONLY: &str =
    "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls";
