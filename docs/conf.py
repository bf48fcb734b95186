"""Configuration of Sphinx: `make docs` builds the site from the pages in this folder into build/docs."""

from pathlib import Path
from typing import Any

project = "Ouroboros"
author = "The Ouroboros in Python project"
version = release = (Path(__file__).parents[1] / "ouroboros/version.py").read_text().split('"')[-2]
extensions = ["myst_parser"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
html_theme = "furo"
html_title = f"Ouroboros {version}"
html_show_sourcelink = False
exclude_patterns = ["conf.py"]
# Languages of blocks that are only shown, and those with `file=NAME` behind them, which tests write.
highlight_language = "none"
suppress_warnings = ["misc.highlighting_failure"]


def to_checkout(app: Any, _name: str, source: list[str]) -> None:
    """Links to files of the checkout outside of docs/ become their names: the site does not have them."""
    import re

    source[0] = re.sub(
        r"\[([^\]]+)\]\((?:\.\./)+(?:README|CONTRIBUTING|examples|demo|tests|packaging)[^)]*\)",
        r"\1",
        source[0],
    )


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", to_checkout)
