"""The fair opponent: stock AIOS with a 10 ms interval and a thread for each call.

Loaded by PYTHONPATH into one kernel, for the comparison alone.
"""

import importlib.abc
import sys
import threading

TARGET = "aios.scheduler.fifo_scheduler"
INTERVAL_S = 0.01


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != TARGET:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                run = spec.loader.exec_module

                def exec_module(module, run=run):
                    run(module)
                    patch(module.FIFOScheduler)

                spec.loader.exec_module = exec_module
                return spec
        return None


def patch(scheduler):
    stock = scheduler.__init__

    def init(self, *args, **kwargs):
        stock(self, *args, **kwargs)
        self.batch_interval = INTERVAL_S

    def execute(self, batch, executor, syscall_type):
        for syscall in batch:
            threading.Thread(target=executor, args=([syscall],), daemon=True).start()

    scheduler.__init__ = init
    scheduler._execute_batch_syscalls = execute


sys.meta_path.insert(0, Finder())
