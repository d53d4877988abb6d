"""What happens because time passes: timeouts, idle containers, lost callers and lost clients."""

import asyncio
import time
from typing import TYPE_CHECKING

from modal_proto import api_pb2 as api

from .container import Container
from .objects import App
from .scheduler import STATUS, failure

if TYPE_CHECKING:
    from .plane import Plane

TICK_S = 0.05


async def watch(plane: "Plane") -> None:
    """Look at everything that may have become due, for as long as the plane lives."""
    while True:
        await asyncio.sleep(TICK_S)
        now = time.time()
        for container in list(plane.containers.values()):
            _check_container(plane, container, now)
        for app in list(plane.objects.apps.values()):
            await _check_app(plane, app, now)
        for call in plane.scheduler.calls.values():
            alone_s = 0 if call.spawned or call.polls else now - call.last_poll_s
            if call.unfinished and alone_s > plane.settings.orphan_s:
                plane.scheduler.cancel(call, "the caller went away")
        plane.wake()


def _check_container(plane: "Plane", container: Container, now: float) -> None:
    worker, pool = container.worker, container.worker.pool
    container.sample()
    if not worker.ready and now - worker.started_s > pool.limits.startup_timeout_s:
        container.kill("startup timeout")
    for work in list(worker.running.values()):
        if now - work.started_s > pool.limits.timeout_s and not work.done:
            message = f"{work.name} exceeded its timeout of {pool.limits.timeout_s:g} s"
            result = failure(STATUS.GENERIC_STATUS_TIMEOUT, message)
            plane.scheduler.finish(worker, api.FunctionPutOutputsItem(input_id=work.id, result=result))
            worker.blameless = True
            container.kill("timeout")
    idle_s = now - worker.idle_since_s if worker.ready and not worker.running else 0
    if idle_s > pool.limits.scaledown_s and len(pool.workers) > pool.limits.min_containers:
        plane.leave(container, "idle")


async def _check_app(plane: "Plane", app: App, now: float) -> None:
    lost = now - app.heartbeat_s > plane.settings.heartbeat_timeout_s
    if lost and app.state in (api.APP_STATE_EPHEMERAL, api.APP_STATE_DETACHED):
        await plane.client_left(app)
    elif app.state == api.APP_STATE_DETACHED_DISCONNECTED:
        pools = plane.pools_of(app)
        if not any(call.unfinished for call in plane.scheduler.calls.values() if call.pool in pools):
            await plane.stop_app(app)
