"""Write the table of docs/settings.md from the settings: python tools/settings_table.py."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from test_docs import settings_rows  # noqa: E402

page = ROOT / "docs" / "settings.md"
head = ["<!-- settings -->", "| setting | default | meaning |", "|---|---|---|"]
table = "\n".join([*head, *settings_rows(), "<!-- /settings -->"])
text = page.read_text(encoding="utf-8")
page.write_text(
    re.sub(r"<!-- settings -->.*<!-- /settings -->", lambda _: table, text, flags=re.DOTALL),
    encoding="utf-8",
)
