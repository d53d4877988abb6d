"""A run: plan, reuse, dispatch, reconcile."""

from pipeline.driver.compact import Compacted, compact
from pipeline.driver.contents import kept_dtype
from pipeline.driver.cost import Held, Meter, estimate, rate_of
from pipeline.driver.dispatch import dispatch
from pipeline.driver.fan_out import FanOut, fan_out_here, saying
from pipeline.driver.inventory import RunOptions
from pipeline.driver.plan import make_plan
from pipeline.driver.prices import GPU_MEMORY_MIB, NONPREEMPTIBLE, SERVICE_CPUS, container_usd_per_s, is_listed
from pipeline.driver.rate import Rate, assumed_tokens_per_s, rented_rate
from pipeline.driver.run import Outcome, run
from pipeline.driver.size import measured_speed
from pipeline.driver.speed import keep_speed

__all__ = [
    "GPU_MEMORY_MIB",
    "NONPREEMPTIBLE",
    "SERVICE_CPUS",
    "Compacted",
    "FanOut",
    "Held",
    "Meter",
    "Outcome",
    "Rate",
    "RunOptions",
    "assumed_tokens_per_s",
    "compact",
    "container_usd_per_s",
    "dispatch",
    "estimate",
    "fan_out_here",
    "is_listed",
    "keep_speed",
    "kept_dtype",
    "make_plan",
    "measured_speed",
    "rate_of",
    "rented_rate",
    "run",
    "saying",
]
