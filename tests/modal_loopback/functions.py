"""Apps and functions, with the protobuf views that the client wants of them."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modal_proto import api_pb2 as api

from .calls import Input, Signal, new_id, view
from .volumes import Volume

if TYPE_CHECKING:
    from .container import Container


@dataclass(slots=True, kw_only=True, eq=False)
class App:
    id: str
    name: str
    life: api.AppLifecycle
    heartbeat_s: float
    functions: dict[str, "Function"] = field(default_factory=dict)
    class_ids: dict[str, str] = field(default_factory=dict)
    logs: list[api.TaskLogsBatch] = field(default_factory=list)
    logged: Signal = field(default_factory=Signal)

    @property
    def deployed(self) -> bool:
        return self.life.app_state == api.APP_STATE_DEPLOYED

    def layout(self, volumes: Mapping[str, Volume]) -> api.AppLayout:
        """Describe the app's functions and classes, and every object that they depend on."""
        functions = self.functions.values()
        objects = {f.id: api.Object(object_id=f.id, function_handle_metadata=f.handle()) for f in functions}
        for class_id in self.class_ids.values():
            objects[class_id] = api.Object(object_id=class_id, class_handle_metadata=api.ClassHandleMetadata())
        for dependency in (d.object_id for f in functions for d in f.definition.object_dependencies):
            volume = volumes.get(dependency)
            described = volume_metadata(volume) if volume else None
            objects.setdefault(dependency, api.Object(object_id=dependency, volume_metadata=described))
        function_ids = {name: function.id for name, function in self.functions.items()}
        return api.AppLayout(objects=objects.values(), function_ids=function_ids, class_ids=self.class_ids)


def volume_metadata(volume: Volume) -> api.VolumeMetadata:
    creation = api.CreationInfo(created_at=volume.created_s)
    version = api.VOLUME_FS_VERSION_V2 if volume.version == 2 else api.VOLUME_FS_VERSION_V1
    return api.VolumeMetadata(version=version, name=volume.name, creation_info=creation)


@dataclass(slots=True, kw_only=True, eq=False)
class Function:
    """A function or a class's service function with its containers and queue; so is each variant of one.

    A variant is what the same code makes with other parameters or options.
    """

    id: str
    app: App
    definition: api.Function
    definition_id: str = ""
    params: bytes = b""
    variants: dict[bytes, "Function"] = field(default_factory=dict)
    autoscaler: api.AutoscalerSettings = field(default_factory=api.AutoscalerSettings)
    queue: deque[Input] = field(default_factory=deque)
    containers: list["Container"] = field(default_factory=list)
    crashes: int = 0
    not_before_s: float = 0.0
    changed: Signal = field(default_factory=Signal)

    @property
    def name(self) -> str:
        return self.definition.function_name.removesuffix(".*")

    @property
    def timeout_s(self) -> int:
        return self.definition.timeout_secs or 300

    @property
    def running(self) -> int:
        return sum(len(container.running) for container in self.containers)

    def wanted(self, now_s: float) -> int:
        """Return how many containers to start now."""
        if now_s < self.not_before_s or self.app.life.stopped_at or not self.app.life.version:
            return 0
        slots = self.definition.target_concurrent_inputs or self.definition.max_concurrent_inputs or 1
        staying = [container for container in self.containers if not container.leaving]
        demand = math.ceil((len(self.queue) + sum(len(container.running) for container in staying)) / slots)
        room = self.autoscaler.max_containers - sum(not container.replaced for container in self.containers)
        return max(0, min(max(demand, self.autoscaler.min_containers) - len(staying), room))

    @property
    def snapshots(self) -> bool:
        return self.app.deployed and self.definition.checkpointing_enabled

    def arguments(self, task_id: str, volumes: Mapping[str, Volume]) -> api.ContainerArguments:
        """Return what a container of this function has to know when it starts."""
        arguments = api.ContainerArguments(
            task_id=task_id,
            function_id=self.id,
            app_id=self.app.id,
            function_def=self.definition,
            serialized_params=self.params,
            environment_name="main",
            app_layout=self.app.layout(volumes),
        )
        if self.snapshots:
            arguments.function_def.is_checkpointing_function = True
            arguments.checkpoint_id = new_id("ch")
        return arguments

    def next_input(self) -> Input | None:
        """Take the oldest waiting input off the queue, if there is one."""
        while self.queue:
            work = self.queue.popleft()
            if not work.done:
                return work
        return None

    def fail_queued(self, result: api.GenericResult) -> None:
        while self.queue:
            self.queue.popleft().settle(api.FunctionPutOutputsItem(result=result))

    def handle(self) -> api.FunctionHandleMetadata:
        """Return what the client keeps of a function that it may call."""
        common: dict[str, Any] = {"definition_id": self.definition_id, "app_id": self.app.id}
        methods = {
            name: view(method, api.FunctionHandleMetadata, is_method=True, use_method_name=name, **common)
            for name, method in self.definition.method_definitions.items()
        }
        return view(self.definition, api.FunctionHandleMetadata, method_handle_metadata=methods, **common)

    def description(self) -> api.FunctionData:
        """Return the definition in the shape that lookups answer with."""
        ranked = [api.FunctionData.RankedFunction(rank=0, function=self.definition)]
        return view(self.definition, api.FunctionData, ranked_functions=ranked)


def with_options(base: api.Function, options: api.FunctionOptions) -> api.Function:
    """Return a definition changed as `with_options`, `with_concurrency` and their like ask for."""
    changed = api.Function()
    changed.CopyFrom(base)
    for name in ("volume_mounts", "secret_ids"):
        if getattr(options, f"replace_{name}"):
            changed.ClearField(name)
    if options.HasField("retry_policy"):
        changed.ClearField("retry_policy")
    changed.MergeFrom(view(options, api.Function))
    if options.HasField("concurrency_limit"):
        changed.autoscaler_settings.max_containers = options.concurrency_limit
    if options.HasField("task_idle_timeout_secs"):
        changed.autoscaler_settings.scaledown_window = options.task_idle_timeout_secs
    changed.autoscaler_settings.min_containers = 0  # variants are never kept warm
    return changed
