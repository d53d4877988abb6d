"""RPCs about the account: its name, and what it is billed."""

import time
from collections import defaultdict
from collections.abc import AsyncIterator

from google.protobuf.timestamp_pb2 import Timestamp
from modal_proto import api_pb2 as api

from .rpc import Reply, Service

HOUR_S = 3600


class WorkspaceRpcs(Service):
    async def WorkspaceNameLookup(self, _: object) -> Reply:
        return {"username": "loopback"}

    async def WorkspaceBillingReport(self, request: api.WorkspaceBillingReportRequest) -> AsyncIterator[Reply]:
        """Give what the containers of each app cost in each full hour that is over; a day is never asked for."""
        plane = self.plane
        through_s = (time.time() + plane.bill_ahead_s) // HOUR_S * HOUR_S
        cost: dict[tuple[str, float], float] = defaultdict(float)
        for seen in plane.seen.containers:
            function = plane.functions[seen.function_id]
            price, ended_s = plane.settings.usd_per_s(function.definition.resources), seen.ended_s or time.time()
            hour = max(seen.started_s, request.start_timestamp.seconds) // HOUR_S * HOUR_S
            while hour < min(ended_s, through_s):
                cost[function.app.id, hour] += price * (min(ended_s, hour + HOUR_S) - max(seen.started_s, hour))
                hour += HOUR_S
        for (app_id, hour), usd in cost.items():
            interval = Timestamp(seconds=int(hour))
            yield {"object_id": app_id, "description": plane.apps[app_id].name, "interval": interval, "cost": str(usd)}
