"""What a single setting must be, and how a refusal says so in one line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NewType, NoReturn
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from aios_eccos.config.local import check_address
from aios_eccos.errors import ENCODED, ConfigError, misread, netloc_of

#: Keys whose values are never shown: tokens, and URLs that may carry a password.
MAY_HOLD_SECRETS = {"api_key", "http_token", "redis", "history", "hostname"}
#: A shorter token could be guessed by trying, on a kernel that listens to all addresses.
SHORTEST_TOKEN = 8
#: Letters that a misspelling has too many or too few; a changed one counts as two.
MOST_LETTERS = 3
#: Annotations of numbers.
NUMBERS: tuple[Any, ...] = (int, float, int | None, float | None)


#: A share of money, 0..1. YAML reads `off` as false, so it is no number among `NUMBERS`.
Share = NewType("Share", float)
#: The share that `on` stands for, and the largest that is allowed.
USUAL_SHARE, LARGEST_SHARE = Share(0.05), 0.5

#: Plans beside the models at most: more columns overfit the price of success.
PLANS_MOST = 6
#: The plans that are chosen on the history.
AUTO = ("auto",)


class Checked(BaseModel):
    """Frozen; no number is infinite, NaN or a truth value."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool(cls, value: object, info: ValidationInfo) -> object:
        """YAML reads `yes` and `on` as true, which would count as the number 1."""
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, bool) and field.annotation in NUMBERS:
            raise ValueError("wanted a number")
        return value


@dataclass(frozen=True, slots=True)
class Floor:
    """A quality floor, 0..1: absolute success, or (`relative`) a share of what the strongest
    allowed model would reach on the same calls, less some `points` (0..1).
    """

    value: float
    relative: bool
    points: float = 0.0

    def of(self, strongest: float) -> float:
        """The absolute floor where the strongest allowed model has such success, 0..1."""
        return max(self.value * strongest - self.points, 0.0) if self.relative else self.value

    def __str__(self) -> str:
        if self.points:
            return f"strongest - {self.points * 100:g} points"
        return f"{self.value * 100:g} % of the strongest" if self.relative else f"{self.value:g}"


def parse_floor(raw: object) -> Floor:
    """Read `0.8` (absolute), `95 %` or `strongest - 3 points` (both relative).

    A ValueError if it is none of them, or not in 0..1.
    """
    if isinstance(raw, Floor):
        return raw
    text = str(raw).strip() if isinstance(raw, str | int | float) else ""
    less = re.fullmatch(r"strongest\s*-\s*(\d{1,2}(?:\.\d+)?)\s*points?", text)
    if less is not None:
        return Floor(1.0, relative=True, points=float(less[1]) / 100)
    relative = text.endswith("%")
    try:
        value = float(text.removesuffix("%")) / (100 if relative else 1)
    except ValueError:
        value = -1.0
    if isinstance(raw, bool) or not 0 <= value <= 1:
        raise ValueError(
            "allowed: a number in 0..1, a share of the strongest such as 95 %, "
            "or strongest - 3 points"
        )
    return Floor(value, relative)


def parse_share(raw: object) -> Share:
    """Read `5 %`, `0.05`, `off` or `on`; a ValueError if it is none of them."""
    named = {"off": 0.0, "false": 0.0, "on": USUAL_SHARE, "true": USUAL_SHARE}
    text = str(raw).strip().casefold() if isinstance(raw, str | int | float) else ""
    try:
        value = named[text] if text in named else float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    value = value / 100 if text.endswith("%") else value
    if not 0 <= value <= LARGEST_SHARE:
        raise ValueError(f"allowed: off, or a share up to {LARGEST_SHARE:.0%} such as 5 %")
    return Share(value)


def parse_plans(raw: object) -> tuple[str, ...]:
    """Read `none`, `auto` or a list of plans; a ValueError if it is none of them."""
    if raw in (None, False, "none", "off"):
        return ()
    if raw in (True, "auto"):
        return AUTO
    if not isinstance(raw, list | tuple) or not all(isinstance(each, str) for each in raw):
        raise ValueError('allowed: none, auto, or a list such as ["small + mini, else large"]')
    if len(raw) > PLANS_MOST:
        raise ValueError(f"allowed: up to {PLANS_MOST} plans, not {len(raw)}")
    return tuple(raw)


def check_redis(value: str) -> str:
    """What can be seen of it without redis-py; the rest is looked at when it is opened."""
    value = re.sub(r"\A[A-Za-z+]+(?=://)", lambda scheme: scheme[0].lower(), value)
    if not re.match(r"(embedded|memory)$|rediss?(\+sentinel|\+cluster)?://.|unix://.", value):
        raise ValueError(
            "allowed: embedded, memory, or a URL that begins with redis://, rediss://, unix://, "
            "redis+sentinel:// or redis+cluster:// (the last two with rediss, too)"
        )
    try:
        user, _, hosts = netloc_of(value).rpartition("@")
        for host in hosts.split(","):
            urlsplit(f"//{user}@{host}")  # refuses what others could read as another host
            check_address(f"http://{host if host[:1] not in (':', '') else f'localhost{host}'}")
        if re.search(r"\s", value) or misread(value):
            raise ValueError
    except ValueError:
        raise ValueError(
            "a port is a number from 1 to 65535, a host a name or an address, no blanks "
            f"(of a path: %20), and {ENCODED}"
        ) from None
    return value


def check_history(value: str) -> str:
    """What can be seen of it without Chroma."""
    if value != "embedded" and not value.lower().startswith(("http://", "https://")):
        raise ValueError("allowed: embedded, or a URL such as http://chroma:8000")
    return value if value == "embedded" else check_address(value)


def check_token(raw: object) -> object:
    """A token that strangers cannot guess, and that a header can carry; errors do not show it."""
    if raw is None:
        return None
    if not isinstance(raw, str):
        fault = "a token is text, so put it in quotes"
    elif not raw.strip():
        fault = "an empty token lets everybody in; without the key, only this machine is answered"
    elif re.search(r"[^!-~]", raw):
        fault = "a header carries letters, digits and signs of ASCII, and no spaces"
    elif re.fullmatch(r"\$\{?\w+\}?|<.*>|\{\{.*\}\}", raw):
        fault = "nobody fills this in, so anybody could guess it"
    elif len(raw) < SHORTEST_TOKEN:
        fault = f"{len(raw)} characters can be guessed by trying; wanted are {SHORTEST_TOKEN}"
    else:
        return raw
    make = "python -c 'import secrets; print(secrets.token_urlsafe())'"
    raise ValueError(f"{fault}. A good one: {make}")


def misspelt(key: object, known: Collection[str]) -> str | None:
    """The known key that an unknown one was meant to be; None where it is another key.

    AIOS and LiteLLM have keys near ours, as `input_cost_per_token_batches` is; these differ by more
    letters than a misspelling does.
    """
    if not isinstance(key, str) or key in known:
        return None
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    if not near:
        return None
    pair = difflib.SequenceMatcher(None, key, near[0])
    common = sum(block.size for block in pair.get_matching_blocks())
    return near[0] if len(key) + len(near[0]) - 2 * common <= MOST_LETTERS else None


def refuse(
    error: ValidationError, where: str, known: Collection[str], inner: Collection[str] = ()
) -> NoReturn:
    """Raise pydantic's first complaint as one line: key, value, what is allowed.

    `known` are the keys of what was validated, `inner` those of mappings in it.
    """
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"] if not str(part).startswith("function-")]
    key = ".".join([where, *("(hidden)" if _is_address(part) else part[:80] for part in path)])
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], inner if path[1:] else known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise ConfigError(f"{key}: unknown key; {hint}") from None
    if first["type"] == "missing":
        raise ConfigError(f"{key}: missing") from None
    value = "(hidden)" if MAY_HOLD_SECRETS.intersection(path) else shown(first.get("input"))
    message = first["msg"].removeprefix("Value error, ")
    raise ConfigError(f"{key} = {value}: {message}") from None


def no_mapping(where: str, found: object, wanted: str) -> ConfigError:
    return ConfigError(f"{where} = {shown(found)}: wanted a mapping {wanted}")


def shown(value: object) -> str:
    """A value for an error, briefly; of a list or a mapping its kind, for a secret may be in it."""
    # Python writes no number of thousands of digits, as hexadecimal ones in YAML may have.
    huge = isinstance(value, int) and value.bit_length() > 999
    if huge or not (value is None or isinstance(value, str | int | float)):
        return f"({type(value).__name__})"
    return "(hidden)" if isinstance(value, str) and _is_address(value) else repr(value)[:80]


def _is_address(text: str) -> bool:
    """Whether it may be an address with a password, which stands at a wrong place."""
    return "://" in text or ":" in text.rpartition("@")[0]
