"""What goes wrong is logged by type and place, never by its message."""

from __future__ import annotations

import logging

import pytest

from aios_eccos.errors import escape_logs, raised


def test_a_fault_is_named_by_type_and_place_without_its_message() -> None:
    def breaks() -> None:
        raise ValueError("a prompt with a secret")

    try:
        breaks()
    except ValueError as error:
        said = raised(error)
    assert said.startswith("ValueError at breaks:")
    assert "secret" not in said
    assert raised(KeyError("secret")) == "KeyError"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("two\nlines", r"two\nlines"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b31mred", r"\x9b31mred"),
        ("left\u202eright", r"left\u202eright"),
        ("Zoë and 猫", "Zoë and 猫"),
    ],
)
def test_a_log_line_carries_nothing_that_a_terminal_obeys(
    name: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = logging.getLogRecordFactory()
    try:
        escape_logs()
        escape_logs()
        logging.getLogger("aios_eccos.somewhere").warning("agent %s waits", name)
        logging.getLogger("another.library").warning("agent %s waits", name)
    finally:
        logging.setLogRecordFactory(before)
    assert [record.getMessage() for record in caplog.records] == [
        f"agent {shown} waits",
        f"agent {name} waits",
    ]


def test_what_cannot_be_written_stops_nobody_who_logs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    before = logging.getLogRecordFactory()
    monkeypatch.setattr(logging, "raiseExceptions", False)
    quiet = logging.getLogger("aios_eccos.somewhere")
    monkeypatch.setattr(quiet, "propagate", False)
    try:
        escape_logs()
        quiet.warning("%s", Broken())
    finally:
        logging.setLogRecordFactory(before)
