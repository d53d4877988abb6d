"""The terminal: notices, what a run is at, signals and silence. It knows nothing of what is embedded."""

from pipeline.console.board import (
    CHECKING,
    EMBEDDING,
    LOADING,
    PUBLISHING,
    READING,
    Board,
    Progress,
    Work,
    board,
    repeating,
    watched,
)
from pipeline.console.notes import in_one_line, keep_notes, note
from pipeline.console.quiet import DEBUG_VARIABLE, LOGGED_VARIABLE, peak_rss_bytes, quiet
from pipeline.console.screen import Screen, screen, screen_on_stderr
from pipeline.console.stop import Stopped, stoppable
from pipeline.console.words import clock, count, describe, duration, moment, rows_through, size

__all__ = [
    "CHECKING",
    "DEBUG_VARIABLE",
    "EMBEDDING",
    "LOADING",
    "LOGGED_VARIABLE",
    "PUBLISHING",
    "READING",
    "Board",
    "Progress",
    "Screen",
    "Stopped",
    "Work",
    "board",
    "clock",
    "count",
    "describe",
    "duration",
    "in_one_line",
    "keep_notes",
    "moment",
    "note",
    "peak_rss_bytes",
    "quiet",
    "repeating",
    "rows_through",
    "screen",
    "screen_on_stderr",
    "size",
    "stoppable",
    "watched",
]
