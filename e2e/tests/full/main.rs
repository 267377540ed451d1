//! berth on a whole machine: what user-mode Linux has not. A binary of its own, because only
//! `make test-full` has a place for it: it runs this on a machine with systemd as PID 1, every
//! cgroup controller, AppArmor, PSI, huge pages and criu, which `.ci/machine` finds or boots.

mod apparmor;
mod cpuset;
mod criu;
mod hugetlb;
mod io;
mod machine;
mod power_cuts;
mod psi;
mod systemd;
mod systemd_driver;

// Stories of the other suite that a real kernel may tell differently.
#[path = "../suite/limits_cgroup.rs"]
mod limits_cgroup;
