"""RPCs about apps: their life, their listing, their logs."""

import time
from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2 as api

from .objects import App
from .rpc import Service, found

BUILDER_VERSION = "2025.06"


class AppRpcs(Service):
    async def ClientHello(self, _: Empty) -> api.ClientHelloResponse:
        return api.ClientHelloResponse()

    async def EnvironmentGetOrCreate(
        self, _: api.EnvironmentGetOrCreateRequest
    ) -> api.EnvironmentGetOrCreateResponse:
        settings = api.EnvironmentSettings(image_builder_version=BUILDER_VERSION)
        metadata = api.EnvironmentMetadata(name="main", settings=settings)
        return api.EnvironmentGetOrCreateResponse(environment_id="en-main", metadata=metadata)

    # --- apps ---

    def _app(self, app_id: str) -> App:
        return found(self.plane.objects.apps, app_id, "App")

    async def AppCreate(self, request: api.AppCreateRequest) -> api.AppCreateResponse:
        app = self.plane.objects.new_app(request.description, request.app_state)
        return api.AppCreateResponse(app_id=app.id, app_page_url=self.plane.page(app))

    async def AppGetOrCreate(self, request: api.AppGetOrCreateRequest) -> api.AppGetOrCreateResponse:
        app = self.plane.objects.deployed(request.app_name)
        if app is None:
            if request.object_creation_type != api.OBJECT_CREATION_TYPE_CREATE_IF_MISSING:
                raise GRPCError(Status.NOT_FOUND, f"App '{request.app_name}' not found")
            app = self.plane.objects.new_app(request.app_name, api.APP_STATE_DEPLOYED)
        return api.AppGetOrCreateResponse(app_id=app.id)

    async def AppPublish(self, request: api.AppPublishRequest) -> api.AppPublishResponse:
        app = self._app(request.app_id)
        app.function_ids, app.class_ids = dict(request.function_ids), dict(request.class_ids)
        app.version += 1
        if request.app_state:
            app.state = request.app_state
        if app.deployed:
            app.name, app.deployed_s = request.name or app.name, time.time()
        self.plane.wake()
        return api.AppPublishResponse(url=self.plane.page(app), deployed_at=time.time())

    async def AppHeartbeat(self, request: api.AppHeartbeatRequest) -> Empty:
        self._app(request.app_id).heartbeat_s = time.time()
        return Empty()

    async def AppClientDisconnect(self, request: api.AppClientDisconnectRequest) -> Empty:
        await self.plane.client_left(self._app(request.app_id))
        return Empty()

    async def AppStop(self, request: api.AppStopRequest) -> Empty:
        await self.plane.stop_app(self._app(request.app_id))
        return Empty()

    async def AppGetLayout(self, request: api.AppGetLayoutRequest) -> api.AppGetLayoutResponse:
        return api.AppGetLayoutResponse(app_layout=self.plane.objects.layout(self._app(request.app_id)))

    async def AppGetByDeploymentName(
        self, request: api.AppGetByDeploymentNameRequest
    ) -> api.AppGetByDeploymentNameResponse:
        app = self.plane.objects.deployed(request.name)
        earlier = [a for a in self.plane.objects.apps.values() if a.name == request.name and a.deployed_s]
        shown = app or (earlier[-1] if earlier else None)
        return api.AppGetByDeploymentNameResponse(
            app_id=app.id if app else "",
            previous_app_id=shown.id if shown and not app else "",
            environment_name="main",
            lifecycle=shown.lifecycle() if shown else None,
        )

    async def AppGetLifecycle(self, request: api.AppGetLifecycleRequest) -> api.AppGetLifecycleResponse:
        return api.AppGetLifecycleResponse(lifecycle=self._app(request.app_id).lifecycle())

    async def AppList(self, _: api.AppListRequest) -> api.AppListResponse:
        return api.AppListResponse(
            apps=[
                api.AppListResponse.AppListItem(
                    app_id=app.id,
                    description=app.name,
                    name=app.name,
                    state=app.state,
                    created_at=app.created_s,
                    stopped_at=app.stopped_s,
                    n_running_tasks=len(self.plane.containers_of(app)),
                )
                for app in self.plane.objects.apps.values()
            ]
        )

    async def TaskList(self, request: api.TaskListRequest) -> api.TaskListResponse:
        apps = [a for a in self.plane.objects.apps.values() if request.app_id in ("", a.id)]
        return api.TaskListResponse(
            tasks=[
                api.TaskStats(
                    task_id=container.task_id,
                    app_id=app.id,
                    app_description=app.name,
                    started_at=container.worker.started_s,
                    enqueued_at=container.worker.started_s,
                )
                for app in apps
                for container in self.plane.containers_of(app)
            ]
        )

    # --- logs ---

    async def AppGetLogs(self, request: api.AppGetLogsRequest) -> AsyncIterator[api.TaskLogsBatch]:
        app = self._app(request.app_id)
        position = int(request.last_entry_id or 0)
        deadline = time.monotonic() + request.timeout
        while True:
            for batch in app.logs[position:]:
                position += 1
                if _selected(batch, request):
                    yield batch
            if app.state == api.APP_STATE_STOPPED and not self.plane.containers_of(app):
                yield api.TaskLogsBatch(app_done=True)
                return
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return
            if position == len(app.logs):
                await app.logged.wait(min(left_s, 1.0))

    async def AppFetchLogs(self, request: api.AppFetchLogsRequest) -> api.AppFetchLogsResponse:
        since, until = request.since.ToNanoseconds() / 1e9, request.until.ToNanoseconds() / 1e9
        chosen = [
            batch
            for batch in self._app(request.app_id).logs
            if since <= batch.items[0].timestamp <= (until or float("inf")) and _selected(batch, request)
        ]
        return api.AppFetchLogsResponse(batches=chosen[-request.limit :] if request.limit else chosen)


def _selected(batch: api.TaskLogsBatch, request: api.AppGetLogsRequest | api.AppFetchLogsRequest) -> bool:
    return (
        request.task_id in ("", batch.task_id)
        and request.function_id in ("", batch.function_id)
        and request.function_call_id in ("", batch.items[0].function_call_id)
        and request.search_text in batch.items[0].data
    )
