"""Calls and their inputs: where an input waits, and how it comes to its result."""

import asyncio
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import Message
from modal_proto import api_pb2 as api

if TYPE_CHECKING:
    from .container import Container
    from .functions import Function

STATUS = api.GenericResult
GONE_S = 1.0  # a client that waits asks again at once
M = TypeVar("M", bound=Message)


def new_id(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:22]}"


def view(source: Message, kind: type[M], **more: Any) -> M:
    """Return a message of another kind with the set fields that both kinds have, and more."""
    names = kind.DESCRIPTOR.fields_by_name
    seen: M = kind(**{field.name: value for field, value in source.ListFields() if field.name in names} | more)
    return seen


class Signal:
    """Wakes everyone who waits for a change; waiters look again at the state for themselves."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, timeout_s: float | None) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), timeout_s)


@dataclass(slots=True, kw_only=True, eq=False)
class Call:
    """One FunctionCall; a `spawned` one outlives its caller and is retried here, another by its client."""

    id: str
    function: "Function"
    spawned: bool
    last_poll_s: float
    caller: "Container | None" = None  # that it was made in
    parent_input_id: str = ""
    polls: int = 0
    inputs: dict[int, "Input"] = field(default_factory=dict)
    outputs: list[tuple[int, api.FunctionGetOutputsItem]] = field(default_factory=list)
    sequence: int = 0
    unfinished: int = 0
    changed: Signal = field(default_factory=Signal)

    @property
    def alone_s(self) -> float:
        """How long nobody has waited for the call."""
        return 0.0 if self.spawned or self.polls else time.time() - self.last_poll_s

    @property
    def is_orphan(self) -> bool:
        """Whether the call goes on without its caller."""
        caller_ended = self.caller is not None and self.caller.seen.ended_s is not None
        return bool(self.unfinished) and not self.spawned and (caller_ended or self.alone_s > GONE_S)

    def put(self, idx: int, payload: api.FunctionInput) -> "Input":
        work = self.inputs[idx] = Input(id=new_id("in"), call=self, idx=idx, payload=payload)
        self.unfinished += 1
        work.enqueue()
        return work

    def cancel(self, why: str) -> list["Container"]:
        """Terminate the inputs and return the containers that still run some, which are told to interrupt them."""
        held = []
        for container in self.function.containers:
            if mine := [work.id for work in container.running.values() if work.call is self and not work.done]:
                held.append(container)
                container.cancelled.extend(mine)
                container.changed.notify()
        for work in self.inputs.values():
            work.fail(STATUS.GENERIC_STATUS_TERMINATED, why)
        return held


@dataclass(slots=True, kw_only=True, eq=False)
class Input:
    id: str
    call: Call
    idx: int
    payload: api.FunctionInput
    retry_count: int = 0
    deaths: int = 0
    done: bool = False
    status: "api.GenericResult.GenericStatus.ValueType" = STATUS.GENERIC_STATUS_UNSPECIFIED
    started_s: float = 0.0

    @property
    def name(self) -> str:
        """Name the function or method that this input runs, as the rules and counters do."""
        return ".".join(filter(None, (self.call.function.name, self.payload.method_name)))

    def enqueue(self, *, first: bool = False) -> None:
        """Let the input wait for a container, before or after the others that wait."""
        if not self.done:
            queue = self.call.function.queue
            (queue.appendleft if first else queue.append)(self)
            self.call.function.changed.notify()

    def retry(self, payload: api.FunctionInput, retry_count: int) -> None:
        """Run a failed input again at its caller's request."""
        self.payload, self.retry_count = payload, retry_count or self.retry_count + 1
        self.done, self.deaths, self.status = False, 0, STATUS.GENERIC_STATUS_UNSPECIFIED
        self.call.unfinished += 1
        self.enqueue()

    def settle(self, item: api.FunctionPutOutputsItem) -> None:
        """Give the input its result for good, unless it has one."""
        if self.done:
            return
        self.done, self.status = True, item.result.status
        call = self.call
        call.unfinished -= 1
        call.sequence += 1
        known = {"idx": self.idx, "input_id": self.id, "retry_count": self.retry_count}
        call.outputs.append((call.sequence, view(item, api.FunctionGetOutputsItem, **known)))
        call.changed.notify()

    def fail(self, status: "api.GenericResult.GenericStatus.ValueType", message: str) -> None:
        self.settle(api.FunctionPutOutputsItem(result=api.GenericResult(status=status, exception=message)))
