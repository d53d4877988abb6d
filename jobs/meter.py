"""What a run on Modal has cost so far, from what its containers say of themselves and the list of prices."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import modal

from jobs import resources
from jobs.containers import BEAT_S, ContainerRecord, containers_since
from pipeline.console import Work
from pipeline.driver import NONPREEMPTIBLE, container_usd_per_s, is_listed

READ_EVERY_S = 5.0
GONE_AFTER_S = 3 * BEAT_S  # without a beat
DRIVER_USD_PER_S = NONPREEMPTIBLE * container_usd_per_s("", n_cpus=resources.DRIVER_CPUS, memory_gib=0.5)


@dataclass(slots=True, kw_only=True)
class ContainerMeter:
    """Adds up the containers of a run, from their start to their end, and its driver; times are since the epoch.

    To a run belong the containers that worked for its output since it began. Those that never worked for any belong
    to it if they are of its pool and started since then, or did not get ready: it was the run that they were to work
    for. A container works for one run at a time, as far as money goes: each that it worked for counts all of it.
    """

    began_at: float  # of the run, in the first of its driver's calls
    output: str
    config: str  # path below the repository
    gpu: str  # "" = none
    usd_per_hour: float = 0.0  # of one container in all; 0 = the list of prices
    clock: Callable[[], float] = time.time
    read: Callable[[float], Iterable[ContainerRecord]] = containers_since
    _records: list[ContainerRecord] = field(default_factory=list)
    _read_at: float = -math.inf

    def __post_init__(self) -> None:
        """Raise ConfigError where the price of the run's containers is not known."""
        if not self.usd_per_hour:
            container_usd_per_s(self.gpu, n_cpus=0, memory_gib=0)

    def spent_usd(self) -> float:
        """Return what was spent until now, and what the idle time to come of the containers that are up will cost.

        It falls only when a container turns out to have ended: by the idle time that it will not have. Where the Dict
        cannot be reached, containers are taken to be as they were when it was.
        """
        now = self.clock()
        if abs(now - self._read_at) > READ_EVERY_S:
            with contextlib.suppress(modal.exception.Error, OSError):
                self._records, self._read_at = list(self.read(self.began_at)), now
        of_driver = (max(0.0, now - self.began_at) + resources.DRIVER_IDLE_S) * DRIVER_USD_PER_S
        return of_driver + sum(self._usd(record, now) for record in self._records if self._is_ours(record))

    def work(self) -> Work:
        """Return what the engines of the run are at, as their containers said last, and what the run costs."""
        spent_usd, now = self.spent_usd(), self.clock()
        ours = [each for each in self._records if self._is_ours(each) and self._ends_at(each, now) >= now]
        return Work(
            ready_at=min((each.ready_at for each in ours if each.ready_at), default=0.0),
            tokens=sum(each.tokens_under_way for each in ours),
            spent_usd=spent_usd,
            usd_per_s=DRIVER_USD_PER_S + sum(self._usd_per_s(each) for each in ours),
        )

    def _is_ours(self, record: ContainerRecord) -> bool:
        if record.outputs:
            return self.output in record.outputs and not 0 < record.idle_since <= self.began_at
        of_pool = (record.config, self._gpu_of(record)) == (self.config, self.gpu)
        return of_pool and (record.started_at >= self.began_at or not record.ready_at)

    def _usd(self, record: ContainerRecord, now: float) -> float:
        seconds = max(0.0, self._ends_at(record, now) - max(record.started_at, self.began_at))
        return seconds * self._usd_per_s(record)

    def _usd_per_s(self, record: ContainerRecord) -> float:
        if self.usd_per_hour:
            return self.usd_per_hour / 3600
        return container_usd_per_s(self._gpu_of(record), n_cpus=record.n_cpus, memory_gib=record.memory_gib)

    def _gpu_of(self, record: ContainerRecord) -> str:
        """Return the GPU that is paid for: what the run asked for, where a container found one that has no price."""
        return record.gpu if not record.gpu or is_listed(record.gpu) else self.gpu

    def _ends_at(self, record: ContainerRecord, now: float) -> float:
        """Return when a container ended or, as far as one can say, will end."""
        if record.ended_at:
            return record.ended_at
        if self._read_at - record.seen_at > GONE_AFTER_S:
            return record.seen_at + BEAT_S
        never_worked = record.ready_at and not record.outputs
        idle_since = record.idle_since or (record.ready_at if never_worked else now)
        return max(now, idle_since + record.idle_window_s)
