"""Apps, functions and the objects they refer to, with the protobuf views the client wants of them."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from modal_proto import api_pb2 as api

from .state import Signal, new_id
from .volumes import Volume

LIVE_STATES = (
    api.APP_STATE_INITIALIZING,
    api.APP_STATE_EPHEMERAL,
    api.APP_STATE_DETACHED,
    api.APP_STATE_DETACHED_DISCONNECTED,
    api.APP_STATE_DEPLOYED,
)


@dataclass(slots=True, kw_only=True, eq=False)
class App:
    id: str
    name: str
    state: "api.AppState.ValueType"
    created_s: float
    heartbeat_s: float
    deployed_s: float = 0.0
    stopped_s: float = 0.0
    version: int = 0
    function_ids: dict[str, str] = field(default_factory=dict)
    class_ids: dict[str, str] = field(default_factory=dict)
    logs: list[api.TaskLogsBatch] = field(default_factory=list)
    logged: Signal = field(default_factory=Signal)

    @property
    def live(self) -> bool:
        return self.state in LIVE_STATES

    @property
    def deployed(self) -> bool:
        return self.state == api.APP_STATE_DEPLOYED

    def lifecycle(self) -> api.AppLifecycle:
        return api.AppLifecycle(
            app_state=self.state,
            created_at=self.created_s,
            deployed_at=self.deployed_s,
            stopped_at=self.stopped_s,
            version=self.version,
        )


# Fields that a definition, a method definition and the client's handles of them have in common.
SIGNATURE = (
    "function_name",
    "function_type",
    "function_schema",
    "supported_input_formats",
    "supported_output_formats",
)
DESCRIBED = (
    *SIGNATURE,
    "module_name",
    "timeout_secs",
    "method_definitions",
    "is_class",
    "class_parameter_info",
    "schedule",
    "autoscaler_settings",
)


def fields(message: Message, names: Iterable[str]) -> dict[str, Any]:
    """Return those of the named fields that a protobuf message has set."""
    return {d.name: value for d, value in message.ListFields() if d.name in names}


@dataclass(slots=True, kw_only=True, eq=False)
class Function:
    """A function or a class's service function; a variant (options, parameters) is a function of its own."""

    id: str
    app: App
    definition: api.Function
    definition_id: str = ""
    params: bytes = b""
    variants: dict[bytes, "Function"] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.definition.function_name.removesuffix(".*")

    def handle(self) -> api.FunctionHandleMetadata:
        """Return what the client keeps of a function that it may call."""
        common: dict[str, Any] = {"definition_id": self.definition_id, "app_id": self.app.id}
        methods = {
            name: api.FunctionHandleMetadata(
                is_method=True, use_method_name=name, **fields(method, SIGNATURE), **common
            )
            for name, method in self.definition.method_definitions.items()
        }
        own = fields(self.definition, (*SIGNATURE, "is_method", "class_parameter_info"))
        return api.FunctionHandleMetadata(method_handle_metadata=methods, **own, **common)

    def description(self) -> api.FunctionData:
        """Return the definition in the shape that lookups answer with."""
        ranked = [api.FunctionData.RankedFunction(rank=0, function=self.definition)]
        return api.FunctionData(ranked_functions=ranked, **fields(self.definition, DESCRIBED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What of an image matters to a container made of host folders."""

    env: dict[str, str]
    files: dict[str, Path]


class Registry:
    """Everything with an id, by id; `named` leads from the kind and name of a secret or dict to its id."""

    def __init__(self, root: Path, secrets: Mapping[str, Mapping[str, str]]) -> None:
        self.root = root
        self.apps: dict[str, App] = {}
        self.functions: dict[str, Function] = {}
        self.images: dict[str, Image] = {}
        self.mounts: dict[str, dict[str, Path]] = {}
        self.volumes: dict[str, Volume] = {}
        self.secrets = {new_id("st"): dict(env) for env in secrets.values()}
        self.dicts: dict[str, dict[bytes, bytes]] = {}
        self.named = {("secret", name): key for name, key in zip(secrets, self.secrets, strict=True)}

    def new_app(self, name: str, state: "api.AppState.ValueType") -> App:
        now = time.time()
        app = App(id=new_id("ap"), name=name, state=state, created_s=now, heartbeat_s=now)
        self.apps[app.id] = app
        return app

    def deployed(self, name: str) -> App | None:
        return next((app for app in self.apps.values() if app.deployed and app.name == name), None)

    def new_function(self, app: App, definition: api.Function) -> Function:
        function = Function(id=new_id("fu"), app=app, definition=definition)
        self.functions[function.id] = function
        return function

    def new_volume(self, name: str, version: int) -> Volume:
        volume_id = new_id("vo")
        store = self.root / "volumes" / volume_id
        store.mkdir(parents=True)
        volume = Volume(id=volume_id, name=name, version=version, created_s=time.time(), store=store)
        self.volumes[volume_id] = volume
        return volume

    def volume_named(self, name: str) -> Volume | None:
        return next((volume for volume in self.volumes.values() if name and volume.name == name), None)

    def layout(self, app: App) -> api.AppLayout:
        """Describe an app's functions and classes, and every object that they depend on."""
        functions = [self.functions[function_id] for function_id in app.function_ids.values()]
        objects = {f.id: api.Object(object_id=f.id, function_handle_metadata=f.handle()) for f in functions}
        for class_id in app.class_ids.values():
            metadata = api.ClassHandleMetadata()
            objects[class_id] = api.Object(object_id=class_id, class_handle_metadata=metadata)
        for dependency in (d.object_id for f in functions for d in f.definition.object_dependencies):
            volume = self.volumes.get(dependency)
            described = volume_metadata(volume) if volume else None
            objects.setdefault(dependency, api.Object(object_id=dependency, volume_metadata=described))
        return api.AppLayout(objects=objects.values(), function_ids=app.function_ids, class_ids=app.class_ids)


def volume_metadata(volume: Volume) -> api.VolumeMetadata:
    creation = api.CreationInfo(created_at=volume.created_s)
    version = api.VOLUME_FS_VERSION_V2 if volume.version == 2 else api.VOLUME_FS_VERSION_V1
    return api.VolumeMetadata(version=version, name=volume.name, creation_info=creation)


def with_options(base: api.Function, options: api.FunctionOptions) -> api.Function:
    """Return a definition changed as `with_options`, `with_concurrency` and their like ask for."""
    d = api.Function()
    d.CopyFrom(base)
    if options.replace_volume_mounts:
        del d.volume_mounts[:]
        d.volume_mounts.extend(options.volume_mounts)
    if options.replace_secret_ids:
        del d.secret_ids[:]
        d.secret_ids.extend(options.secret_ids)
    if options.HasField("resources"):
        d.resources.MergeFrom(options.resources)
    if options.HasField("retry_policy"):
        d.retry_policy.CopyFrom(options.retry_policy)
    if options.HasField("concurrency_limit"):
        d.autoscaler_settings.max_containers = options.concurrency_limit
    if options.HasField("task_idle_timeout_secs"):
        d.autoscaler_settings.scaledown_window = options.task_idle_timeout_secs
    d.autoscaler_settings.min_containers = 0  # variants are never kept warm
    for name in ("timeout_secs", "max_concurrent_inputs", "target_concurrent_inputs"):
        if options.HasField(name):
            setattr(d, name, getattr(options, name))
    return d
