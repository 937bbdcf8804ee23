"""How long a prompt or an answer is, where nobody else has counted it."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Literal

from aios_eccos.errors import EmbedderError
from aios_eccos.history.embed.embedding import find_embedder
from aios_eccos.history.embed.folder import open_tokenizer, refusing_texts
from aios_eccos.providers.wire import MOST_NESTED, clean, mapping, written

log = logging.getLogger("aios_eccos.providers.tokens")

#: Characters per token of English prose in byte-pair encodings.
CHARACTERS_PER_TOKEN = 4
#: Bytes of UTF-8 per token in other scripts: one token for a Chinese, Japanese or Korean
#: character (measured by others: 0.6 to 1.7), two thirds for a Greek or Cyrillic letter.
BYTES_PER_TOKEN = 3
#: What an image costs a prompt, tokens; providers charge 85 to about 1,500.
IMAGE_TOKENS = 800
#: Longest text that is given to the tokenizer, characters: it takes about a second for it.
TOKENIZED_MOST = 200_000

Counter = Literal["tokenizer", "characters"]

#: Types of message parts that are pictures: OpenAI's two interfaces, Anthropic's and Bedrock's,
#: the assistants', vLLM's and Qwen's.
_PICTURES = frozenset(
    {"image_url", "input_image", "image", "image_file", "video_url", "input_video", "video"}
)
#: Keys under which a part carries data with its media type: Gemini's (both spellings),
#: Anthropic's, LangChain's, OpenAI's.
_CARRIERS = ("inline_data", "inlineData", "file_data", "fileData", "source", "file")
_MEDIA_TYPES = ("mime_type", "mimeType", "media_type")


def estimated(text: str) -> int:
    """Tokens of a text by its length; it has to rank models, not to bill."""
    plain = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
    other = 0 if plain == len(text) else len(text.encode("utf-8", "surrogatepass")) - plain
    return math.ceil(plain / CHARACTERS_PER_TOKEN + other / BYTES_PER_TOKEN)


def counted(text: str) -> tuple[int, Counter]:
    """Tokens of a text by the embedder's tokenizer, or by length where there is none."""
    count = tokenizer() if len(text) <= TOKENIZED_MOST else None
    with suppress(EmbedderError):  # a tokenizer may have been made to fail at a text
        if count is not None:
            return count(clean(text)), "tokenizer"
    return estimated(text), "characters"


@functools.lru_cache(maxsize=1)
def tokenizer() -> Callable[[str], int] | None:
    """Counts with the tokenizer of the embedder that is on this machine; None without one."""
    try:
        path = find_embedder().path
        found = open_tokenizer(path)
    except EmbedderError as error:
        log.warning("tokens are estimated by the length of texts: %s", error)
        return None

    def count(text: str) -> int:
        with refusing_texts(path):
            return len(found.encode(text, add_special_tokens=False).ids)

    return count


def text_of(content: object, depth: int = 0) -> str:
    """The text in a message's content: a string, a list of parts, or nothing."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and depth <= MOST_NESTED:
        return "\n".join(text for part in content if (text := _text_in(part, depth + 1)))
    return ""


def _text_in(part: object, depth: int) -> str:
    text = mapping(part).get("text")
    return text if isinstance(text, str) else text_of(mapping(part).get("content"), depth)


def prompt_tokens(messages: Sequence[object], tools: object) -> int:
    """Estimated length of a prompt: texts, images, tool calls and the tools that are offered."""
    turns = [mapping(message) for message in messages]
    extra = [turn.get(key) for turn in turns for key in ("tool_calls", "function_call")]
    texts = [text_of(turn.get("content")) for turn in turns]
    texts += [written(part) for part in (*extra, tools) if part]
    return sum(map(estimated, texts)) + sum(map(images, turns)) * IMAGE_TOKENS


def images(message: object) -> int:
    """Pictures in a message, in every spelling that servers take."""
    turn = mapping(message)
    content, beside = turn.get("content"), turn.get("images")  # Ollama's stand beside the content
    parts = content if isinstance(content, list) else [content]
    return sum(map(_pictures, parts)) + (len(beside) if isinstance(beside, list) else 0)


def _pictures(part: object, depth: int = 0) -> int:
    found = mapping(part)
    kind = found.get("type")
    if (isinstance(kind, str) and kind in _PICTURES) or any(found.get(key) for key in _PICTURES):
        return 1
    inside = found.get("content")  # a tool's result
    if isinstance(inside, list) and depth <= MOST_NESTED:
        return sum(_pictures(each, depth + 1) for each in inside)
    carried = [found, *(mapping(found.get(key)) for key in _CARRIERS)]
    return int(any(_is_picture(each) for each in carried))


def _is_picture(carrier: Mapping[str, object]) -> bool:
    kinds = [carrier.get(key) for key in _MEDIA_TYPES]
    data = carrier.get("file_data")
    kinds.append(data.partition(";")[0].removeprefix("data:") if isinstance(data, str) else None)
    return any(isinstance(kind, str) and kind.startswith(("image/", "video/")) for kind in kinds)
