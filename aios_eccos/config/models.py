"""The entries of `llms.models`: AIOS's own keys, and what the plugin adds to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field, SecretStr, ValidationError, field_validator

from aios_eccos.config.checks import Checked, misspelt, no_mapping, refuse
from aios_eccos.config.local import canonical, check_address, is_local
from aios_eccos.errors import ConfigError
from aios_eccos.values import CACHE_TTL_S, Ability, Model, Rates

#: Calls in flight by backend where `concurrency` is not set: what their servers do by default.
DEFAULT_CONCURRENCY = {"ollama": 4, "huggingface": 1, "hflocal": 1}
OTHER_CONCURRENCY = 32
#: Dollars per token. The dearest model that LiteLLM's table knows costs 0.0097, most cost a
#: thousandth of that; prices per million begin at about 0.01.
HIGHEST_PRICE = 0.01


class ModelEntry(Checked, extra="ignore"):
    """One entry of `llms.models`. AIOS and LiteLLM have more keys, which are let be."""

    name: str = Field(min_length=1)
    backend: str = ""
    hostname: str | None = Field(default=None, repr=False)
    api_key: SecretStr | None = None
    concurrency: int | None = Field(default=None, ge=1, le=1_000_000)
    rpm: int | None = Field(default=None, ge=1, le=10**9)
    tpm: int | None = Field(default=None, ge=1, le=10**12)
    input_cost_per_token: float | None = Field(default=None, ge=0)
    output_cost_per_token: float | None = Field(default=None, ge=0)
    cache_read_input_token_cost: float | None = Field(default=None, ge=0)
    cache_ttl_s: float = Field(default=CACHE_TTL_S, ge=0, le=30 * 86_400.0)
    context_window: int | None = Field(default=None, ge=1, le=10**9)
    abilities: frozenset[Ability] | None = None
    size_b: float | None = Field(default=None, gt=0, le=1e6)
    strength: float | None = Field(default=None, ge=0, le=1)
    local: bool | None = None
    shared_server: bool = False

    @field_validator("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost")
    @classmethod
    def _per_token(cls, price: float | None) -> float | None:
        """Price lists are per million; costs would be a million times too high without a word."""
        if price is not None and price >= HIGHEST_PRICE:
            raise ValueError(
                f"that is ${price * 1e6:,.0f} per million tokens. Prices are per token: "
                f"${price:g} per million is written {price / 1e6:.6g}"
            )
        return price

    def model(self) -> Model:
        """The entry as the rest of the plugin sees it, without keys and addresses."""
        default = DEFAULT_CONCURRENCY.get(self.backend, OTHER_CONCURRENCY)
        return Model(
            name=self.name,
            endpoint=canonical(self.hostname) if self.hostname else self.backend,
            limit=self.concurrency or default,
            input_price=self.input_cost_per_token,
            output_price=self.output_cost_per_token,
            cached_price=self.cache_read_input_token_cost,
            cache_ttl_s=self.cache_ttl_s,
            context_window=self.context_window,
            abilities=self.abilities,
            size_b=self.size_b,
            strength=self.strength,
            local=self.is_local,
            rates=Rates(self.rpm, self.tpm),
        )

    @field_validator("hostname")
    @classmethod
    def _an_address(cls, hostname: str | None) -> str | None:
        return check_address(hostname) if hostname else hostname

    @property
    def is_local(self) -> bool:
        """Whether it may read what private agents ask: as declared, else by its address."""
        return is_local(self.hostname, self.backend) if self.local is None else self.local


def parse_models(raw: object) -> list[ModelEntry]:
    """Validate `llms.models`: every entry, and that names are unique; see `parse_settings`."""
    where = "llms.models"
    if not isinstance(raw, Sequence) or isinstance(raw, str) or not raw:
        raise ConfigError(f"{where}: wanted a list with at least one model")
    entries: dict[str, ModelEntry] = {}
    for position, item in enumerate(raw):
        place = f"{where}[{position}]"
        if not isinstance(item, Mapping):
            raise no_mapping(place, item, "with a name")
        for key in item:
            meant = misspelt(key, ModelEntry.model_fields)
            if meant is not None:
                raise ConfigError(f"{place}.{key}: unknown key; did you mean {meant!r}?")
        try:
            entry = ModelEntry.model_validate(dict(item))
        except ValidationError as error:
            refuse(error, place, ModelEntry.model_fields)
        if entry.name in entries:
            raise ConfigError(
                f"{place}.name = {entry.name!r} stands twice: AIOS cannot tell two models of one "
                "name apart; rename or remove one"
            )
        entries[entry.name] = entry
    return list(entries.values())
