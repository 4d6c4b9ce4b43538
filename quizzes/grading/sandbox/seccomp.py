"""The calls of the kernel that no submission may make, as a seccomp program made by libseccomp."""

import errno
import functools
import tempfile

from quizzes.grading.sandbox.workers import Unavailable

# What a function that computes never needs, and an escape might: other namespaces, mounts, other processes' memory,
# keys, and memory that no limit counts.
_FORBIDDEN = (
    *("unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "fsopen", "fsmount", "open_tree", "move_mount"),
    *("mount_setattr", "ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd", "keyctl", "add_key"),
    *("request_key", "bpf", "userfaultfd", "perf_event_open", "io_uring_setup", "memfd_create", "memfd_secret"),
    *("shmget", "mq_open", "open_by_handle_at", "name_to_handle_at", "kexec_load", "init_module", "finit_module"),
)


@functools.cache
def forbidden_calls() -> bytes:
    """A seccomp filter, as the program that the kernel loads. Raises Unavailable without libseccomp."""
    try:
        import pyseccomp as seccomp
    except (ImportError, RuntimeError, OSError) as error:
        raise Unavailable("libseccomp is missing. Install it (Debian, Ubuntu: apt install libseccomp2).") from error
    rules = seccomp.SyscallFilter(defaction=seccomp.ALLOW)
    for name in _FORBIDDEN:
        # A library older than the kernel does not know the newest calls' names, nor an old kernel the calls.
        try:
            rules.add_rule(seccomp.ERRNO(errno.EPERM), name)
        except (ValueError, RuntimeError, OSError):
            continue
    new_user_namespace = 0x10000000
    rules.add_rule(
        seccomp.ERRNO(errno.EPERM), "clone", seccomp.Arg(0, seccomp.MASKED_EQ, new_user_namespace, new_user_namespace)
    )
    # clone3 hides its flags in memory, where a filter cannot look; without it the C library uses clone.
    rules.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")
    with tempfile.TemporaryFile() as program:
        rules.export_bpf(program)
        program.seek(0)
        return program.read()
