"""Tells waiters, on a thread of its own, that a slot came back."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Notifier:
    """Calls registered callbacks; notices that come while it calls them are told together.

    The thread starts with the first callback, so that a store nobody waits on has none.
    """

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []
        self._news = threading.Event()
        self._closed = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, callback: Callable[[], None]) -> None:
        """Register a callback, once however often it is given."""
        with self._lock:
            if callback not in self._callbacks:
                self._callbacks.append(callback)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="eccos-notify", daemon=True)
                self._thread.start()

    def notify(self) -> None:
        """Wake the waiters soon; never blocks."""
        self._news.set()

    def close(self) -> None:
        """End the thread; idempotent."""
        with self._lock:
            self._closed = True
            thread = self._thread
        self._news.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            if self._closed:
                return
            for callback in tuple(self._callbacks):
                callback()
