"""Who runs what next, and what becomes of it: the verbs on the records of state.py, without any I/O."""

from collections.abc import Callable

from modal_proto import api_pb2 as api

from .state import Call, Input, Pool, Worker, new_id

STATUS = api.GenericResult


def failure(status: "api.GenericResult.GenericStatus.ValueType", message: str) -> api.GenericResult:
    return api.GenericResult(status=status, exception=message)


class Scheduler:
    """`later` runs a callback after a delay."""

    def __init__(
        self, clock: Callable[[], float], later: Callable[[float, Callable[[], None]], None]
    ) -> None:
        self.clock = clock
        self.later = later
        self.calls: dict[str, Call] = {}
        self.inputs: dict[str, Input] = {}

    def open_call(self, pool: Pool, *, mapped: bool, spawned: bool) -> Call:
        call = Call(id=new_id("fc"), pool=pool, mapped=mapped, spawned=spawned, last_poll_s=self.clock())
        self.calls[call.id] = call
        return call

    def put(self, call: Call, idx: int, payload: api.FunctionInput) -> Input:
        work = Input(id=new_id("in"), call=call, idx=idx, payload=payload)
        call.inputs[idx] = self.inputs[work.id] = work
        call.unfinished += 1
        self._enqueue(work)
        return work

    def retry(self, work: Input, payload: api.FunctionInput, retry_count: int) -> None:
        """Run a failed input again at its caller's request."""
        work.payload, work.retry_count = payload, retry_count or work.retry_count + 1
        work.done, work.deaths = False, 0
        work.call.unfinished += 1
        self._enqueue(work)

    def take(self, worker: Worker) -> Input | None:
        """Give the worker the oldest waiting input, if it may have one."""
        pool = worker.pool
        while pool.queue and not worker.leaving:
            work = pool.queue.popleft()
            if not work.done:
                work.started_s = self.clock()
                worker.running[work.id] = work
                return work
        return None

    def finish(self, worker: Worker, item: api.FunctionPutOutputsItem) -> Input | None:
        """Accept a worker's output and return its input; None when that was settled or moved meanwhile."""
        work = worker.running.pop(item.input_id, None)
        worker.idle_since_s = self.clock()
        if work is None or work.done:
            return None
        worker.pool.crashes = 0
        retry = worker.pool.limits.retry
        retries_left = retry.retries - work.retry_count
        failed = item.result.status not in (STATUS.GENERIC_STATUS_SUCCESS, STATUS.GENERIC_STATUS_TERMINATED)
        if failed and work.call.spawned and retries_left > 0:
            delay_ms = retry.initial_delay_ms * retry.backoff_coefficient**work.retry_count
            work.retry_count += 1
            self.later(min(delay_ms, retry.max_delay_ms) / 1000, lambda: self._enqueue(work))
        else:
            self.settle(work, item.result, item.data_format, worker.task_id, item)
        return work

    def settle(
        self,
        work: Input,
        result: api.GenericResult,
        data_format: "api.DataFormat.ValueType" = api.DATA_FORMAT_UNSPECIFIED,
        task_id: str = "",
        item: api.FunctionPutOutputsItem | None = None,
    ) -> None:
        """Give the input its result for good."""
        if work.done:
            return
        call = work.call
        work.done = True
        call.unfinished -= 1
        call.sequence += 1
        output = api.FunctionGetOutputsItem(
            result=result,
            idx=work.idx,
            input_id=work.id,
            data_format=data_format,
            task_id=task_id,
            input_started_at=item.input_started_at if item else work.started_s,
            output_created_at=item.output_created_at if item else self.clock(),
            retry_count=work.retry_count,
        )
        call.outputs.append((call.sequence, output))
        call.changed.notify()

    def give_back(self, worker: Worker, work: Input) -> None:
        """Put an input whose result was lost back at the head of the queue."""
        del worker.running[work.id]
        worker.pool.queue.appendleft(work)
        worker.pool.changed.notify()

    def release(self, worker: Worker, max_deaths: int | None) -> None:
        """Requeue what a dead worker was running; an input that keeps killing its worker fails at last."""
        pool = worker.pool
        pool.workers.pop(worker.task_id, None)
        for work in reversed(worker.running.values()):
            work.deaths += not worker.blameless
            if max_deaths is not None and work.deaths >= max_deaths:
                message = f"{work.name} lost {work.deaths} containers on this input"
                self.settle(work, failure(STATUS.GENERIC_STATUS_TERMINATED, message))
            elif not work.done:
                pool.queue.appendleft(work)
        worker.running.clear()
        pool.changed.notify()

    def fail_queued(self, pool: Pool, result: api.GenericResult) -> None:
        for work in list(pool.queue):
            self.settle(work, result)
        pool.queue.clear()

    def cancel(self, call: Call, why: str) -> list[tuple[Worker, Input]]:
        """Terminate a call's inputs and return those still running, for their containers to interrupt."""
        held = [
            (worker, work)
            for worker in call.pool.workers.values()
            for work in worker.running.values()
            if work.call is call and not work.done
        ]
        for work in call.inputs.values():
            self.settle(work, failure(STATUS.GENERIC_STATUS_TERMINATED, why))
        for worker, work in held:
            worker.cancelled.append(work.id)
            worker.changed.notify()
        return held

    def _enqueue(self, work: Input) -> None:
        if not work.done:
            work.call.pool.queue.append(work)
            work.call.pool.changed.notify()
