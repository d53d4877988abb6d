"""RPCs that define, vary and look up functions and classes."""

from grpclib import GRPCError, Status
from modal_proto import api_pb2 as api

from .objects import SIGNATURE, App, fields, with_options
from .rpc import Service, found
from .state import new_id


class FunctionRpcs(Service):
    async def FunctionPrecreate(self, request: api.FunctionPrecreateRequest) -> api.FunctionPrecreateResponse:
        objects = self.plane.objects
        function = objects.functions.get(request.existing_function_id)
        if function is None:
            definition = api.Function(**fields(request, (*SIGNATURE, "method_definitions")))
            function = objects.new_function(found(objects.apps, request.app_id, "App"), definition)
        return api.FunctionPrecreateResponse(function_id=function.id, handle_metadata=function.handle())

    async def FunctionCreate(self, request: api.FunctionCreateRequest) -> api.FunctionCreateResponse:
        objects, definition = self.plane.objects, request.function
        if request.HasField("function_data"):  # a list of GPUs to choose from: take the first
            definition = request.function_data.ranked_functions[0].function
        function = objects.functions.get(request.existing_function_id)
        if function is None:
            function = objects.new_function(found(objects.apps, request.app_id, "App"), definition)
        self.plane.define(function, definition)
        return api.FunctionCreateResponse(
            function_id=function.id,
            function=definition,
            function_data=function.description(),
            handle_metadata=function.handle(),
        )

    async def ClassCreate(self, request: api.ClassCreateRequest) -> api.ClassCreateResponse:
        class_id = request.existing_class_id or new_id("cs")
        return api.ClassCreateResponse(class_id=class_id, handle_metadata=api.ClassHandleMetadata())

    async def FunctionBindParams(
        self, request: api.FunctionBindParamsRequest
    ) -> api.FunctionBindParamsResponse:
        base = found(self.plane.objects.functions, request.function_id, "Function")
        options = request.function_options
        key = request.serialized_params + b"|" + options.SerializeToString(deterministic=True)
        variant = base.variants.get(key)
        if variant is None:
            definition = with_options(base.definition, options)
            variant = self.plane.objects.new_function(base.app, definition)
            variant.params = request.serialized_params
            self.plane.define(variant, definition)
            base.variants[key] = variant
        handle = variant.handle()
        return api.FunctionBindParamsResponse(bound_function_id=variant.id, handle_metadata=handle)

    async def FunctionGet(self, request: api.FunctionGetRequest) -> api.FunctionGetResponse:
        app = self._deployed(request.app_name)
        function_id = found(app.function_ids, request.object_tag, f"App '{app.name}' has no function")
        function = self.plane.objects.functions[function_id]
        return api.FunctionGetResponse(
            function_id=function_id, handle_metadata=function.handle(), function=function.description()
        )

    async def FunctionGetById(self, request: api.FunctionGetByIdRequest) -> api.FunctionGetByIdResponse:
        function = found(self.plane.objects.functions, request.function_id, "Function")
        return api.FunctionGetByIdResponse(function=function.description(), handle_metadata=function.handle())

    async def ClassGet(self, request: api.ClassGetRequest) -> api.ClassGetResponse:
        app = self._deployed(request.app_name)
        class_id = found(app.class_ids, request.object_tag, f"App '{app.name}' has no class")
        return api.ClassGetResponse(class_id=class_id, handle_metadata=api.ClassHandleMetadata())

    async def FunctionGetCurrentStats(self, request: api.FunctionGetCurrentStatsRequest) -> api.FunctionStats:
        pool = found(self.plane.pools, request.function_id, "Function")
        return api.FunctionStats(
            backlog=len(pool.queue), num_total_tasks=len(pool.workers), num_running_inputs=pool.running
        )

    async def FunctionUpdateSchedulingParams(
        self, request: api.FunctionUpdateSchedulingParamsRequest
    ) -> api.FunctionUpdateSchedulingParamsResponse:
        settings = self.plane.rescale(request.function_id, request.settings)
        return api.FunctionUpdateSchedulingParamsResponse(current_settings=settings)

    async def FunctionGetSchedulingParams(
        self, request: api.FunctionGetSchedulingParamsRequest
    ) -> api.FunctionGetSchedulingParamsResponse:
        settings = self.plane.rescale(request.function_id, api.AutoscalerSettings())
        configuration = api.AutoscalerConfiguration(settings=settings)
        return api.FunctionGetSchedulingParamsResponse(autoscaler_configuration=configuration)

    def _deployed(self, name: str) -> App:
        app = self.plane.objects.deployed(name)
        if app is None:
            raise GRPCError(Status.NOT_FOUND, f"App '{name}' is not deployed")
        return app
