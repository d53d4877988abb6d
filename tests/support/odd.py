"""Words that mean something to HTML, JavaScript, Bokeh or a terminal."""

from __future__ import annotations

ODD_WORDS = (
    "</script><script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    '"><svg onload=window.pwned=1>',
    "<!-- <script>",
    "]]> --> </title></style></textarea>",
    "{{ 7 * 7 }} {% raw %} @id @{text}{safe} $index &lt;b&gt; &amp;",
    "$$\\frac{a}{b}$$ \\(x\\)",
    "\x1b]0;PWNED\x07 \u202e right to left \u2028 \x00 end",
    "'; window.pwned = 1; '\\u003c \\",
    "javascript:window.pwned=1//<u>",
)
