"""`python -m integration.pictures`: the pictures of demo, top and page that the documents show.

The demo is run as anybody would run it; top and page show a household of `integration`. Writes
docs/demo.svg, docs/top.svg and docs/page.png. Wants what `integration.page` wants; two minutes.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text

from aios_eccos.cli.top_screen import Screen

from .household import Household, household
from .page import looked, served, tools

DOCS = Path(__file__).parents[1] / "docs"
#: Columns and lines of the terminal that top is shown in.
TERMINAL = (100, 30)
#: Pixels of the page that are shown, from its top.
SHOWN = 1335
COLORS = 128
#: No picture of ours may be larger, bytes.
MOST = 150_000


def terminal(console: Console, title: str, target: Path) -> None:
    """What a recording console has shown, as an SVG that loads nothing from elsewhere."""
    text = console.export_svg(title=title)
    kept(target, re.sub(r"@font-face \{.*?\}\s*", "", text, flags=re.DOTALL).encode())


def kept(target: Path, content: bytes) -> None:
    if len(content) > MOST:
        raise SystemExit(f"{target}: {len(content):,} bytes, wanted at most {MOST:,}")
    target.write_bytes(content)
    print(f"{target}: {len(content):,} bytes", file=sys.stderr)


def recording(width: int, height: int) -> Console:
    return Console(
        record=True, width=width, height=height, file=io.StringIO(), force_terminal=True,
        color_system="truecolor",
    )  # fmt: skip


def demo(target: Path) -> None:
    """Run it in a terminal of 80 columns."""
    command = [sys.executable, "-m", "aios_eccos.cli.main", "demo"]
    colors = {"COLUMNS": "80", "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    done = subprocess.run(
        command, env={**os.environ, **colors}, stdout=subprocess.PIPE, text=True, check=True
    )
    console = recording(80, 60)
    console.print(Text.from_ansi(f"$ aios-eccos demo\n{done.stdout.rstrip()}"))
    terminal(console, "aios-eccos demo", target)


def top(home: Household, target: Path) -> None:
    screen = Screen(home.reader.status(), home.reader.decisions(60))
    console = recording(*TERMINAL)
    for line in screen.lines(*TERMINAL):
        line.truncate(TERMINAL[0], overflow="ellipsis")
        console.print(line)
    terminal(console, "aios-eccos top", target)


def page(home: Household, node: Path, chromium: str) -> None:
    with tempfile.TemporaryDirectory() as folder, served(home.reader) as url:
        looked(url, "page", Path(folder), node, chromium)
        with Image.open(Path(folder) / "page-1280-light.png") as whole:
            part = whole.crop((0, 0, whole.width, min(whole.height, SHOWN)))
    drawn = io.BytesIO()
    part.convert("RGB").quantize(COLORS).save(drawn, "PNG", optimize=True)
    kept(DOCS / "page.png", drawn.getvalue())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m integration.pictures", description=__doc__)
    parser.add_argument("--node", help="folder of axe-core and puppeteer-core; default: ECCOS_NODE")
    parser.add_argument("--calls", type=int, default=300, help="calls that are served first")
    wanted = parser.parse_args(arguments)
    node, chromium = tools(wanted.node)
    demo(DOCS / "demo.svg")
    folder = tempfile.TemporaryDirectory(prefix="eccos-pictures-")
    with folder as name, household(Path(name)) as home:
        home.serve(wanted.calls)
        top(home, DOCS / "top.svg")
        page(home, node, chromium)
    return 0


if __name__ == "__main__":
    sys.exit(main())
