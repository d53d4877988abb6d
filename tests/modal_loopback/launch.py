"""Runs as a script: builds one container's root in fresh namespaces and becomes the init of its processes.

Started by container.py with the path of a JSON launch plan. The death of the plane kills this process, which
kills the init, which takes every process of the container along.
"""

import ctypes
import json
import os
import signal
import sys
from typing import Any

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
KEPT_FLAGS = 2 | 4 | 8 | 1024 | 2048  # nosuid, nodev, noexec, noatime, nodiratime: a remount must repeat them
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{what}: {os.strerror(errno)}")


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    fs = kind.encode() if kind else None
    check(libc.mount(source.encode(), target.encode(), fs, ctypes.c_ulong(flags), None), f"mount {target}")


def bind(source: str, target: str, read_only: bool) -> None:
    mount(source, target, None, MS_BIND | MS_REC)
    if read_only:
        kept = os.statvfs(target).f_flag & KEPT_FLAGS
        mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def die_with_parent() -> None:
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def enter_namespaces() -> None:
    uid, gid = os.getuid(), os.getgid()
    check(libc.unshare(CLONE_NEWNS | CLONE_NEWPID | (CLONE_NEWUSER if uid else 0)), "unshare")
    if uid:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


def build_root(plan: dict[str, Any]) -> None:
    root = plan["root"]
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    mount(root, root, None, MS_BIND)
    for source, target, read_only in plan["binds"]:
        bind(source, root + target, read_only)
    mount("tmpfs", root + "/dev/shm", "tmpfs", 0)
    try:
        mount("proc", root + "/proc", "proc", 0)
    except OSError:  # a host that hides parts of its own /proc allows no fresh one to an ordinary user
        bind("/proc", root + "/proc", False)
    os.chroot(root)
    os.chdir("/root")


def status(wait_status: int) -> int:
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


def run_init(plan: dict[str, Any]) -> int:
    """Start the container's program as a child, reap everything, and return the program's exit code."""
    program = os.fork()
    if program == 0:
        os.execve(plan["argv"][0], plan["argv"], plan["env"])
    while True:
        pid, wait_status = os.wait()
        if pid == program:
            return status(wait_status)


def main() -> int:
    with open(sys.argv[1]) as file:
        plan = json.load(file)
    die_with_parent()
    enter_namespaces()
    init = os.fork()
    if init == 0:
        die_with_parent()
        build_root(plan)
        os._exit(run_init(plan))
    return status(os.waitpid(init, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
