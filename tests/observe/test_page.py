"""The page in headless Chromium: what it shows with calls and without, and that nothing fails.

`integration.page` looks at the keyboard, at widths and at axe's rules.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from observe_world import World

from integration.page import EVIL, served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


def shown(world: World, folder: Path) -> tuple[str, str]:
    """The page, without its scripts, once it has all that it shows; and what the console says."""
    with served(world.reader) as url:
        command = [CHROMIUM or "", *OPTIONS, f"--user-data-dir={folder / 'browser'}"]
        command += ["--enable-logging=stderr", "--virtual-time-budget=3000", "--dump-dom", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return re.sub(r"(?s)<script.*?</script>", "", done.stdout), "\n".join(said)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_the_page_shows_what_there_is_and_says_what_there_is_not(
    world: World, tmp_path: Path
) -> None:
    empty, faults = shown(world, tmp_path)
    assert faults == ""
    assert "No calls in the last hour." in empty and "small: 8b" in empty
    assert "data-decision" not in empty
    world.calls(3)
    world.call(agent=EVIL)
    busy, faults = shown(world, tmp_path)
    assert faults == ""
    assert "No calls in the last hour." not in busy
    assert busy.count('aria-expanded="false"') == 4, "a button explains each decision"
    assert "&lt;img src=x" in busy and "<img" not in busy
    for page in (empty, busy):
        assert not re.search(r"undefined|NaN|\[object", page)
