from typing import Any


class ToolManager:
    """AIOS's starts a tool server as a child process; the stand-in has none."""

    def __init__(self) -> None:
        self.mcp_server_process = None

    def address_request(self, syscall: Any) -> Any:
        return syscall.query

    def cleanup(self) -> None:
        self.cleaned = True
