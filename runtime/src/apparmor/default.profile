# The AppArmor profile of containers that bring none of their own. berthd loads it.
#
# It is a second wall: what is masked, read-only or taken away by capabilities stays out of reach
# also for who gets around that, by a mount that should not be there for example. So it denies by
# path, in any namespace of mounts, and leaves to the other walls what they do better.
profile NAME flags=(attach_disconnected, mediate_deleted) {
  capability,
  network,
  file,
  umount,

  # Signals and debuggers come from the host and from containers like this one. Whoever else may
  # be confined on the host (an OCI runtime, a debugger) is no business of a container's.
  signal (receive) peer=unconfined,
  signal (send, receive) peer=NAME,
  ptrace (readby, tracedby) peer=unconfined,
  ptrace (read, readby, trace, tracedby) peer=NAME,
RUNTIMES
  # Mounts would uncover what is masked, and so would taking away what covers it.
  deny mount,
  deny remount,
  deny pivot_root,
  deny umount /proc/**,
  deny umount /sys/**,

  # Of procfs only what belongs to processes, and to a network namespace, may be written.
  deny /proc/* wl,
  deny /proc/[^0-9s]*/** wl,
  deny /proc/s[^y]*/** wl,
  deny /proc/sys/[^n]** wl,
  deny /proc/{kcore,sysrq-trigger} rwklx,

  # Of sysfs only cgroups: the rest is the host's devices, its kernel and its firmware.
  deny /sys/[^f]** wl,
  deny /sys/f[^s]** wl,
  deny /sys/fs/[^c]** wl,
  deny /sys/{firmware,kernel/security,devices/virtual/powercap}/** rwklx,
}
