"""Run as a subprocess with the git Cerebrum: agents that ask what standard input tells them.

Input: {"agents": N, "jobs": [{"number", "group", "agent", "messages", ...fields of LLMQuery}]}; in
each group N agents ask side by side. Output: one JSON line for each job when it is answered:
number, seconds, and the response or an error.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cerebrum.llm.apis import LLMQuery, aios_kernel_url
from cerebrum.utils.communication import send_request

_printing = threading.Lock()


def ask(job: dict[str, Any]) -> None:
    """One call of one agent, through the SDK."""
    number, agent = job.pop("number"), job.pop("agent")
    begun = time.time()
    said: dict[str, Any] = {"number": number, "response": None, "error": None}
    try:
        found = send_request(agent, LLMQuery(**job), aios_kernel_url)
        said["response"] = found.get("response", found) if isinstance(found, dict) else found
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises is what the agent gets
        said["error"] = f"{type(error).__name__}: {error}"
    said["seconds"], said["begun"] = time.time() - begun, begun
    with _printing:
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    pools: dict[str, ThreadPoolExecutor] = {}
    for job in asked["jobs"]:
        group = job.pop("group", "")
        pool = pools.setdefault(group, ThreadPoolExecutor(asked["agents"]))
        pool.submit(ask, job)
    for pool in pools.values():
        pool.shutdown()
