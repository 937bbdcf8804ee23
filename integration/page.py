"""`python -m integration.page`: the operator's page in headless Chromium, with state and without.

Dark and light, 1280 and 390 px wide: axe-core finds nothing, no page scrolls sideways, the Tab key
reaches a decision whose explanation opens in place, nothing is asked of another origin, and names
that agents chose stay text. Pictures go to `--out`. Wants Chromium, node, and a folder (`--node`
or ECCOS_NODE) in which `npm install axe-core puppeteer-core` was run; under two minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel

from aios_eccos.observe.http import page
from aios_eccos.observe.reader import Reader

from .household import Household, household
from .report import Report

SCRIPT = Path(__file__).with_name("page_check.mjs")
EVIL = "<img src=x onerror=alert(1)>"
#: What an operator has on the first day.
FIRST_DAY: dict[str, object] = {
    "audit": 0,
    "max_cost": None,
    "plans": "none",
    "agents": {},
    "mode": "route",
}
TIMEOUT_S = 240


def answers_of(reader: Reader) -> dict[str, Callable[[dict[str, list[str]]], BaseModel]]:
    """What the page asks for, by path below /eccos/."""
    return {
        "status": lambda asked: reader.status(),
        "series": lambda asked: reader.series(),
        "savings": lambda asked: reader.savings(),
        "frontier": lambda asked: reader.frontier(),
        "decisions": lambda asked: reader.decisions(int(asked.get("n", ["20"])[0])),
    }


@contextlib.contextmanager
def served(reader: Reader) -> Iterator[str]:
    """The page and what it asks for, on loopback; yields the page's address."""
    answers = answers_of(reader)

    class Kernel(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            name = unquote(url.path.removeprefix("/eccos/"))
            kind = "text/html; charset=utf-8"
            if not name:
                body = page()
            else:
                found = answers.get(name)
                view = found(parse_qs(url.query)) if found else reader.explain(name.split("/")[-1])
                kind, body = "application/json", view.model_dump_json(by_alias=True)
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # a page that was closed meanwhile
                self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Kernel) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/eccos/"
        finally:
            server.shutdown()


def looked(url: str, name: str, out: Path, node: Path, chromium: str) -> list[dict[str, Any]]:
    """What the browser found, once a width and scheme."""
    command = ["node", str(SCRIPT), str(node), chromium, url, str(out), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise SystemExit(f"the browser's script failed:\n{done.stderr[-2000:]}")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def check(report: Report, found: list[dict[str, Any]], name: str, url: str, calls: bool) -> None:
    """The rows of one state of the page."""
    for each in found:
        where = f"{name}, {each['width']} px, {each['scheme']}"
        keyed = each["keyed"]
        report.check(f"{where}: axe", not each["violations"], "; ".join(each["violations"]))
        report.check(f"{where}: no scrolling sideways", not (each["wide"] or each["inside"]),
                     " ".join(each["inside"]))  # fmt: skip
        report.check(f"{where}: no fault, no other origin", not each["errors"]
                     and all(url.startswith(o) for o in each["origins"]),
                     "; ".join(each["errors"]))  # fmt: skip
        report.check(f"{where}: names stay text", not each["nodes"])
        if calls:
            opened = keyed.get("expanded") == "true" and keyed.get("after") == "why"
            fine = opened and keyed["text"] > 200 and keyed["closes"]
            report.check(f"{where}: explained by keyboard", fine, f"{keyed['tabs']} tabs")


def tools(given: str | None) -> tuple[Path, str]:
    """The folder of node's packages, and Chromium; `SystemExit` says how to get what is missing."""
    folder = given or os.environ.get("ECCOS_NODE")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not folder or not (Path(folder) / "node_modules" / "axe-core").is_dir():
        raise SystemExit("--node: a folder in which `npm install axe-core puppeteer-core` was run")
    if chromium is None or shutil.which("node") is None:
        raise SystemExit("Chromium and node are needed: apt-get install chromium nodejs")
    return Path(folder), chromium


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m integration.page", description=__doc__)
    parser.add_argument("--node", help="folder of axe-core and puppeteer-core; default: ECCOS_NODE")
    parser.add_argument("--url", help="a living kernel's page instead, such as .../eccos/")
    parser.add_argument("--out", help="folder for the pictures; default: a new one below /tmp")
    parser.add_argument("--calls", type=int, default=150, help="calls that are served first")
    parser.add_argument("--json", metavar="FILE", help="write the rows (- = standard output)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    wanted = parsed(arguments)
    node, chromium = tools(wanted.node)
    out = Path(wanted.out or tempfile.mkdtemp(prefix="eccos-page-"))
    out.mkdir(parents=True, exist_ok=True)
    report = Report("page")
    if wanted.url:
        found = looked(wanted.url, "living", out, node, chromium)
        check(report, found, "living", wanted.url, calls=False)
        return report.finish(wanted.json, pictures=str(out))

    def busy(home: Household) -> None:
        home.serve(wanted.calls)
        home.call(home.records[0], agent=EVIL)

    for name, settings, prepare in (
        ("first day", FIRST_DAY, lambda home: None),
        ("busy", {}, busy),
    ):
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="eccos-page-"))
            home = stack.enter_context(household(Path(folder), **settings))
            prepare(home)
            url = stack.enter_context(served(home.reader))
            found = looked(url, name.replace(" ", "-"), out, node, chromium)
            check(report, found, name, url, calls=name == "busy")
    print(f"pictures in {out}", file=sys.stderr)
    return report.finish(wanted.json, pictures=str(out))


if __name__ == "__main__":
    sys.exit(main())
