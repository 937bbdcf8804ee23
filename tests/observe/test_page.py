"""The page in headless Chromium: what it shows comes from the kernel, and from nowhere else."""

from __future__ import annotations

import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from observe_world import World

from aios_eccos.observe.http import page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
EVIL = "<img src=x onerror=alert(1)>"


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_draws_what_the_kernel_says(world: World, tmp_path, width: int) -> None:
    world.calls(4)
    world.call("0.97", agent=EVIL)
    world.reader.feedback("last", 1.0)
    asked: list[str] = []
    answers = {
        "/eccos/status": world.reader.status(),
        "/eccos/decisions?n=15": world.reader.decisions(15),
        "/eccos/series": world.reader.series(),
    }

    class Kernel(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            view = answers.get(self.path)
            body = page() if view is None else view.model_dump_json(by_alias=True)
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if view is None else "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Kernel) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = subprocess.run(
            [
                str(CHROMIUM),
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                f"--user-data-dir={tmp_path}",
                f"--window-size={width},900",
                "--virtual-time-budget=1500",
                "--dump-dom",
                f"http://127.0.0.1:{server.server_port}/eccos/",
            ],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        server.shutdown()
    dom = done.stdout
    assert dom.count("<svg") == 2
    assert 'role="img"' in dom and "calls in the last hour" in dom
    assert "small: 8b" in dom and "large" in dom
    assert dom.count("explain</button>") == 5
    assert EVIL not in dom and "&lt;img src=x" in dom
    assert "holds so far" in dom
    assert set(asked) <= {"/eccos/", *answers}
