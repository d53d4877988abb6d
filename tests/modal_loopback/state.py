"""Calls, inputs, and pools of containers, as plain records."""

import asyncio
import math
import uuid
from collections import deque
from dataclasses import dataclass, field

from modal_proto import api_pb2 as api


def new_id(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:22]}"


class Signal:
    """Wakes everyone who waits for a change; waiters look again at the state for themselves."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, timeout_s: float) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=max(timeout_s, 0))
        finally:
            self._waiters.discard(waiter)


@dataclass(slots=True, kw_only=True, eq=False)
class Call:
    """One FunctionCall; a `spawned` one outlives its caller and is retried here, another by its client."""

    id: str
    pool: "Pool"
    mapped: bool
    spawned: bool
    last_poll_s: float
    polls: int = 0
    inputs: dict[int, "Input"] = field(default_factory=dict)
    outputs: list[tuple[int, api.FunctionGetOutputsItem]] = field(default_factory=list)
    sequence: int = 0
    unfinished: int = 0
    changed: Signal = field(default_factory=Signal)


@dataclass(slots=True, kw_only=True, eq=False)
class Input:
    id: str
    call: Call
    idx: int
    payload: api.FunctionInput
    retry_count: int = 0
    deaths: int = 0
    done: bool = False
    started_s: float = 0.0

    @property
    def name(self) -> str:
        """Name the function or method that this input runs, as the rules and counters do."""
        method = self.payload.method_name
        return f"{self.call.pool.name}.{method}" if method else self.call.pool.name


@dataclass(slots=True, kw_only=True, eq=False)
class Worker:
    """A running container as the scheduler sees it; a leaving one takes no more inputs."""

    task_id: str
    pool: "Pool"
    started_s: float
    running: dict[str, Input] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    ready: bool = False
    leaving: bool = False
    blameless: bool = False
    idle_since_s: float = 0.0
    changed: Signal = field(default_factory=Signal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a definition and its autoscaler settings allow a pool; `slots` is inputs per container."""

    max_containers: int
    min_containers: int
    scaledown_s: float
    slots: int
    timeout_s: float
    startup_timeout_s: float
    retry: api.FunctionRetryPolicy


@dataclass(slots=True, kw_only=True, eq=False)
class Pool:
    """The containers of one function, class or variant, with their own limits and queue."""

    id: str
    name: str
    limits: Limits
    queue: deque[Input] = field(default_factory=deque)
    workers: dict[str, Worker] = field(default_factory=dict)
    crashes: int = 0
    not_before_s: float = 0.0
    changed: Signal = field(default_factory=Signal)

    @property
    def running(self) -> int:
        return sum(len(worker.running) for worker in self.workers.values())

    def wanted(self, now_s: float) -> int:
        """Return how many containers to start now."""
        if now_s < self.not_before_s:
            return 0
        staying = sum(not worker.leaving for worker in self.workers.values())
        demand = math.ceil((len(self.queue) + self.running) / self.limits.slots)
        room = self.limits.max_containers - len(self.workers)
        return max(0, min(max(demand, self.limits.min_containers) - staying, room))
