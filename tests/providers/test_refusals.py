"""Servers' own words when they refuse what another model may serve."""

from __future__ import annotations

import time

import pytest

from aios_eccos.providers.failures import StatusError, failure_of
from aios_eccos.providers.refusals import refused, window_in

#: Server, its words, and the window that it names.
TOO_LONG: list[tuple[str, str, int | None]] = [
    (
        "OpenAI",
        "This model's maximum context length is 8192 tokens. However, your messages resulted in "
        "9021 tokens. Please reduce the length of the messages.",
        8192,
    ),
    ("OpenAI, code", '{"message": "too long", "code": "context_length_exceeded"}', None),
    ("OpenAI, Responses", "Your input exceeds the context window of this model.", None),
    (
        "vLLM",
        "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens "
        "(8000 in the messages, 1000 in the completion).",
        4096,
    ),
    (
        "vLLM, answer",
        "'max_tokens' or 'max_completion_tokens' is too large: 1000. This model's maximum context "
        "length is 512 tokens and your request has 100 input tokens (1000 > 512 - 100).",
        512,
    ),
    (
        "vLLM, engine",
        "The decoder prompt (length 9000) is longer than the maximum model length of 4096.",
        4096,
    ),
    (
        "SGLang",
        "The input (9000 tokens) is longer than the model's context length (4096 tokens).",
        4096,
    ),
    (
        "SGLang, answer",
        "Requested token count exceeds the model's maximum context length of 4096 tokens. You "
        "requested a total of 9000 tokens.",
        4096,
    ),
    (
        "llama.cpp",
        '{"code":400,"message":"the request exceeds the available context size, try increasing it"'
        ',"type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":4096}',
        4096,
    ),
    (
        "llama.cpp, 2025",
        "request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it",
        4096,
    ),
    (
        "TGI",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 9000 "
        "`inputs` tokens and 1000 `max_new_tokens`",
        4096,
    ),
    (
        "TGI, prompt",
        "Input validation error: `inputs` must have less than 1024 tokens. Given: 5000",
        1024,
    ),
    ("Ollama", "input length exceeds maximum context length", None),
    ("Ollama, chat", "prompt too long; exceeded max context length by 1234 tokens", None),
    ("Anthropic", "prompt is too long: 210000 tokens > 200000 maximum", 200000),
    (
        "Anthropic, answer",
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease "
        "input length or `max_tokens` and try again",
        200000,
    ),
    ("Anthropic, bytes", '{"type":"request_too_large","message":"Request exceeds the size"}', None),
    (
        "Gemini",
        "The input token count (1100000) exceeds the maximum number of tokens allowed (1048576).",
        1048576,
    ),
    (
        "Mistral",
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum "
        "context length",
        32768,
    ),
    (
        "DeepSeek",
        "This model's maximum context length is 65,536 tokens. However, you requested 70000.",
        65536,
    ),
    ("Groq", "Please reduce the length of the messages or completion.", None),
    (
        "Cohere",
        "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000.",
        4081,
    ),
    ("Bedrock", "Input is too long for requested model.", None),
    (
        "xAI",
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        131072,
    ),
    (
        "OpenRouter",
        "This endpoint's maximum context length is 163840 tokens. However, you requested about "
        "200000 tokens.",
        163840,
    ),
    ("Fireworks", "The prompt is too long: 9000, model maximum context length: 4096", 4096),
    ("Cerebras", "Current length is 9000 while limit is 8192", 8192),
    ("Moonshot", "Invalid request: Your request exceeded model token limit: 8192", 8192),
    ("DashScope", "Range of input length should be [1, 30720]", 30720),
    (
        "GitHub Models",
        "Request body too large for gpt-4o model. Max size: 8000 tokens. tokens_limit_reached",
        8000,
    ),
    (
        "watsonx",
        "the number of input tokens 9000 cannot exceed the total tokens limit 8192 for this model",
        8192,
    ),
    (
        "LM Studio",
        "Trying to keep the first 5000 tokens when context the overflows. However, the model is "
        "loaded with context length of only 4096 tokens",
        4096,
    ),
    ("LiteLLM", "litellm.ContextWindowExceededError: OpenAIException", None),
]


@pytest.mark.parametrize(
    ("words", "window"), [row[1:] for row in TOO_LONG], ids=[row[0] for row in TOO_LONG]
)
def test_a_prompt_too_long_is_told_in_every_servers_words(words: str, window: int | None) -> None:
    assert refused(words) == "context"
    assert window_in(words) == window


#: What is refused, the status, and the server's words.
OTHERS: list[tuple[str, int, str]] = [
    # tools
    ("tools", 400, "registry.ollama.ai/library/gemma:2b does not support tools"),  # Ollama
    (
        "tools",
        400,
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser',  # vLLM
    ),
    ("tools", 500, "tools param requires --jinja flag"),  # llama.cpp
    ("tools", 404, "No endpoints found that support tool use."),  # OpenRouter
    ("tools", 400, "'tools' is not supported with this model"),  # OpenAI
    ("tools", 400, "`tool calling` is not supported with this model"),  # Groq
    ("tools", 400, "Function calling is not enabled for models/gemma-3-4b-it"),  # Gemini
    ("tools", 400, "This model doesn't support tool use."),  # Bedrock
    ("tools", 400, "deepseek-reasoner does not support Function Calling"),  # DeepSeek
    # images
    ("vision", 405, "Model does not accept image input"),  # weave-os/router#318
    ("vision", 400, "image_url is only supported by certain models"),  # OpenAI
    ("vision", 404, "No endpoints found that support image input"),  # OpenRouter
    ("vision", 400, "At most 0 image(s) may be provided in one request."),  # vLLM
    ("vision", 400, "llama-2-7b is not a multimodal model"),  # vLLM
    ("vision", 500, "image input is not supported - hint: you may need the mmproj"),  # llama.cpp
    ("vision", 500, "this model is missing data required for image input"),  # Ollama
    ("vision", 400, "messages[0]: unknown variant `image_url`, expected `text`"),  # DeepSeek
    ("vision", 400, "'messages.0' : 'content' must be a string"),  # Groq
    ("vision", 400, "Image input modality is not enabled for models/gemma-3-1b-it"),  # Gemini
    ("vision", 400, "Model does not support images. Please use a model that does."),  # LM Studio
    # JSON
    ("json", 400, "This response_format type is unavailable now"),  # DeepSeek
    (
        "json",
        400,
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this "
        "model.",  # OpenAI
    ),
    ("json", 400, "JSON mode is not enabled for models/gemma-3-4b-it"),  # Gemini
    ("json", 400, "This model does not support response format `json_schema`."),  # Groq
    # filters
    ("filter", 400, '{"message": "The response was filtered", "code": "content_filter"}'),  # Azure
    (
        "filter",
        400,
        "The response was filtered due to the prompt triggering Azure OpenAI's content management "
        "policy",
    ),
    ("filter", 400, "Your request was rejected as a result of our safety system."),  # OpenAI
    ("filter", 400, "Output blocked by content filtering policy"),  # Anthropic
    ("filter", 403, "Your chosen model requires moderation and your input was flagged"),
    ("filter", 400, "Content Exists Risk"),  # DeepSeek
    ("filter", 400, "DataInspectionFailed: Input data may contain inappropriate content."),
    ("filter", 400, "Content blocked by guardrail: PROHIBITED_CONTENT"),  # Gemini, Bedrock
    # answers
    ("output", 400, "max_tokens is too large: 100000. This model supports at most 4096 completion "
     "tokens"),  # OpenAI
    (
        "output",
        400,
        "max_tokens: 9000 > 8192, which is the maximum allowed number of output tokens for x",
    ),  # Anthropic
    ("output", 400, "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"),
    # others
    ("other", 400, "System role not supported"),  # Gemma's template
    ("other", 400, "Conversation roles must alternate user/assistant/user/assistant/..."),
    ("other", 400, "Unsupported parameter: 'temperature' is not a valid one for this model."),
    ("other", 400, "model x does not support logprobs"),
    # lengths
    ("context", 413, "Request Entity Too Large"),
    ("context", 413, ""),
    ("context", 422, "Input validation error: `inputs` must have less than 1024 tokens"),  # TGI
    ("context", 429, "Request too large for gpt-4o on tokens per min (TPM): Limit 6000, Requested "
     "9000"),  # OpenAI
]  # fmt: skip


@pytest.mark.parametrize(("kind", "status", "words"), OTHERS, ids=[o[2][:40] for o in OTHERS])
def test_what_only_this_model_refuses_another_is_asked(kind: str, status: int, words: str) -> None:
    failure = failure_of(StatusError(status, words))
    assert failure.refused == kind
    assert (failure.elsewhere, failure.retryable, failure.rests) == (True, False, False)
    assert failure.status_code == status


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "messages: at least one message is required"),
        (400, "Invalid value for 'temperature': must be between 0 and 2"),
        (400, "Invalid schema for function 'add': properties must be an object"),
        (400, "the stub was told to fail"),
        (401, "This model does not support tools for your key"),
        (404, "The model `x` does not exist"),
        (403, "You do not have access to this image model"),
        (429, "Rate limit reached for x on tokens per min (TPM): Limit 10000, Used 9500"),
        (429, "Too many tokens, please wait before trying again."),  # Bedrock
        (429, "Requests have exceeded token rate limit of your pricing tier."),  # Azure
        (503, "The model does not support tools while it is loading"),
        (500, "Internal server error"),
    ],
)
def test_other_errors_are_no_refusals_of_this_model_alone(status: int, words: str) -> None:
    assert failure_of(StatusError(status, words)).refused is None


@pytest.mark.parametrize(
    "word",
    ["exceed", "maxexceed", "exceedmax", "max_", "not a ", "1", "1_"]
    + ["<=", "limit ", "[1,\n", "> "],
)
def test_words_that_repeat_for_ever_are_looked_through_at_once(word: str) -> None:
    text = word * 4000
    begun = time.thread_time()
    refused(text)
    window_in(text)
    assert time.thread_time() - begun < 1, "all other threads wait meanwhile"
