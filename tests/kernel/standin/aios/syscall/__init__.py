from threading import Event, Thread
from typing import Any


class Syscall(Thread):
    def __init__(self, agent_name: str, query: Any) -> None:
        super().__init__()
        self.agent_name = agent_name
        self.query = query
        self.event = Event()
        self.status: Any = None
        self.response: Any = None
        self.start_time: Any = None
        self.end_time: Any = None

    def set_status(self, status: str) -> None:
        self.status = status

    def get_status(self) -> Any:
        return self.status

    def set_response(self, response: Any) -> None:
        self.response = response

    def set_start_time(self, time: float) -> None:
        self.start_time = time

    def get_start_time(self) -> Any:
        return self.start_time

    def set_end_time(self, time: float) -> None:
        self.end_time = time

    def run(self) -> None:
        self.event.wait()
