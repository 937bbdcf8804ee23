"""A small agent on AIOS, written with Cerebrum's SDK. It knows nothing of aios-eccos.

    CEREBRUM_KERNEL_URL=http://localhost:8000 python examples/agent.py "What is 17 x 23?"

The first call names no model, so the kernel's router chooses. The second allows every model and
asks for a safer choice: hints ride in the entries of `llms`, under a key that kernels without the
plugin ignore (they take the first model of the list).
"""

from __future__ import annotations

import sys

from cerebrum.llm.apis import list_available_llms, llm_chat

NAME = "example/two-steps"


def ask(messages: list[dict[str, str]], **options: object) -> str:
    """One call; the answer's text, or the kernel's error as an exception."""
    response = llm_chat(NAME, messages, **options)["response"]
    if response["error"]:
        raise RuntimeError(response["error"])
    text: str = response["response_message"]
    return text


def main(question: str) -> None:
    """Answer, then check the answer."""
    messages = [{"role": "user", "content": question}]
    answer = ask(messages)
    sys.stdout.write(f"answer: {answer}\n")
    messages += [
        {"role": "assistant", "content": answer},
        {"role": "user", "content": "Is that right? Say yes or no, then why."},
    ]
    hints = {"floor": 0.9, "priority": 1}
    models = [
        {"name": model["name"], "backend": model["backend"], "eccos": hints}
        for model in list_available_llms()["llms"]
    ]
    sys.stdout.write(f"checked: {ask(messages, llms=models)}\n")


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "What is 17 x 23?")
