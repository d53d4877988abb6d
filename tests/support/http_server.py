"""`embed-corpus serve` as a process, for tests: its address, its key and what runs below it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import command

KEY = "sk-of-a-test-0123456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A supervisor and where its server answers."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@contextmanager
def serving(folder: Path, *arguments: str, ready: bool = True) -> Iterator[Served]:
    """Yield a server with a key, once it says it is ready; end it with SIGTERM if it is still there."""
    key, port = folder / "key", free_port()
    key.write_text(KEY)
    key.chmod(0o600)
    line = command("serve", "--port", str(port), "--api-key-file", key, *arguments)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            if ready:
                assert process.stdout is not None
                first = process.stdout.readline()
                assert first.startswith("ready: "), first + process.communicate()[1]
            yield Served(process=process, port=port)
        finally:
            process.terminate()


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listened a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def tree(pid: int) -> list[int]:
    """Return the processes below `pid`, parents before children."""
    children: dict[int, list[int]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended meanwhile
        children.setdefault(parent, []).append(int(process.name))
    found = list(children.get(pid, []))
    for below in found:
        found += children.get(below, [])
    return found


def alive(pid: int) -> bool:
    """Return whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def words(pid: int, name: str) -> str:
    """Return the `cmdline` or the `environ` of a process as text."""
    return (Path("/proc") / str(pid) / name).read_bytes().replace(b"\0", b" ").decode(errors="replace")


def engine_of(supervisor: int) -> int:
    """Return the process of vLLM that computes."""
    [engine] = [pid for pid in tree(supervisor) if "EngineCore" in words(pid, "cmdline")]
    return engine
