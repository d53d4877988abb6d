"""RPCs on both sides of a call: callers send inputs and wait for outputs, containers take inputs and send outputs."""

import base64
import json
import time

from modal_proto import api_pb2 as api

from .calls import STATUS, Call, Input
from .container import Container
from .knobs import DropResult, KillAtInput, PreemptAtInput, StrikeAtInput
from .rpc import Reply, Service, found

MAX_OUTSTANDING = 1000  # inputs in flight per .map(), as documented
PAGE_BYTES = 8 << 20
POLL_S = 14.0  # long polls of containers end a little before their heartbeat interval of 15 s


def _jwt(**fields: object) -> str:
    """Return an unsigned token; the client reads only its payload."""
    parts = ({"alg": "none"}, fields)
    return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts) + "."


def _token(work: Input) -> str:
    return _jwt(function_call_id=work.call.id, idx=work.idx)


class CallRpcs(Service):
    def _call(self, call_id: str) -> Call:
        return found(self.plane.calls, call_id, "FunctionCall")

    def _put(self, call: Call, item: api.FunctionPutInputsItem) -> api.FunctionPutInputsResponseItem:
        work = call.inputs.get(item.idx)
        if work is None:
            work = call.put(item.idx, item.input)
            self.plane.inputs[_token(work)] = work
            self.plane.saw_payload(work, "input", item.input.args, item.input.args_blob_id)
        return api.FunctionPutInputsResponseItem(idx=work.idx, input_id=work.id, input_jwt=_token(work))

    async def FunctionMap(self, request: api.FunctionMapRequest) -> Reply:
        function = found(self.plane.functions, request.function_id, "Function")
        spawned = request.function_call_invocation_type == api.FUNCTION_CALL_INVOCATION_TYPE_ASYNC
        call = self.plane.open_call(function, spawned=spawned)
        call.caller, call.parent_input_id = self._container, request.parent_input_id
        return {
            "function_call_id": call.id,
            "function_call_jwt": _jwt(function_call_id=call.id),
            "pipelined_inputs": [self._put(call, item) for item in request.pipelined_inputs],
            "retry_policy": function.definition.retry_policy,
            "sync_client_retries_enabled": True,
            "max_inputs_outstanding": MAX_OUTSTANDING,
        }

    async def FunctionPutInputs(self, request: api.FunctionPutInputsRequest) -> Reply:
        call = self._call(request.function_call_id)
        return {"inputs": [self._put(call, item) for item in request.inputs]}

    async def FunctionRetryInputs(self, request: api.FunctionRetryInputsRequest) -> Reply:
        for item in request.inputs:
            found(self.plane.inputs, item.input_jwt, "Input").retry(item.input, item.retry_count)
        return {"input_jwts": [item.input_jwt for item in request.inputs]}

    async def FunctionGetOutputs(self, request: api.FunctionGetOutputsRequest) -> Reply:
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
        return {
            "idxs": [output.idx for _, output in page],
            "outputs": [output for _, output in page],
            "last_entry_id": f"{page[-1][0]}-0" if page else request.last_entry_id,
            "num_unfinished_inputs": call.unfinished,
        }

    async def FunctionCallFromId(self, request: api.FunctionCallFromIdRequest) -> Reply:
        call = self._call(request.function_call_id)
        metadata = api.FunctionCallHandleMetadata(app_id=call.function.app.id, function_id=call.function.id)
        return {"function_call_id": call.id, "num_inputs": len(call.inputs), "metadata": metadata}

    async def FunctionGetCallGraph(self, request: api.FunctionGetCallGraphRequest) -> Reply:
        """Show a call with its inputs, and all calls that were made by them."""
        calls = [self._call(request.function_call_id)]
        for call in calls:
            ids = {work.id for work in call.inputs.values()}
            calls += [child for child in self.plane.calls.values() if child.parent_input_id in ids]
        return {
            "inputs": [
                api.InputCallGraphInfo(input_id=work.id, status=work.status, function_call_id=call.id)
                for call in calls
                for work in call.inputs.values()
            ],
            "function_calls": [
                api.FunctionCallCallGraphInfo(
                    function_call_id=call.id,
                    parent_input_id=call.parent_input_id if call is not calls[0] else "",
                    function_name=call.function.name,
                )
                for call in calls
            ],
        }

    async def FunctionCallCancel(self, request: api.FunctionCallCancelRequest) -> None:
        held = self._call(request.function_call_id).cancel("cancelled by the user")
        if request.terminate_containers:
            for container in held:
                container.kill("cancelled")


class ContainerRpcs(Service):
    async def ContainerHeartbeat(self, _: api.ContainerHeartbeatRequest) -> Reply:
        container = self.inside
        if not container.cancelled:
            await container.changed.wait(POLL_S)
        cancelled, container.cancelled = container.cancelled, []
        return {"cancel_input_event": api.CancelInputEvent(input_ids=cancelled)} if cancelled else {}

    async def ContainerCheckpoint(self, _: api.ContainerCheckpointRequest) -> None:
        self.inside.restore()

    async def ContainerStop(self, _: api.ContainerStopRequest) -> None:
        self.inside.leave("stopped itself")

    async def FunctionGetDynamicConcurrency(self, request: api.FunctionGetDynamicConcurrencyRequest) -> Reply:
        busy = bool(self.inside.function.queue)
        return {"concurrency": request.max_concurrency if busy else request.target_concurrency}

    async def FunctionGetInputs(self, _: api.FunctionGetInputsRequest) -> Reply:
        container, deadline = self.inside, time.monotonic() + POLL_S
        if not container.ready:
            container.idle_since_s = container.seen.ready_s = time.time()
        while not container.leaving:
            if work := container.function.next_input():
                self._started(work)
                kinds = (api.FUNCTION_CALL_INVOCATION_TYPE_SYNC, api.FUNCTION_CALL_INVOCATION_TYPE_ASYNC)
                item = api.FunctionGetInputsItem(
                    input_id=work.id,
                    input=work.payload,
                    function_call_id=work.call.id,
                    function_call_invocation_type=kinds[work.call.spawned],
                    retry_count=work.retry_count,
                    function_map_idx=work.idx,
                )
                return {"inputs": [item]}
            if time.monotonic() >= deadline:
                return {}
            await container.function.changed.wait(deadline - time.monotonic())
        return {"inputs": [api.FunctionGetInputsItem(kill_switch=True)]}

    def _started(self, work: Input) -> None:
        container, seen, faults, later = self.inside, self.plane.seen, self.plane.faults, self.plane.loop.call_later
        work.started_s = time.time()
        container.running[work.id] = work
        container.last_call_id = work.call.id
        container.seen.inputs += 1
        seen.inputs_started[work.name] += 1
        seen.max_inputs[work.name] = max(seen.max_inputs[work.name], container.function.running)
        n_busy = sum(bool(each.running) for each in container.function.containers)
        seen.max_busy[container.function.name] = max(seen.max_busy[container.function.name], n_busy)
        for kill in faults.due(KillAtInput, work.name, container.function.name):
            for struck, its_work in self._struck(kill, work):
                later(kill.after_s, struck.strike, its_work, struck.kill, "fault")
        for preempt in faults.due(PreemptAtInput, work.name, container.function.name):
            for struck, its_work in self._struck(preempt, work):
                if struck.seen.nonpreemptible:
                    seen.errors.append(f"{struck.function.name} is nonpreemptible, it is spared from {preempt}")
                else:
                    later(preempt.after_s, struck.strike, its_work, struck.preempt, preempt.grace_s, preempt.overlap)

    def _struck(self, rule: StrikeAtInput, work: Input) -> list[tuple[Container, Input]]:
        """Return the containers that a rule strikes, each with an input that it runs."""
        if not rule.strikes:
            return [(self.inside, work)]
        functions = [function for function in self.plane.functions.values() if function.name == rule.strikes]
        at_work = [each for function in functions for each in function.containers if each.running]
        return [(each, next(iter(each.running.values()))) for each in at_work]

    async def FunctionPutOutputs(self, request: api.FunctionPutOutputsRequest) -> None:
        container, plane = self.inside, self.plane
        for item in request.outputs:
            work = container.running.get(item.input_id)
            if work is None or work.done:
                container.finish(item)
                continue
            dropped = plane.faults.due(DropResult, work.name, container.function.name)
            if any(rule.kill for rule in dropped):
                container.kill("fault")
            elif dropped:
                del container.running[work.id]
                work.enqueue(first=True)
            else:
                plane.seen.inputs_finished[work.name] += 1
                plane.saw_payload(work, "output", item.result.data, item.result.data_blob_id)
                container.finish(item)

    async def TaskResult(self, request: api.TaskResultRequest) -> None:
        """Fail what waits for a container that cannot start, as its import or an enter hook raised.

        Of a deployed app the next one tries, and so for ever.
        """
        function = self.inside.function
        if (
            not function.app.deployed
            and not self.inside.ready
            and request.result.status != STATUS.GENERIC_STATUS_SUCCESS
        ):
            function.fail_queued(request.result)
