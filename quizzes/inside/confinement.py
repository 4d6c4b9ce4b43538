"""How a forked process gives up what no exercise needs: namespaces, files, rights and calls of the kernel. Linux.

Runs inside the sandbox, with the standard library alone. Python 3.11 has neither `unshare` nor `mount`, hence ctypes.
"""

import ctypes
import os
import resource
import struct

NEW_FILES, NEW_IPC, NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
READ_ONLY, NO_SETUID, NO_DEVICES, NO_PROGRAMS = 1, 2, 4, 8
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
SIGKILL, SECCOMP_MODE_FILTER, CAPABILITIES_VERSION_3 = 9, 2, 0x20080522
HUGE_PAGE, MADV_COLLAPSE = 2**21, 25  # Linux 6.1
MOST_FILES = 4096
_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments) -> int:
    """A function of the C library. Raises OSError with its name when it fails."""
    result = getattr(_libc, name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def next_child_is_first() -> None:
    """What this process forks next is process 1 of a new PID namespace, and takes everything with it when it ends."""
    call("unshare", NEW_PROCESSES)


def next_child_is_ours(own_namespace: int) -> None:
    """Undo `next_child_is_first`. own_namespace: a descriptor of this process's /proc/self/ns/pid."""
    call("setns", own_namespace, NEW_PROCESSES)


def leave_root(uid: int | None) -> None:
    """Become nobody for real: limits on processes bind neither root nor one who only looks like root elsewhere."""
    if uid is None:
        return
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    # The change of user closed /proc/self, in which the new namespace has to be told who is who.
    call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)


def enter_namespaces(folder_bytes: int) -> None:
    """New user, mount, network and IPC namespaces; an empty /tmp of this size; nothing under /proc."""
    uid, gid = os.getuid(), os.getgid()
    call("unshare", NEW_USER | NEW_FILES | NEW_NETWORK | NEW_IPC)
    for name, line in (("setgroups", "deny"), ("gid_map", f"{gid} {gid} 1"), ("uid_map", f"{uid} {uid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)
    size = f"size={folder_bytes},nr_inodes={MOST_FILES},mode=0700"
    call("mount", b"tmpfs", b"/tmp", b"tmpfs", NO_SETUID | NO_DEVICES, size.encode())
    closed = READ_ONLY | NO_SETUID | NO_DEVICES | NO_PROGRAMS
    call("mount", b"tmpfs", b"/proc", b"tmpfs", closed, b"size=4k,nr_inodes=2,mode=0555")
    os.chdir("/tmp")


def set_limits(limits: dict, memory_at_rest: int) -> None:
    """Limits that the kernel keeps, for this process and all that it starts. What a system lacks is passed over."""
    wanted = {
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": limits["file_bytes"],
        "RLIMIT_NOFILE": limits["open_files"],
        "RLIMIT_NPROC": limits["processes"] or resource.RLIM_INFINITY,
        "RLIMIT_AS": memory_at_rest + limits["memory_bytes"],
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_MEMLOCK": 0,
    }
    for name, value in wanted.items():
        if hasattr(resource, name):
            # Nobody can raise what is lower already.
            _, most = resource.getrlimit(getattr(resource, name))
            if most != resource.RLIM_INFINITY:
                value = most if value == resource.RLIM_INFINITY else min(value, most)
            resource.setrlimit(getattr(resource, name), (value, value))


def drop_rights(forbidden: bytes) -> None:
    """No capability, no way to gain one, and none of the calls that this seccomp program forbids."""
    last = 63
    for capability in range(last + 1):
        if _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:  # the kernel knows no more of them
            break
    header = struct.pack("Ii", CAPABILITIES_VERSION_3, 0)
    call("capset", header, bytes(24))
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    program = ctypes.create_string_buffer(forbidden, len(forbidden))
    length, instruction = len(forbidden) // 8, ctypes.addressof(program)
    call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, struct.pack("HxxxxxxP", length, instruction), 0, 0)


def end_with_parent() -> None:
    """Be killed when the parent ends."""
    call("prctl", PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)


def gather_memory() -> int:
    """Put the memory that this process has filled so far into pages of 2 MB, where the kernel can do that.

    A fork copies a line of a table for every page, and its end takes that back: for torch, 45,000 lines or a hundred.
    Returns how many such pages there are now; 0 before Linux 6.1.
    """
    gathered = 0
    with open("/proc/self/maps") as maps:
        mapped = [line.split() for line in maps]
    for span, rights, _, _, file, *_ in mapped:
        if file != "0" or not rights.startswith("rw-p"):
            continue
        begin, end = (int(edge, 16) for edge in span.split("-"))
        for page in range(-(-begin // HUGE_PAGE) * HUGE_PAGE, end - HUGE_PAGE + 1, HUGE_PAGE):
            gathered += _libc.madvise(ctypes.c_void_p(page), ctypes.c_size_t(HUGE_PAGE), MADV_COLLAPSE) == 0
    return gathered


def address_space() -> int:
    """Bytes of address space that this process has now, most of it torch's own."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()
