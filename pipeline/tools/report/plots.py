"""Plots: the figures of a report, drawn by Bokeh in the reader's browser.

Bokeh adds 1.3 MB to a page that then needs no other file; Plotly would add 4.7 MB. Its hover escapes what it shows.
Colours that depend on a light or dark page are CSS variables of the page (`--bk-…`); those of marks fit both. What a
dataset says is never in a title, an axis or a legend of a figure, where `$$` would be read as a formula.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.console import in_one_line
from pipeline.tools.report.sample import Sample, flattened
from pipeline.tools.report.times import Chunks

if TYPE_CHECKING:
    from bokeh.plotting import figure

N_BINS = 60
UNITS = ((3600, "hours"), (60, "minutes"), (1, "seconds"))
FONT = "system-ui, sans-serif"
# Of the files with most passages: colours that differ to the colour-blind too, each with a form of its own.
MARKS = (
    ("#2f7fc1", "circle"),
    ("#c77700", "triangle"),
    ("#12906a", "square"),
    ("#b8559a", "diamond"),
    ("#cf4b1f", "inverted_triangle"),
)
OTHERS = ("#7d838c", "circle")
TIP = '<div style="max-width:18rem;overflow-wrap:anywhere;white-space:normal">{}</div>'


def of_lengths(lengths: NDArray[np.int64], max_tokens: int) -> figure:
    """Return a histogram of passages by their tokens, with a line where they are cut if that is near; 0 for none."""
    from bokeh.models import DataRange1d
    from bokeh.models.annotations import Span

    width = max(1, -(-len(lengths) // N_BINS))
    starts = np.arange(0, len(lengths), width)
    counts = np.add.reduceat(lengths, starts) if len(lengths) else np.zeros(0, np.int64)
    plot = _figure("tokens of a passage", "passages", 280)
    values: dict[str, Any] = {"left": starts, "right": starts + width, "last": starts + width - 1, "top": counts}
    bars = plot.quad(
        left="left", right="right", top="top", bottom=0, source=values, color=MARKS[0][0], line_color=None, alpha=0.85
    )
    _hover(plot, [bars], TIP.format("@left to @last tokens: <b>@top{0,0}</b> passages"))
    if has_line(lengths, max_tokens):
        plot.add_layout(Span(location=max_tokens, dimension="height", line_color=MARKS[4][0], line_dash="dashed"))
    plot.y_range = DataRange1d(start=0)
    plot.x_range = DataRange1d(range_padding=0.03)
    return plot


def has_line(lengths: NDArray[np.int64], max_tokens: int) -> bool:
    """Whether some passages are about as long as one may be, so that a line there is within the histogram."""
    return 0 < max_tokens <= len(lengths)


def of_chunks(chunks: Chunks) -> figure:
    """Return the engine's speed in each chunk over the time of the run."""
    from bokeh.models import DataRange1d

    unit_s, unit = next(each for each in UNITS if chunks.written_s.max(initial=0) >= 3 * each[0] or each[0] == 1)
    plot = _figure(f"{unit} since the run began", "tokens per second", 260)
    values = {name: getattr(chunks, name) for name in ("rates", "tokens", "seconds", "parts")}
    values["at"] = chunks.written_s / unit_s
    marks = plot.scatter("at", "rates", source=values, color=MARKS[0][0], line_color=None, size=7, alpha=0.7)
    words = "@tokens{0,0} tokens in @seconds{0,0.0} s: <b>@rates{0,0}</b> a second"
    _hover(plot, [marks], TIP.format(f"{words}<br>written after @at{{0.0}} {unit}<br>@parts"))
    plot.y_range = DataRange1d(start=0)
    return plot


def of_map(sample: Sample) -> tuple[figure, list[dict[str, Any]], NDArray[np.float64]]:
    """Return passages on the plane of their first two principal components, the legend, and the shares of variance."""
    places, shares = flattened(sample.unit)
    axes = [f"component {n + 1}, {share:.1%} of the variance" for n, share in enumerate(shares)]
    plot = _figure(axes[0], axes[1], 520)
    counted = Counter(sample.sources)
    first = [source for source, _ in counted.most_common(len(MARKS))]
    place = dict(zip(first, MARKS, strict=False))
    kinds = np.array([first.index(source) if source in place else -1 for source in sample.sources])
    legend, drawn = [], []
    for kind in sorted(set(kinds.tolist()), key=lambda kind: kind % (len(MARKS) + 1)):
        rows = np.flatnonzero(kinds == kind)
        colour, form = MARKS[kind] if kind >= 0 else OTHERS
        values = {"x": places[rows, 0], "y": places[rows, 1]} | _said(sample, rows.tolist())
        options: dict[str, Any] = {"marker": form, "color": colour, "line_color": None, "size": 6, "alpha": 0.65}
        drawn.append(plot.scatter("x", "y", source=values, **options))
        name = first[kind] if kind >= 0 else f"{len(counted) - len(first):,} other files"
        legend.append({"name": name, "colour": colour, "form": form, "n": len(rows)})
    words = "<b>@text</b><br>" if sample.texts else ""
    _hover(plot, drawn, TIP.format(words + "@id, @tokens{0,0} tokens<br>@source"))
    return plot, legend, shares


def _said(sample: Sample, rows: list[int]) -> dict[str, list[Any]]:
    """Return what the hover says of some passages, with control characters as escapes."""
    found: dict[str, list[Any]] = {
        "id": [in_one_line(sample.ids[row][:80]) for row in rows],
        "source": [in_one_line(sample.sources[row][-80:]) for row in rows],
        "tokens": [sample.n_tokens[row] for row in rows],
    }
    return found | ({"text": [in_one_line(sample.texts[row] or "") for row in rows]} if sample.texts else {})


def _figure(x: str, y: str, height: int) -> figure:
    from bokeh.models import BasicTicker, NumeralTickFormatter
    from bokeh.plotting import figure

    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        x_axis_label=x,
        y_axis_label=y,
        background_fill_alpha=0,
        border_fill_alpha=0,
        outline_line_alpha=0,
    )
    for axis in (plot.xaxis, plot.yaxis):
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.axis_label_text_font_style = "normal"
        axis.minor_tick_line_alpha = 0
        axis.formatter = NumeralTickFormatter(format="0,0.[00]")
        axis.ticker = BasicTicker(desired_num_ticks=5)  # few enough for a phone
    return plot


def _hover(plot: figure, marks: list[Any], words: str) -> None:
    from bokeh.models import HoverTool

    plot.add_tools(HoverTool(renderers=marks, tooltips=words, point_policy="snap_to_data", limit=3))
