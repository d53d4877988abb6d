"""A run: plan, reuse, dispatch, reconcile."""

from pipeline.driver.cost import estimate
from pipeline.driver.dispatch import dispatch
from pipeline.driver.fan_out import FanOut, fan_out_here, saying
from pipeline.driver.inventory import kept_dtype
from pipeline.driver.options import Options
from pipeline.driver.plan import survey
from pipeline.driver.run import Outcome, run

__all__ = [
    "FanOut",
    "Options",
    "Outcome",
    "dispatch",
    "estimate",
    "fan_out_here",
    "kept_dtype",
    "run",
    "saying",
    "survey",
]
