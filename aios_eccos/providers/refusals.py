"""What one model refuses and another may serve, read off its server's own words.

Each pattern is followed by the servers whose words it was made of; `tests/providers` has the words.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import get_args

from aios_eccos.providers.usage import whole
from aios_eccos.values import Refused

ANY: frozenset[Refused] = frozenset(get_args(Refused))
#: Characters of an error that are looked through.
LOOKED_AT = 4000
_NOT = (
    r"(?:(?:not|n't|never|cannot) (?:\w+ ){0,2}(?:support|accept|enabled|allow|available|be used)"
    r"|unsupported|unavailable|disabled|only supported by|no endpoints found that support"
    r"|requires? --|missing data required for)"
)
_TOOLS = (
    r"(?:tool(?:s|_choice)?\b|tool[- _](?:use|call\w*|choice)|functions?[- _]call\w*|'functions?')"
)
_IMAGES = r"(?:images?\b|image_url|image[- _]input|vision|multi-?modal|pictures?)"
_JSON = (
    r"(?:response[_ ]?format|json[- _](?:mode|schema|object)|structured[- _]output|guided|grammar)"
)


def _both(one: str, other: str) -> str:
    """The two near each other within a sentence, in either order."""
    return rf"{one}[^\n]{{0,80}}?{other}|{other}[^\n]{{0,80}}?{one}"


#: In this order: the first kind whose pattern is found.
_WORDS: tuple[tuple[Refused, str], ...] = (
    (
        "filter",
        r"content[_ ]?(?:policy|filter|management|moderation|exists risk|blocked)"  # OpenAI, Azure
        r"|response was filtered|responsible_?ai|safety system|usage polic"
        r"|(?:was|been|is) flagged|prohibited_content|guardrail"  # OpenRouter, Gemini, Bedrock
        r"|data_?inspection|inappropriate content|requires moderation"  # DashScope, OpenRouter
        r"|(?:harm|safety|sensitive)[\w ]{0,20}(?:block|filter|content|setting)",  # Gemini, Zhipu
    ),
    (
        "context",
        r"context_?(?:length|window|size)_?(?:exceeded|error)|exceed_context|contextwindowexceeded"
        r"|tokens_limit_reached|request_too_large|request (?:body )?too large"  # Groq, GitHub
        r"|context[- _](?:length|window|size|limit)"  # OpenAI, vLLM, SGLang, llama.cpp, Ollama
        r"|(?:prompt|input|inputs|request|message|messages|conversation)\b[^.]{0,30}"
        r"\btoo (?:long|large|many tokens)"  # Anthropic, Bedrock, Ollama
        r"|too many (?:input |total |prompt )?tokens(?! per)"  # Cohere
        r"|(?:input|prompt|inputs|total|token)s?\b[^.]{0,60}tokens?\b[^.]{0,40}"
        r"(?:exceed|too (?:large|long)|must be <=|must have less)"  # Gemini, TGI, Mistral, watsonx
        r"|exceed[^.]{0,50}(?:token limit|number of tokens|tokens allowed|max\w{0,20} token)"
        r"|must have less than \d+ tokens|(?:maximum|max) (?:prompt|input|model|sequence) length"
        r"|length of (?:the )?messages|range of input length|while limit is \d",  # DashScope
    ),
    (
        "output",
        r"at most \d+ (?:completion|output) tokens|max\w* (?:allowed )?(?:number of )?output token"
        r"|max_\w*tokens\W{1,4}(?:must be|should be|value)|range of max_tokens",  # Groq, DeepSeek
    ),
    (
        "vision",
        _both(_IMAGES, _NOT)
        + r"|at most 0 image|unknown variant .image_url|not a multi-?modal"  # vLLM, DeepSeek
        + r"|content\W{0,2} must be a string",  # Groq
    ),
    ("tools", _both(_TOOLS, _NOT)),
    ("json", _both(_JSON, _NOT)),
    (
        "other",
        r"(?:system|developer)[- _](?:role|message|prompt|instruction)s?[^.]{0,40}not (?:support"
        r"|allow|enabled)|roles must alternate"  # chat templates
        r"|(?:model|endpoint|provider)[^.]{0,60}(?:not|n't) support"
        r"|unsupported (?:parameter|value)",  # OpenAI
    ),
)
_PATTERNS = tuple((kind, re.compile(words, re.IGNORECASE)) for kind, words in _WORDS)
#: Where servers name the window: as what was exceeded, before its size, or after it.
_WINDOWS = tuple(
    re.compile(words, re.IGNORECASE)
    for words in (
        r"> ?(\d{3,})",
        r"(?:context[- _](?:length|window|size|limit)|n_ctx|max\w* (?:model|prompt|input) length"
        r"|limit|allowed|max(?:imum)? size|less than|cannot exceed|<=|\[1,)"
        r"\W{0,9}(?:is|of|to)?\W{0,9}(?:only )?(\d[\d,_]{2,})",
        r"(?<!\d)(\d[\d,_]{2,20})(?: tokens?)? (?:max|context)",
    )
)


def refused(text: str, among: Collection[Refused] = ANY) -> Refused | None:
    """What a server refuses that another model may do; None where the words do not say so."""
    head = text[:LOOKED_AT]
    found = (kind for kind, words in _PATTERNS if kind in among and words.search(head))
    return next(found, None)


def window_in(text: str) -> int | None:
    """The context window in tokens that a server names when it refuses a prompt."""
    found = (pattern.search(text[:LOOKED_AT]) for pattern in _WINDOWS)
    number = next((match[1] for match in found if match), "")
    return whole(number.replace(",", "").replace("_", ""))
