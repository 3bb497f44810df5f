"""The `reinmax` command."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import typer

from service.commands import here, jobs, stack, sweeps, tables
from service.commands.output import CommandFailed

app = typer.Typer(
    name="reinmax",
    help="Train neural networks with discrete choices inside, here or as jobs of a service.",
    epilog="REINMAX_URL is the service's address, REINMAX_API_KEY the key to it; by default the one on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PANELS: dict[str, dict[str, Callable[..., None]]] = {
    "Jobs": {
        "submit": jobs.submit,
        "watch": jobs.watch,
        "list": jobs.list_jobs,
        "show": jobs.show,
        "logs": jobs.logs,
        "metrics": jobs.metrics,
        "artifacts": jobs.artifacts,
        "download": jobs.download,
        "cancel": jobs.cancel,
        "pause": jobs.pause,
        "resume": jobs.resume,
        "retry": jobs.retry,
        "delete": jobs.delete,
    },
    "Sweeps": {
        "sweep": sweeps.sweep,
        "sweeps": sweeps.list_sweeps,
        "extend": sweeps.extend,
        "table": tables.table,
        "plot": tables.plot,
    },
    "Service": {"up": stack.up, "api": stack.api, "worker": stack.worker, "demo": stack.demo},
    "This machine": {"train": here.train, "doctor": here.doctor},
}
for panel, commands in PANELS.items():
    for name, command in commands.items():
        app.command(name, rich_help_panel=panel)(command)


def main() -> None:
    """Runs the command line; conditions that the user can put right end it with a sentence and exit code 1."""
    try:
        app()
    except Exception as error:
        if not isinstance(error, _expected()):
            raise
        _report(error)
        sys.exit(1)


def _report(error: Exception) -> None:
    if "--json" in sys.argv:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}), file=sys.stderr)
    else:
        print(f"error: {error}", file=sys.stderr)


def _expected() -> tuple[type[Exception], ...]:
    # Imported only when something was raised, so that a command that works does not pay for it.
    from service.client.errors import ServiceError
    from service.commands.training import TrainingFailed, TrainingInterrupted
    from worker.settings import InvalidKeyFile, InvalidSettings

    return CommandFailed, ServiceError, TrainingFailed, TrainingInterrupted, InvalidKeyFile, InvalidSettings
