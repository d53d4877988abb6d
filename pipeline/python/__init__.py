"""What a program in Python calls: a dataset that was opened, and the commands `plan` and `run` as functions."""

from pipeline.python.calls import plan, run
from pipeline.python.opened import OpenedDataset, open_dataset

__all__ = ["OpenedDataset", "open_dataset", "plan", "run"]
