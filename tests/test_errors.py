"""What goes wrong is logged by type and place, never by its message."""

from __future__ import annotations

from aios_eccos.errors import raised


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
