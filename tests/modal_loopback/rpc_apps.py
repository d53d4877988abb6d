"""RPCs about apps, functions and classes: to define, scale, look up and stop them, and to read their logs."""

import time
from collections.abc import AsyncIterator

from modal_proto import api_pb2 as api

from .calls import new_id, view
from .functions import App, Function, with_options
from .rpc import Reply, Service, found

BUILDER_VERSION = "2025.06"


class AppRpcs(Service):
    async def EnvironmentGetOrCreate(self, _: api.EnvironmentGetOrCreateRequest) -> Reply:
        settings = api.EnvironmentSettings(image_builder_version=BUILDER_VERSION)
        return {
            "environment_id": "en-main",
            "metadata": api.EnvironmentMetadata(name="main", settings=settings),
        }

    def _app(self, app_id: str) -> App:
        return found(self.plane.apps, app_id, "App")

    def _page(self, app: App) -> str:
        return f"{self.plane.url}/apps/{app.id}"

    async def AppCreate(self, request: api.AppCreateRequest) -> Reply:
        life = api.AppLifecycle(app_state=request.app_state, created_at=time.time())
        app = App(id=new_id("ap"), name=request.description, life=life, heartbeat_s=time.time())
        self.plane.apps[app.id] = app
        return {"app_id": app.id, "app_page_url": self._page(app)}

    async def AppPublish(self, request: api.AppPublishRequest) -> Reply:
        app = self._app(request.app_id)
        app.functions = {name: self.plane.functions[key] for name, key in request.function_ids.items()}
        app.class_ids = dict(request.class_ids)
        app.life.version += 1
        app.life.app_state = request.app_state or app.life.app_state
        if app.deployed:
            app.name, app.life.deployed_at = request.name or app.name, time.time()
        return {"url": self._page(app), "deployed_at": time.time()}

    async def AppHeartbeat(self, request: api.AppHeartbeatRequest) -> None:
        self._app(request.app_id).heartbeat_s = time.time()

    async def AppClientDisconnect(self, request: api.AppClientDisconnectRequest) -> None:
        self.plane.client_left(self._app(request.app_id))

    async def AppStop(self, request: api.AppStopRequest) -> None:
        self.plane.stop_app(self._app(request.app_id))

    async def AppGetLayout(self, request: api.AppGetLayoutRequest) -> Reply:
        return {"app_layout": self._app(request.app_id).layout(self.plane.volumes)}

    async def AppGetByDeploymentName(self, request: api.AppGetByDeploymentNameRequest) -> Reply:
        """Give the deployed app of that name, else the one that was deployed last, as the previous."""
        named = [app for app in self.plane.apps.values() if app.name == request.name and app.life.deployed_at]
        if not named:
            return {}
        last = max(named, key=lambda app: (app.deployed, app.life.deployed_at))
        shown_as = "app_id" if last.deployed else "previous_app_id"
        return {shown_as: last.id, "environment_name": "main", "lifecycle": last.life}

    async def AppGetLifecycle(self, request: api.AppGetLifecycleRequest) -> Reply:
        return {"lifecycle": self._app(request.app_id).life}

    async def AppList(self, _: api.AppListRequest) -> Reply:
        return {
            "apps": [
                api.AppListResponse.AppListItem(
                    app_id=app.id,
                    description=app.name,
                    name=app.name,
                    state=app.life.app_state,
                    created_at=app.life.created_at,
                    stopped_at=app.life.stopped_at,
                    n_running_tasks=len(self.plane.containers_of(app)),
                )
                for app in self.plane.apps.values()
            ]
        }

    async def TaskList(self, request: api.TaskListRequest) -> Reply:
        containers = self.plane.containers_of(self._app(request.app_id))
        return {"tasks": [api.TaskStats(task_id=c.task_id, started_at=c.seen.started_s) for c in containers]}

    async def AppGetLogs(self, request: api.AppGetLogsRequest) -> AsyncIterator[api.TaskLogsBatch]:
        app = self._app(request.app_id)
        position = int(request.last_entry_id or 0)
        deadline = time.monotonic() + request.timeout
        while True:
            for batch in app.logs[position:]:
                position += 1
                if _selected(batch, request):
                    yield batch
            if app.life.stopped_at and not self.plane.containers_of(app):
                yield api.TaskLogsBatch(app_done=True)
                return
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return
            if position == len(app.logs):
                await app.logged.wait(min(left_s, 1.0))

    async def AppFetchLogs(self, request: api.AppFetchLogsRequest) -> Reply:
        since, until = request.since.ToNanoseconds() / 1e9, request.until.ToNanoseconds() / 1e9
        chosen = [
            batch
            for batch in self._app(request.app_id).logs
            if since <= batch.items[0].timestamp <= (until or float("inf")) and _selected(batch, request)
        ]
        return {"batches": chosen[-request.limit :]}  # a limit of 0 takes them all


def _selected(batch: api.TaskLogsBatch, request: api.AppGetLogsRequest | api.AppFetchLogsRequest) -> bool:
    return (
        request.task_id in ("", batch.task_id)
        and request.function_id in ("", batch.function_id)
        and request.function_call_id in ("", batch.items[0].function_call_id)
        and request.search_text in batch.items[0].data
    )


class FunctionRpcs(Service):
    def _function(self, function_id: str) -> Function:
        return found(self.plane.functions, function_id, "Function")

    def _deployed(self, name: str) -> App:
        return found({app.name: app for app in self.plane.apps.values() if app.deployed}, name, "Deployed app")

    def _existing_or_new(self, function_id: str, app_id: str, definition: api.Function) -> Function:
        app = found(self.plane.apps, app_id, "App")
        return self.plane.functions.get(function_id) or self.plane.new_function(app, definition)

    async def FunctionPrecreate(self, request: api.FunctionPrecreateRequest) -> Reply:
        definition = view(request, api.Function)
        function = self._existing_or_new(request.existing_function_id, request.app_id, definition)
        return {"function_id": function.id, "handle_metadata": function.handle()}

    async def FunctionCreate(self, request: api.FunctionCreateRequest) -> Reply:
        definition = request.function
        if request.HasField("function_data"):  # a list of GPUs to choose from: take the first
            definition = request.function_data.ranked_functions[0].function
        function = self._existing_or_new(request.existing_function_id, request.app_id, definition)
        self.plane.define(function, definition)
        return {
            "function_id": function.id,
            "function": definition,
            "function_data": function.description(),
            "handle_metadata": function.handle(),
        }

    async def ClassCreate(self, request: api.ClassCreateRequest) -> Reply:
        return {"class_id": request.existing_class_id or new_id("cs"), "handle_metadata": api.ClassHandleMetadata()}

    async def FunctionBindParams(self, request: api.FunctionBindParamsRequest) -> Reply:
        base, options = self._function(request.function_id), request.function_options
        key = request.serialized_params + b"|" + options.SerializeToString(deterministic=True)
        variant = base.variants.get(key)
        if variant is None:
            definition = with_options(base.definition, options)
            variant = base.variants[key] = self.plane.new_function(base.app, definition)
            variant.params = request.serialized_params
            self.plane.define(variant, definition)
        return {"bound_function_id": variant.id, "handle_metadata": variant.handle()}

    async def FunctionGet(self, request: api.FunctionGetRequest) -> Reply:
        app = self._deployed(request.app_name)
        function = found(app.functions, request.object_tag, f"App '{app.name}' has no function")
        return {
            "function_id": function.id,
            "handle_metadata": function.handle(),
            "function": function.description(),
        }

    async def ClassGet(self, request: api.ClassGetRequest) -> Reply:
        app = self._deployed(request.app_name)
        class_id = found(app.class_ids, request.object_tag, f"App '{app.name}' has no class")
        return {"class_id": class_id, "handle_metadata": api.ClassHandleMetadata()}

    async def FunctionGetCurrentStats(self, request: api.FunctionGetCurrentStatsRequest) -> Reply:
        f = self._function(request.function_id)
        return {"backlog": len(f.queue), "num_total_tasks": len(f.containers), "num_running_inputs": f.running}

    async def FunctionUpdateSchedulingParams(self, request: api.FunctionUpdateSchedulingParamsRequest) -> Reply:
        function = self._function(request.function_id)
        self.plane.scale(function, request.settings)
        return {"current_settings": function.autoscaler}

    async def FunctionGetSchedulingParams(self, request: api.FunctionGetSchedulingParamsRequest) -> Reply:
        settings = self._function(request.function_id).autoscaler
        return {"autoscaler_configuration": api.AutoscalerConfiguration(settings=settings)}
