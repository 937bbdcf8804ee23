"""`aios-eccos`: the list of commands. A command's module is imported when it is called, not before.

Standard output carries the answer (with `--json`, JSON only); everything else goes to standard
error. Exit codes: 0 done, 1 done but something is wrong, 2 the call's words are off, 130 and 143
ended by Ctrl-C and SIGTERM. A command does its work whether or not somebody reads on (`| head`).
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from aios_eccos import __version__
from aios_eccos.errors import EccosError, escape_logs, plain

#: Command -> (module of this package, one line of help). The module's function has the command's
#: name (`-` as `_`), or the module is a group of commands called `app`.
COMMANDS = {
    "demo": ("lab.commands.demo", "Route recorded answers over real HTTP and compare strategies."),
    "init": ("cli.enable", "Propose settings with reasons, and switch the plugin on."),
    "enable": ("cli.enable", "Switch the plugin on in an AIOS checkout."),
    "disable": ("cli.enable", "Switch it off and restore AIOS's configuration."),
    "run": ("cli.enable", "Load the plugin into one start of AIOS."),
    "mode": ("cli.enable", "Choose between route, observe and canary."),
    "audit": ("cli.audit", "Let copies of calls prove which models save money."),
    "doctor": ("cli.doctor", "Check AIOS's contract and this installation."),
    "status": ("cli.look_ups", "Load, spend, savings, promised and realised success."),
    "top": ("cli.top", "The same, live and full-screen."),
    "last": ("cli.look_ups", "The last decisions."),
    "explain": ("cli.look_ups", "Why a call went where it did."),
    "feedback": ("cli.look_ups", "Say whether a served answer was right."),
    "savings": ("cli.look_ups", "Money and success against a named baseline."),
    "events": ("cli.look_ups", "Changes of floor, limits, prices and head."),
    "route": ("cli.route", "Show which model would serve a query, and why."),
    "ingest": ("cli.ingest", "Add graded records (QAServe) to the history."),
    "forget": ("cli.ingest", "Remove an agent's records from the history."),
    "collect": ("cli.collect", "Prompt the configured models over questions, grade, record."),
    "import": ("lab.commands.importers", "Turn published benchmarks into records."),
    "train": ("cli.train", "Fit the head on recorded answers or on the history."),
    "certify": ("cli.certify", "Certify a floor on records that nothing was fitted on."),
    "evaluate": (
        "lab.commands.evaluate",
        "Replay recorded answers under strategies, floors and limits.",
    ),
    "whatif": (
        "lab.commands.whatif",
        "Decide the kernel's recent calls again under other settings.",
    ),
    "evaluate-predictor": (
        "lab.commands.evaluate_predictor",
        "Measure forecasts and floors on unseen rows.",
    ),
    "bench": ("lab.commands.bench", "Measure against budgets and peers."),
}


class LazyGroup(TyperGroup):
    """Imports a command when it is called; contexts are `Any`, since typers differ in them."""

    listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command itself; while listing, only its name and help."""
        if cmd_name not in COMMANDS:
            return None
        module, text = COMMANDS[cmd_name]
        if self.listing:
            return TyperCommand(cmd_name, help=text)
        found = importlib.import_module(f"aios_eccos.{module}")
        target = vars(found).get(cmd_name.replace("-", "_")) or found.app
        if isinstance(target, typer.Typer):
            return typer.main.get_command(target)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name=cmd_name)(target)
        return typer.main.get_command(single)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self.listing = True
        super().format_help(ctx, formatter)


app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Least-cost LLM routing under a quality floor, as a plugin for the AIOS kernel."""


#: What may be a sign that a terminal obeys.
_DOUBTFUL = re.compile(r"[^\n\t\x20-\x7e]")


class Output:
    """Standard output or error; what is written after its reader has gone is dropped.

    What a terminal would obey, or the stream's encoding cannot hold, is written escaped, as JSON
    escapes it: names come from others.

    Attributes:
        unread: whether the reader has gone.
        rich_proxied_file: where rich writes, whose colors the terminal is to obey.
    """

    def __init__(self, stream: Any, *, obeyed: bool = False) -> None:
        self.unread, self._stream, self._obeyed = False, stream, obeyed
        self._encoding: str = getattr(stream, "encoding", None) or "utf-8"
        # Click would go round us to a stream that says it holds less.
        self.encoding = self._encoding if obeyed else "utf-8"
        self.rich_proxied_file = self if obeyed else Output(stream, obeyed=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        shown = _DOUBTFUL.sub(self._shown, text)
        self._do(lambda: self._stream.write(shown))
        return len(text)

    def _shown(self, sign: re.Match[str]) -> str:
        """The sign itself where it can be seen."""
        held = sign[0].encode(self._encoding, "ignore")
        passes = held and (self._obeyed or sign[0].isprintable())
        return sign[0] if passes else json.dumps(sign[0])[1:-1]

    def flush(self) -> None:
        self._do(self._stream.flush)

    def _do(self, work: Any) -> None:
        try:
            work()
        except BrokenPipeError:
            self.unread = True
            # What is still buffered goes there, too.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def _outputs() -> Iterator[None]:
    before = sys.stdout, sys.stderr
    made: list[Any] = [stream and Output(stream) for stream in before]  # None where it is closed
    sys.stdout, sys.stderr = made
    try:
        yield
    finally:
        for each in filter(None, made):
            each.flush()
        sys.stdout, sys.stderr = before


#: What a disk or its owner refuses; the error names the file.
REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


def _end_with_sigterm() -> None:
    """Have SIGTERM end a command as Ctrl-C does: files half written and children go with it."""

    def end(number: int, frame: Any) -> None:
        sys.exit(128 + number)

    alone = threading.current_thread() is threading.main_thread()
    if alone and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, end)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; errors that are ours become one line and exit code 1."""
    # Nothing of ours phones home, nor do the libraries below us; nothing is fetched on the way.
    os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    escape_logs()
    _end_with_sigterm()
    with _outputs():
        try:
            return app(arguments)
        except (EccosError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in REFUSED:
                raise
            for line in f"aios-eccos: {error}".split("\n"):
                typer.echo(plain(line), err=True)
            sys.exit(1)


if __name__ == "__main__":
    main()
