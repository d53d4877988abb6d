"""The gRPC face: one service per listener; its mixins implement RPCs as methods of the same name."""

import asyncio
import inspect
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from grpclib import GRPCError, Status
from grpclib.const import Handler
from grpclib.server import Stream
from modal_proto import api_pb2 as api
from modal_proto.api_grpc import ModalClientBase

from .knobs import DelayAnswer

if TYPE_CHECKING:
    from .container import Container
    from .plane import Plane

V = TypeVar("V")
Reply = dict[str, Any]


def found(objects: Mapping[str, V], key: str, what: str) -> V:
    if key not in objects:
        raise GRPCError(Status.NOT_FOUND, f"{what} '{key}' not found")
    return objects[key]


# Gives the name, arity and message types of every RPC, without implementing any.
_Names: Any = type("_Names", (ModalClientBase,), {})
_Names.__abstractmethods__ = frozenset()


class Service:
    """Base of the mixins: an RPC's method takes the request and gives the reply or its fields."""

    def __init__(self, plane: "Plane", container: "Container | None") -> None:
        self.plane = plane
        self._container = container

    def __mapping__(self) -> dict[str, Handler]:
        handlers: dict[str, Handler] = _Names().__mapping__()
        return {
            path: handler._replace(func=self._answer(path.rpartition("/")[2], handler.reply_type))
            for path, handler in handlers.items()
        }

    @property
    def inside(self) -> "Container":
        """The container that is calling; only containers may use the RPCs that ask for it."""
        if self._container is None:
            raise GRPCError(Status.FAILED_PRECONDITION, "only a container may call this")
        return self._container

    async def ClientHello(self, _: object) -> None:
        """Say nothing: an empty answer is enough."""

    ContainerHello = ClientHello

    def named(self, kind: str, request: Any) -> str:
        """Return the id of an object that a request names, a new one if it may be created or has no name."""
        name, create = request.deployment_name, request.object_creation_type
        known = self.plane.names.get((kind, name))
        if known and create == api.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
            raise GRPCError(Status.ALREADY_EXISTS, f"{kind} '{name}' already exists")
        if name and not known and not create:
            raise GRPCError(Status.NOT_FOUND, f"{kind} '{name}' not found")
        return known or self.plane.new_name(kind, name)

    def _answer(self, name: str, reply_type: Any) -> Callable[[Stream[Any, Any]], Awaitable[None]]:
        method = getattr(self, name, None)
        seen = self.plane.seen

        def message(reply: Any) -> Any:
            return reply if isinstance(reply, reply_type) else reply_type(**(reply or {}))

        async def answer(stream: Stream[Any, Any]) -> None:
            request = await stream.recv_message()
            if self._container is not None and self._container.killed:
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
                        await stream.send_message(message(reply))
                else:
                    await stream.send_message(message(await method(request)))
            except (GRPCError, ConnectionError, asyncio.CancelledError):
                raise
            except Exception as error:
                seen.errors.append(f"{name}: {traceback.format_exc()}")
                raise GRPCError(Status.INVALID_ARGUMENT, f"test control plane, {name}: {error!r}") from error

        return answer
