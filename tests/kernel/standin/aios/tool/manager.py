import subprocess
import sys
from typing import Any

from cerebrum.tool.apis import ToolResponse


class ToolManager:
    def __init__(self) -> None:
        self.broken: list[str] = []
        self.mcp_server_process: Any = None
        self._start_mcp_server()

    def _start_mcp_server(self) -> None:
        """AIOS's runs the script that its configuration names."""
        script = "import time; time.sleep(1e6)"
        self.mcp_server_process = subprocess.Popen([sys.executable, "-I", "-S", "-c", script])

    def address_request(self, syscall: Any) -> Any:
        (call,) = syscall.query.tool_calls
        if call["name"] in self.broken:
            return None
        try:
            found = self.load_tool_instance(call["name"]).run(params=call["parameters"])
        except Exception as error:  # noqa: BLE001 - as AIOS does
            self.broken.append(call["name"])
            found = f"Tool calling error: {error}"
        return ToolResponse(response_message=found, finished=True)

    def load_tool_instance(self, name: str) -> Any:
        raise NotImplementedError

    def cleanup(self) -> None:
        server, self.mcp_server_process = self.mcp_server_process, None
        if server is not None:
            server.terminate()
            server.wait()
