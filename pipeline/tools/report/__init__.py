"""Report: what a dataset is and how it came to be, as one page of HTML that needs nothing else."""

from pipeline.tools.report.make import report

__all__ = ["report"]
