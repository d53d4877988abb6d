"""RPCs of callers: open a call, send its inputs, wait for its outputs."""

import base64
import json
import time

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2 as api

from .rpc import Service, found
from .state import Call, Input

MAX_OUTSTANDING = 1000  # inputs in flight per .map(), as documented
PAGE_BYTES = 8 << 20


def _jwt(**fields: object) -> str:
    """Return an unsigned token; the client reads only its payload."""
    parts = ({"alg": "none"}, fields)
    return (
        ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts) + "."
    )


def _input_id(jwt: str) -> str:
    payload = jwt.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(payload + "=="))["input_id"])


def _token(work: Input) -> str:
    return _jwt(input_id=work.id, idx=work.idx, retry_count=work.retry_count)


class CallRpcs(Service):
    def _call(self, call_id: str) -> Call:
        return found(self.plane.scheduler.calls, call_id, "FunctionCall")

    def _put(self, call: Call, item: api.FunctionPutInputsItem) -> api.FunctionPutInputsResponseItem:
        work = call.inputs.get(item.idx)
        if work is None:
            work = self.plane.scheduler.put(call, item.idx, item.input)
            self.plane.saw_payload(work, "input", item.input.args, item.input.args_blob_id)
        return api.FunctionPutInputsResponseItem(idx=work.idx, input_id=work.id, input_jwt=_token(work))

    async def FunctionMap(self, request: api.FunctionMapRequest) -> api.FunctionMapResponse:
        pool = found(self.plane.pools, request.function_id, "Function")
        call = self.plane.scheduler.open_call(
            pool,
            mapped=request.function_call_type == api.FUNCTION_CALL_TYPE_MAP,
            spawned=request.function_call_invocation_type == api.FUNCTION_CALL_INVOCATION_TYPE_ASYNC,
        )
        items = [self._put(call, item) for item in request.pipelined_inputs]
        self.plane.wake()
        return api.FunctionMapResponse(
            function_call_id=call.id,
            function_call_jwt=_jwt(function_call_id=call.id),
            pipelined_inputs=items,
            retry_policy=pool.limits.retry,
            sync_client_retries_enabled=True,
            max_inputs_outstanding=MAX_OUTSTANDING,
        )

    async def FunctionPutInputs(self, request: api.FunctionPutInputsRequest) -> api.FunctionPutInputsResponse:
        call = self._call(request.function_call_id)
        items = [self._put(call, item) for item in request.inputs]
        self.plane.wake()
        return api.FunctionPutInputsResponse(inputs=items)

    async def FunctionRetryInputs(
        self, request: api.FunctionRetryInputsRequest
    ) -> api.FunctionRetryInputsResponse:
        tokens = []
        for item in request.inputs:
            work = found(self.plane.scheduler.inputs, _input_id(item.input_jwt), "Input")
            self.plane.scheduler.retry(work, item.input, item.retry_count)
            tokens.append(_token(work))
        self.plane.wake()
        return api.FunctionRetryInputsResponse(input_jwts=tokens)

    async def FunctionGetOutputs(
        self, request: api.FunctionGetOutputsRequest
    ) -> api.FunctionGetOutputsResponse:
        call = self._call(request.function_call_id)
        after = int(request.last_entry_id.partition("-")[0] or 0)
        first = request.start_idx if request.HasField("start_idx") else 0
        last = request.end_idx if request.HasField("end_idx") else float("inf")
        deadline = time.monotonic() + request.timeout
        call.polls += 1
        try:
            while True:
                page, size = [], 0
                for sequence, output in call.outputs:
                    if sequence > after and first <= output.idx <= last and size < PAGE_BYTES:
                        page.append((sequence, output))
                        size += len(output.result.data)
                if page or time.monotonic() >= deadline:
                    break
                await call.changed.wait(deadline - time.monotonic())
        finally:
            call.polls -= 1
            call.last_poll_s = time.time()
        if request.clear_on_success:
            sent = {sequence for sequence, _ in page}
            call.outputs = [entry for entry in call.outputs if entry[0] not in sent]
        return api.FunctionGetOutputsResponse(
            idxs=[output.idx for _, output in page],
            outputs=[output for _, output in page],
            last_entry_id=f"{page[-1][0]}-0" if page else request.last_entry_id,
            num_unfinished_inputs=call.unfinished,
        )

    async def FunctionCallFromId(
        self, request: api.FunctionCallFromIdRequest
    ) -> api.FunctionCallFromIdResponse:
        call = self._call(request.function_call_id)
        function = self.plane.objects.functions[call.pool.id]
        return api.FunctionCallFromIdResponse(
            function_call_id=call.id,
            num_inputs=len(call.inputs),
            metadata=api.FunctionCallHandleMetadata(app_id=function.app.id, function_id=function.id),
        )

    async def FunctionCallCancel(self, request: api.FunctionCallCancelRequest) -> Empty:
        held = self.plane.scheduler.cancel(self._call(request.function_call_id), "cancelled by the user")
        if request.terminate_containers:
            for worker, _ in held:
                self.plane.containers[worker.task_id].kill("cancelled")
        return Empty()
