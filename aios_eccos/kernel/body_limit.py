"""Routes that read no more of a request's body than they can use."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request
from fastapi.routing import APIRoute

#: Most bytes of a request to /eccos/: a text to be explained has 200,000 signs, some in `\\u0000`.
OURS = 2_000_000
#: Most bytes of an agent's request, whose messages may hold pictures.
AGENTS = 64_000_000
#: Most values of a body: as Python's objects each takes many times its length.
MOST_VALUES = 2_000_000


def limited(most: int) -> type[APIRoute]:
    """FastAPI's route, which answers 413 to a longer body, and reads no more than `most` of it."""

    class Limited(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Any]]:
            handler = super().get_route_handler()

            async def answer(request: Request) -> Any:
                left, values = most, MOST_VALUES

                async def receive() -> Any:
                    nonlocal left, values
                    message = await request.receive()
                    part = message.get("body", b"")
                    left -= len(part)
                    values -= sum(map(part.count, (b",", b"[", b"{")))
                    if left < 0:
                        raise HTTPException(413, f"a request's body may have {most:,} bytes")
                    if values < 0:
                        raise HTTPException(413, f"a body may have {MOST_VALUES:,} values")
                    return message

                declared = request.headers.get("content-length", "")
                if declared.isdecimal() and int(declared[:20]) > most:
                    raise HTTPException(413, f"a request's body may have {most:,} bytes")
                return await handler(Request(request.scope, receive))

            return answer

    return Limited
