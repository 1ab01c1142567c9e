"""Why podrate can't work here: each cause that we know, looked for on this machine.

`explain` is asked after a refusal, because what the kernel says of it ranges from EPERM to a verifier's riddle, and
most pods are never refused. `podrate doctor` asks for all of CHECKS, whatever happened.
"""

import os
import re
import resource
from collections.abc import Callable
from ctypes import byref, c_uint32, sizeof
from errno import EACCES, EMFILE, ENFILE, ENOENT, ENOSYS, EPERM
from typing import NamedTuple

from loader import bpf
from loader.cgroup import mount_point
from loader.failure import Failure
from loader.libbpf import MapInfo, lib
from loader.shaper import CAPABILITIES, HOOKS, Shaper
from loader.transient import TransientCgroup

OLDEST = (5, 10)  # Linux, for cgroup_skb programs as ours and sock_ops' header callbacks
_MEMCG = (5, 11)  # from here on BPF's memory is the memory cgroup's, not RLIMIT_MEMLOCK's
_INITIAL_USER_NAMESPACE = "user:[4026531837]"  # PROC_USER_INIT_INO of linux/proc_ns.h
CAP_SYS_ADMIN, _CAP_SYS_RESOURCE = 21, 24  # linux/capability.h
_SECCOMP_FILTER = "2"  # proc(5), Seccomp


class Check(NamedTuple):
    """One thing that podrate needs of a machine.

    works:    what is true if it is there, for a person
    failure:  looks; None, or a Failure with the remedy
    """

    works: str
    failure: Callable[[], Failure | None]


def explain(error: bpf.BpfError, cgroup: str = "") -> Failure:
    """What is behind a refusal of the kernel, at loading or (with `cgroup`) at attaching; the nearest cause first."""
    where = f"{cgroup}: {error}" if cgroup else str(error)
    for cause in (user_namespace, capabilities, system_call):
        if failure := cause():
            return Failure(failure.reason, f"{where}: {failure.what}", failure.remedy)
    if error.errno == EPERM and error.operation.startswith("open BPF"):
        return Failure("permission", f"{where} (this process lacks CAP_SYS_ADMIN)", "run as root")
    if error.errno == ENOENT and error.operation.startswith("open /"):
        return Failure("kernel", where, "install podrate anew: a file of it is missing")
    if error.errno in (EMFILE, ENFILE):
        return Failure("kernel", where, "raise the limit of open files (ulimit -n): podrate needs some twenty")
    if cgroup and error.errno == EPERM:
        by = _exclusive_above(cgroup)
        remedy = "see podrate status or `bpftool cgroup tree`, and stop what attached it"
        return Failure("occupied", f"{where}: {by or 'a parent cgroup'} has an exclusive program", remedy)
    for cause in (memory_lock, kernel_version, kernel_types):
        if (failure := cause()) and (cause is not memory_lock or error.errno == EPERM):
            return Failure(failure.reason, f"{where}: {failure.what}", failure.remedy)
    if error.errno in (EPERM, EACCES) and not isinstance(error, bpf.VerifierError) and (label := _security_label()):
        remedy = "allow it the class bpf (SELinux), or run podrate under another label"
        return Failure("permission", f"{where}: a security module refused it to {label}", remedy)
    remedy = "use Linux 5.10 or newer with BPF, BTF and cgroup v2"
    if isinstance(error, bpf.VerifierError):
        remedy += "; if it is, please report the whole of this: podrate doctor --log"
    return Failure("kernel", where, remedy)


def user_namespace() -> Failure | None:
    """In a user namespace every capability looks held, and counts for nothing here."""
    if os.readlink("/proc/self/ns/user") == _INITIAL_USER_NAMESPACE:
        return None
    what = "this process is in a user namespace, where the kernel takes no BPF programs whatever the capabilities"
    remedy = "in a pod leave out hostUsers: false; elsewhere run podrate outside of the rootless container"
    return Failure("user-namespace", what, remedy)


def capabilities() -> Failure | None:
    """What loading and attaching take: CAP_BPF (or CAP_SYS_ADMIN) and CAP_NET_ADMIN."""
    effective = effective_capabilities()
    if effective >> CAP_SYS_ADMIN & 1:
        effective |= 1 << CAPABILITIES["CAP_BPF"]
    missing = [name for name, bit in CAPABILITIES.items() if not effective >> bit & 1]
    if not missing:
        return None
    remedy = f"run as root with {' and '.join(CAPABILITIES)}; in a pod that is runAsUser 0 and add: [BPF, NET_ADMIN]"
    return Failure("permission", f"this process lacks {' and '.join(missing)}", remedy)


def system_call() -> Failure | None:
    """Whether bpf(2) gets through at all. To be asked of a process that has the capabilities."""
    info = MapInfo()
    error = -lib.bpf_obj_get_info_by_fd(-1, byref(info), byref(c_uint32(sizeof(info))))
    if error not in (EPERM, EACCES, ENOSYS):  # the kernel's own answer: a bad descriptor
        return None
    said = os.strerror(error)
    if _status("Seccomp") == _SECCOMP_FILTER:
        remedy = "use a seccomp profile that allows bpf with CAP_BPF: that of containerd 1.7 or Docker 23 does"
        return Failure("seccomp", f"a seccomp filter refuses the system call bpf ({said})", remedy)
    if mode := _lockdown():
        remedy = "boot without lockdown, or with a kernel whose lockdown leaves bpf to root (upstream's does)"
        return Failure("lockdown", f"the kernel is locked down ({mode}) and refuses the system call bpf", remedy)
    return Failure("kernel", f"the system call bpf fails: {said}", "use a kernel with CONFIG_BPF_SYSCALL=y")


def memory_lock() -> Failure | None:
    """Before 5.11 BPF's memory counts against RLIMIT_MEMLOCK, all of a user's together; libbpf raises it if it may."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if release() >= _MEMCG or soft == resource.RLIM_INFINITY or effective_capabilities() >> _CAP_SYS_RESOURCE & 1:
        return None
    remedy = "raise it (LimitMEMLOCK=infinity in the runtime's systemd unit), add CAP_SYS_RESOURCE, or use Linux 5.11"
    return Failure("memlock", f"RLIMIT_MEMLOCK is {soft} bytes, for all BPF of this user together", remedy)


def kernel_version() -> Failure | None:
    """Linux 5.10, unless a distribution has brought what it takes to an older one: then nothing asks."""
    if release() >= OLDEST:
        return None
    return Failure("old-kernel", f"this is Linux {os.uname().release}", "use Linux 5.10 or newer")


def kernel_types() -> Failure | None:
    """The kernel's own BTF."""
    path = "/sys/kernel/btf/vmlinux"
    if os.access(path, os.R_OK):
        return None
    return Failure("no-btf", f"this kernel has no BTF ({path})", "use a kernel with CONFIG_DEBUG_INFO_BTF=y")


def cgroups() -> Failure | None:
    """A mount of cgroup v2."""
    try:
        mount_point()
    except Failure as failure:
        return failure
    return None


def shaping() -> Failure | None:
    """The whole of it, done: a shaper is loaded, attached to a cgroup of its own, read back, and removed with it."""
    try:
        with TransientCgroup("doctor") as cgroup, Shaper() as shaper:
            shaper.attach(cgroup.path, bpf.ALLOW_MULTI)
    except Failure as failure:
        return failure
    return None


# The foundations first: each is worth asking only if those before it are there.
CHECKS = (
    Check("cgroup v2 is mounted", cgroups),
    Check("this is the initial user namespace", user_namespace),
    Check(f"this process has {' and '.join(CAPABILITIES)}", capabilities),
    Check("the system call bpf gets through", system_call),
    Check(f"this is Linux {'.'.join(map(str, OLDEST))} or newer", kernel_version),
    Check("the kernel has BTF", kernel_types),
    Check("BPF's memory is not limited by RLIMIT_MEMLOCK", memory_lock),
    Check("a cgroup can be limited", shaping),
)


def _exclusive_above(cgroup: str) -> str:
    """The nearest cgroup above that has an exclusive program on a hook of ours, and its id; "" if none is seen."""
    above = os.path.dirname(cgroup)
    while os.path.exists(os.path.join(above, "cgroup.procs")):
        fd = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for hook in HOOKS.values():
                flags, programs = bpf.attachments(fd, hook)
                if programs and flags == bpf.EXCLUSIVE:
                    return f"{above} (program {programs[0]})"
        except bpf.BpfError:
            return ""
        finally:
            os.close(fd)
        above = os.path.dirname(above)
    return ""


def _status(key: str) -> str:
    with open("/proc/self/status") as file:
        return next((line.split()[1] for line in file if line.startswith(key + ":")), "")


def effective_capabilities() -> int:
    """Those that this process has in effect: bits of linux/capability.h."""
    return int(_status("CapEff"), 16)


def release() -> tuple[int, ...]:
    """This kernel's, its first two numbers."""
    # Such as 6.18.44-fc-v782 and 5.10-rc1.
    return tuple(map(int, re.findall("[0-9]+", os.uname().release)[:2]))


def _lockdown() -> str:
    """The kernel's lockdown mode, "" for none; from the command line where securityfs is not mounted."""
    try:
        with open("/sys/kernel/security/lockdown") as file:
            mode = file.read().partition("[")[2].partition("]")[0]
    except OSError:
        with open("/proc/cmdline") as file:
            modes = [word.removeprefix("lockdown=") for word in file.read().split() if word.startswith("lockdown=")]
        mode = modes[-1] if modes else ""
    return "" if mode == "none" else mode


def _security_label() -> str:
    """What SELinux or AppArmor takes this process for; "" if nothing confines it."""
    try:
        with open("/proc/self/attr/current") as file:
            label = file.read().strip(" \n\0")
    except OSError:
        return ""
    return "" if label in ("", "unconfined", "kernel") else label
