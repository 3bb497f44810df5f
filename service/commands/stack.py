"""Commands that run the service, whole or in parts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from service.commands.options import AsJson
from service.commands.output import CommandFailed, console

if TYPE_CHECKING:
    from service.local import LocalStack
    from service.process import Listener

LOOK_S: Final = 0.25
FAREWELL_S: Final = 10.0
COLOURS: Final = ("cyan", "magenta", "yellow", "green", "blue")
Workers = Annotated[
    int, typer.Option(min=0, help="Workers to start, for one job each; beside those on a GPU, one more for the CPU.")
]


def up(
    workers: Workers = 1,
    port: Annotated[int | None, typer.Option(help="Port of the API; by default 8000 if it is free.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole service on this machine until Ctrl-C."""
    from service.interruption import end_requested
    from service.local import LocalStack, free_port
    from worker.settings import Settings

    settings = Settings() if port is None else Settings(port=port)
    if "port" not in settings.model_fields_set:
        settings = settings.model_copy(update={"port": free_port(settings.host, settings.port)})
    listener = _json_lines if as_json else _coloured_lines()
    with _explained(), end_requested() as end, LocalStack(settings, listener, workers=workers, announce=True) as stack:
        _greet(stack, as_json)
        stack.run_until(end)


def api(
    make_key: Annotated[
        bool, typer.Option("--make-key", help="Where there is no API key, make one in REINMAX_API_KEYS_FILE.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the API alone, as in a container."""
    from worker.settings import Settings, load_api_keys

    if make_key:
        load_api_keys(Settings())
    if as_json:
        _run_in_json("api", ["service.server"])
    else:
        from service.server import main

        main()


def worker(
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default a GPU where there is one.")] = None,
    gpu: Annotated[int, typer.Option(min=0, help="Which GPU, as nvidia-smi counts.")] = 0,
    queues: Annotated[str | None, typer.Option(help="Only these queues, such as cpu; by default all it can.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a worker alone, as on a GPU machine."""
    arguments = [*(["--device", device] if device else []), "--gpu", str(gpu)]
    arguments += ["--queues", queues] if queues else []
    if as_json:
        _run_in_json("worker", ["worker", *arguments])
    else:
        from worker.process import main

        raise typer.Exit(main(arguments))


def demo(
    to: Annotated[Path, typer.Option(help="Folder for the plot and the log.")] = Path("demo"),
    workers: Workers = 2,
    as_json: AsJson = False,
) -> None:
    """Train real jobs over HTTP on this machine, print a table, save a plot; about two minutes."""
    from service.demo.demonstration import run

    with _explained():
        is_good = run(to, workers=workers, as_json=as_json)
    if not is_good:
        raise typer.Exit(1)


@contextmanager
def _explained() -> Iterator[None]:
    """Ends the command with a sentence where the stack does not come up or break down."""
    from service.local import CONDITIONS

    try:
        yield
    except CONDITIONS as error:
        raise CommandFailed(str(error)) from error


def _run_in_json(name: str, program: Sequence[str]) -> None:
    """Runs a program until it ends or is to end; whatever it writes becomes JSON."""
    from service.interruption import end_requested
    from service.process import StackProcess, stop
    from worker.settings import Settings

    settings = Settings()
    with _explained(), end_requested() as end:
        process = StackProcess(name, program, settings.for_child(), _json_lines)
        try:
            while not end.wait(LOOK_S):
                process.must_live()
        finally:
            stop([process], settings.cancel_grace_s + FAREWELL_S)


def _greet(stack: LocalStack, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"url": stack.url, "dashboard": f"{stack.url}/", "docs": f"{stack.url}/docs"}), flush=True)
        return
    key = f" \\\n  -H 'Authorization: Bearer {stack.api_key}'" if stack.api_key else ""
    console().print(
        f"\n[bold]API[/] and [bold]dashboard[/]   {stack.url}\n[bold]documentation[/]       {stack.url}/docs\n\n"
        f"curl {stack.url}/v1/jobs -H 'Content-Type: application/json'{key} \\\n"
        """  -d '{"task": "polynomial", "estimator": "reinmax", "steps": 8000}'\n\nCtrl-C ends it.\n"""
    )


def _coloured_lines() -> Listener:
    from rich.text import Text

    screen = console()
    colours: dict[str, str] = {}

    def show(name: str, line: str) -> None:
        colour = colours.setdefault(name, COLOURS[len(colours) % len(COLOURS)])
        screen.print(Text.assemble((f"{name:>8} │ ", colour), Text.from_ansi(line)), soft_wrap=True)

    return show


def _json_lines(name: str, line: str) -> None:
    print(json.dumps({"process": name, "line": line}), flush=True)
