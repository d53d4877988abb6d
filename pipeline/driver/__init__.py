"""A run: plan, reuse, dispatch, reconcile."""

from pipeline.driver.compact import Compacted, compact
from pipeline.driver.contents import kept_dtype
from pipeline.driver.cost import Held, Meter, estimate
from pipeline.driver.dispatch import dispatch
from pipeline.driver.fan_out import FanOut, fan_out_here, saying
from pipeline.driver.inventory import RunOptions
from pipeline.driver.plan import make_plan
from pipeline.driver.prices import NONPREEMPTIBLE, container_usd_per_s, is_listed
from pipeline.driver.rate import Rate, assumed_tokens_per_s
from pipeline.driver.run import Outcome, run

__all__ = [
    "NONPREEMPTIBLE",
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
    "kept_dtype",
    "make_plan",
    "run",
    "saying",
]
