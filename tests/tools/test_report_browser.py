"""The report as a reader has it: in a browser without a network, light, dark, on a phone, on paper, under the mouse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.console import in_one_line
from tests.support import HASHING, embed_corpus, texts, write_jsonl
from tests.support.browser import Page, browser
from tests.support.odd import ODD_WORDS

pytestmark = pytest.mark.browser

# Where the marks of a plot are in the window, after the page was scrolled to it.
MARKS = """(async id => {
    const element = document.getElementById(id);
    element.scrollIntoView({block: "center"});
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const view = Bokeh.index.roots.find(each => element.contains(each.el));
    const box = view.canvas_view.el.getBoundingClientRect();
    const found = [];
    for (const each of [...view.renderer_views.values()].filter(each => each.glyph?.sx))
        for (let i = 0; i < each.glyph.sx.length; i++) found.push([box.x + each.glyph.sx[i], box.y + each.glyph.sy[i]]);
    return found;
})"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of a dataset with odd words in its texts, ids, files, kept columns and rejected rows."""
    folder = tmp_path_factory.mktemp("browser")
    rows = [{"id": f"{word} {i}", "text": f"{word} {i}"} for i in range(3) for word in ODD_WORDS]
    write_jsonl(folder / "in/a.jsonl", [*texts(300), *rows, *({"id": word, "text": None} for word in ODD_WORDS)])
    write_jsonl(folder / "in/<img src=x onerror=window.pwned=1>.jsonl", rows)
    sets = ("--set", "run.chunk_tokens=1000")
    done = embed_corpus("run", "--input", folder / "in", "--output", folder / "out", *HASHING, *sets)
    assert done.returncode == 0, done.stderr
    done = embed_corpus("report", folder / "out")
    assert done.returncode == 0, done.stderr
    return folder / "out/report.html"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1000])
def test_a_report_is_drawn_without_a_request_and_without_a_word_of_the_console(
    page: Page, report: Path, width: int, dark: bool
) -> None:
    page.open(report, width=width, dark=dark)
    assert page.requests == []
    assert page.said == []
    assert page.evaluate("typeof window.pwned") == "undefined"
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for plot in page.evaluate(
        '[...document.querySelectorAll(".plot")].map(each => each.getBoundingClientRect().width)'
    ):
        assert 0.8 * min(width, 960) < plot <= width
    assert page.evaluate("[...document.images].length") == 0
    wide = page.evaluate(
        """[...document.querySelectorAll("main *, header *")].filter(each => !each.closest(".scroll")
        && each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 80))"""
    )
    assert wide == []


def test_a_light_page_and_a_dark_one_have_colours_of_their_own_on_the_canvas_too(page: Page, report: Path) -> None:
    ink = "getComputedStyle(document.body).color"
    drawn = """(() => { const canvas = [...document.querySelectorAll(".plot")].map(place => {
        const seek = node => node.querySelector("canvas") ?? [...node.querySelectorAll("*")].map(
            each => each.shadowRoot && seek(each.shadowRoot)).find(Boolean);
        return seek(place); })[0];
        return canvas.toDataURL(); })()"""
    page.open(report)
    light = page.evaluate(ink), page.evaluate(drawn)
    page.open(report, dark=True)
    dark = page.evaluate(ink), page.evaluate(drawn)
    assert light[0] != dark[0]
    assert light[1] != dark[1]


def test_the_hover_shows_odd_texts_as_they_are_and_runs_nothing(page: Page, report: Path) -> None:
    page.open(report)
    places = page.evaluate(MARKS + '("map")')
    assert len(places) == 300 + 2 * 3 * len(ODD_WORDS)
    seen = ""
    for x, y in places[300:]:
        page.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        seen += page.evaluate(
            """new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(
            (function words(node) { return [...node.querySelectorAll("*")].map(each =>
                each.localName == "div" && each.className.includes?.("bk-Tooltip") ? each.shadowRoot.textContent
                : each.shadowRoot ? words(each.shadowRoot) : "").join(" "); })(document)))))"""
        )
    assert [word for word in ODD_WORDS if in_one_line(word) not in seen] == []
    assert page.evaluate("typeof window.pwned") == "undefined"
    assert page.requests == []
    assert page.said == []
