"""RPCs of containers: what they ask for and what they report, and the faults that strike on the way."""

import time
from functools import partial

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2 as api

from .faults import DropResult, KillAtInput, PreemptAtInput
from .rpc import Service, found
from .scheduler import STATUS
from .state import Input

POLL_S = 14.0  # long polls end a little before the client's heartbeat interval of 15 s


class ContainerRpcs(Service):
    async def ContainerHello(self, _: Empty) -> Empty:
        return Empty()

    async def ContainerHeartbeat(self, _: api.ContainerHeartbeatRequest) -> api.ContainerHeartbeatResponse:
        worker = self.inside.worker
        if not worker.cancelled:
            await worker.changed.wait(POLL_S)
        if not worker.cancelled:
            return api.ContainerHeartbeatResponse()
        cancelled, worker.cancelled = worker.cancelled, []
        return api.ContainerHeartbeatResponse(cancel_input_event=api.CancelInputEvent(input_ids=cancelled))

    async def ContainerCheckpoint(self, _: api.ContainerCheckpointRequest) -> Empty:
        self.inside.restore()
        return Empty()

    async def ContainerStop(self, request: api.ContainerStopRequest) -> Empty:
        self.plane.leave(found(self.plane.containers, request.task_id, "Container"), "stopped")
        return Empty()

    async def FunctionGetDynamicConcurrency(
        self, request: api.FunctionGetDynamicConcurrencyRequest
    ) -> api.FunctionGetDynamicConcurrencyResponse:
        busy = bool(self.inside.worker.pool.queue)
        slots = request.max_concurrency if busy else request.target_concurrency
        return api.FunctionGetDynamicConcurrencyResponse(concurrency=slots)

    async def FunctionGetInputs(self, _: api.FunctionGetInputsRequest) -> api.FunctionGetInputsResponse:
        container, deadline = self.inside, time.monotonic() + POLL_S
        worker = container.worker
        container.became_ready()
        while not worker.leaving:
            work = self.plane.scheduler.take(worker)
            if work is not None:
                self._started(work)
                item = api.FunctionGetInputsItem(
                    input_id=work.id,
                    input=work.payload,
                    function_call_id=work.call.id,
                    function_call_invocation_type=(
                        api.FUNCTION_CALL_INVOCATION_TYPE_ASYNC
                        if work.call.spawned
                        else api.FUNCTION_CALL_INVOCATION_TYPE_SYNC
                    ),
                    retry_count=work.retry_count,
                    function_map_idx=work.idx,
                )
                return api.FunctionGetInputsResponse(inputs=[item])
            if time.monotonic() >= deadline:
                return api.FunctionGetInputsResponse()
            await worker.pool.changed.wait(deadline - time.monotonic())
        return api.FunctionGetInputsResponse(inputs=[api.FunctionGetInputsItem(kill_switch=True)])

    def _started(self, work: Input) -> None:
        container, plane = self.inside, self.plane
        container.last_call_id = work.call.id
        container.seen.inputs += 1
        plane.seen.inputs_started[work.name] += 1
        plane.seen.max_inputs[work.name] = max(plane.seen.max_inputs[work.name], work.call.pool.running)
        names = {work.name, work.call.pool.name}
        for kill in plane.faults.due(KillAtInput, *names):
            plane.later(kill.after_s, lambda: container.kill("fault", unless_done=work))
        for rule in plane.faults.due(PreemptAtInput, *names):
            plane.later(rule.after_s, partial(container.preempt, rule, unless_done=work))

    async def FunctionPutOutputs(self, request: api.FunctionPutOutputsRequest) -> Empty:
        container, plane = self.inside, self.plane
        for item in request.outputs:
            work = container.worker.running.get(item.input_id)
            if work is None or work.done:
                plane.scheduler.finish(container.worker, item)
                continue
            dropped = plane.faults.due(DropResult, work.name, work.call.pool.name)
            if any(rule.kill for rule in dropped):
                container.kill("fault")
            elif dropped:
                plane.scheduler.give_back(container.worker, work)
            else:
                plane.seen.inputs_finished[work.name] += 1
                plane.saw_payload(work, "output", item.result.data, item.result.data_blob_id)
                plane.scheduler.finish(container.worker, item)
        plane.wake()
        return Empty()

    async def TaskResult(self, request: api.TaskResultRequest) -> Empty:
        """Fail what waits for a container that cannot start: its import or an enter hook raised."""
        worker = self.inside.worker
        if not worker.ready and request.result.status != STATUS.GENERIC_STATUS_SUCCESS:
            self.plane.scheduler.fail_queued(worker.pool, request.result)
        return Empty()
