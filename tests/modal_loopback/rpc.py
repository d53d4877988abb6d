"""The gRPC face: one service per listener; its mixins implement RPCs as methods of the same name."""

import asyncio
import inspect
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from grpclib import GRPCError, Status
from grpclib.const import Handler
from grpclib.server import Stream
from modal_proto.api_grpc import ModalClientBase

from .faults import DelayAnswer

if TYPE_CHECKING:
    from .container import Container
    from .plane import Plane

V = TypeVar("V")


def found(objects: Mapping[str, V], key: str, what: str) -> V:
    if key not in objects:
        raise GRPCError(Status.NOT_FOUND, f"{what} '{key}' not found")
    return objects[key]


# Gives the name, arity and message types of every RPC, without implementing any.
_Names: Any = type("_Names", (ModalClientBase,), {})
_Names.__abstractmethods__ = frozenset()


class Service:
    """Base of the mixins: what a method needs to know is the plane, and whose listener this is."""

    def __init__(self, plane: "Plane", container: "Container | None" = None) -> None:
        self.plane = plane
        self.container = container

    def __mapping__(self) -> dict[str, Handler]:
        return {
            path: handler._replace(func=self._answer(path.rpartition("/")[2]))
            for path, handler in _Names().__mapping__().items()
        }

    @property
    def inside(self) -> "Container":
        """The container that is calling; only containers may use the RPCs that ask for it."""
        if self.container is None:
            raise GRPCError(Status.FAILED_PRECONDITION, "only a container may call this")
        return self.container

    def _answer(self, name: str) -> Callable[[Stream[Any, Any]], Awaitable[None]]:
        method = getattr(self, name, None)
        seen = self.plane.seen

        async def answer(stream: Stream[Any, Any]) -> None:
            request = await stream.recv_message()
            if self.container is not None and self.container.killed:
                raise GRPCError(Status.UNAVAILABLE, "this container was killed; its process is about to go")
            seen.rpcs[name] += 1
            for rule in self.plane.faults.due(DelayAnswer, name):
                await asyncio.sleep(rule.seconds)
            if method is None:
                seen.unimplemented.append(name)
                raise GRPCError(Status.UNIMPLEMENTED, f"the test control plane does not implement {name}")
            try:
                if inspect.isasyncgenfunction(method):
                    async for reply in method(request):
                        await stream.send_message(reply)
                else:
                    await stream.send_message(await method(request))
            except (GRPCError, ConnectionError, asyncio.CancelledError):
                raise
            except Exception as error:
                seen.errors.append(f"{name}: {traceback.format_exc()}")
                raise GRPCError(Status.INVALID_ARGUMENT, f"test control plane, {name}: {error!r}") from error

        return answer
