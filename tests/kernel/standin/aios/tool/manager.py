import subprocess
import sys
from typing import Any


class ToolManager:
    def __init__(self) -> None:
        self.mcp_server_process: Any = None
        self._start_mcp_server()

    def _start_mcp_server(self) -> None:
        """AIOS's runs the script that its configuration names."""
        script = "import time; time.sleep(1e6)"
        self.mcp_server_process = subprocess.Popen([sys.executable, "-I", "-S", "-c", script])

    def address_request(self, syscall: Any) -> Any:
        return syscall.query

    def cleanup(self) -> None:
        server, self.mcp_server_process = self.mcp_server_process, None
        if server is not None:
            server.terminate()
            server.wait()
