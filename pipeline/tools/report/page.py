"""Page: the report as one file of HTML that asks for nothing else, and lets nothing run but its own scripts."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.console import count, duration, in_one_line, moment, size
from pipeline.dataset import REPORT_MARK

if TYPE_CHECKING:
    from bokeh.plotting import figure

SHORT = 44  # characters of a name, which a tooltip has in full
TEMPLATE = Path(__file__).with_name("page.html")
# Each plot is JSON beside the place it is drawn in. A canvas keeps its colours, so it is drawn anew for a light page or
# a dark one; on paper it keeps the background that it was drawn for.
DRAW = """
"use strict";
const draw = () => {
  for (const place of document.querySelectorAll(".plot")) {
    place.replaceChildren();
    place.style.background = getComputedStyle(document.body).backgroundColor;
    Bokeh.embed.embed_item(JSON.parse(document.getElementById(place.id + "-data").textContent));
  }
};
draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => matchMedia("print").matches || draw());
"""


def render(facts: dict[str, Any], plots: dict[str, figure]) -> bytes:
    """Return the page in UTF-8; whatever a dataset says is escaped, its control characters too."""
    from bokeh.core.types import ID
    from bokeh.embed import json_item
    from bokeh.resources import Resources
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_printed
    )
    environment.policies["json.dumps_kwargs"] = {}  # sorted, Bokeh would meet references before what they refer to
    environment.filters |= {"count": count, "duration": duration, "moment": moment, "size": size, "short": short}
    library = Resources(mode="inline", components=["bokeh"]).js_raw[0]
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        facts
        | {
            # Not escaped, as nothing of a dataset is in them.
            "mark": Markup(REPORT_MARK),
            "library": Markup(library),
            "script": Markup(DRAW),
            "hashes": " ".join(map(_hash, (library, DRAW))),
            "plots": {name: json_item(plot, ID(name)) for name, plot in plots.items()},
        }
    )
    return text.encode()


def short(text: str) -> str:
    """Return a text of at most SHORT characters, without its middle where it has more."""
    return text if len(text) <= SHORT else f"{text[: SHORT // 3]}…{text[-(SHORT - SHORT // 3 - 1) :]}"


def _printed(value: Any) -> Any:
    """Return what a template prints: of a plain text its characters that can be printed, and escapes of the others."""
    return in_one_line(value) if type(value) is str else value


def _hash(script: str) -> str:
    """Return what a content security policy calls a script by, so that no other script of the page runs."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def as_code(value: Any) -> str:
    """Return a value of a config or a recipe as JSON."""
    return json.dumps(value, ensure_ascii=False, default=str)
