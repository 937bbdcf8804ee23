"""One self-contained HTML page: pictures inline, tables, what was run. No scripts, no links out."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aios_eccos.errors import ConfigError
from aios_eccos.lab.report import Table

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; color: #222; }
img { max-width: 100%; } h2 { margin-top: 2em; } .note { color: #666; font-size: 13px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 12px; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
tr.ours td { font-weight: bold; } .wide { overflow-x: auto; }
"""


def write_page(
    path: Path,
    title: str,
    facts: Mapping[str, Any],
    pictures: Mapping[str, bytes],
    tables: Sequence[Table],
) -> None:
    """Write the page.

    Raises:
        ConfigError: the file cannot be written.
    """
    parts = [f"<h1>{html.escape(title)}</h1>", _facts(facts)]
    for name, picture in pictures.items():
        data = base64.b64encode(picture).decode()
        parts.append(f"<h2>{html.escape(name)}</h2>")
        parts.append(f'<img alt="{html.escape(name)}" src="data:image/png;base64,{data}">')
    parts += [_table(table) for table in tables]
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--report {path}: {error.strerror or error}") from error


def _facts(facts: Mapping[str, Any]) -> str:
    items = (f"{html.escape(str(k))}: {html.escape(str(v))}" for k, v in facts.items())
    return f'<p class="note">{"; ".join(items)}</p>'


def _table(table: Table) -> str:
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in (*table.rows, {})[0])
    rows = "\n".join(
        f"<tr{' class=ours' if next(iter(row.values())).startswith('eccos') else ''}>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row.values())
        + "</tr>"
        for row in table.rows
    )
    return (
        f'<h2>{html.escape(table.title)}</h2><div class="wide"><table><thead><tr>{heads}</tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
        f'<p class="note">{html.escape(table.note)}</p>'
    )
