"""The typer application, and what every command has in common."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Answer", "app", "command", "progress", "working"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich would take longer than all the rest of --help
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass(frozen=True)
class Answer:
    """What a command found.

    Attributes:
        data: records or plain data, for ``--json``.
        view: makes what a terminal shows of it; a text is printed as it is.
        code: 1 when a budget or a check was not met.
    """

    data: Any
    view: Callable[[], RenderableType | str]
    code: int = 0


def command(function: Callable[..., Answer]) -> Callable[..., Answer]:
    """Add a command that prints its Answer, as JSON where ``--json`` is given.

    A parameter whose type is a dataclass stands for a group of options: each of its fields
    becomes one, and the function is given the dataclass.
    """
    hints = get_type_hints(function, include_extras=True)
    groups = {n: h for n, h in hints.items() if is_dataclass(h) and n != "return"}
    parameters = [  # a command's own options first, as --help shows them
        p.replace(annotation=hints[name], kind=p.KEYWORD_ONLY)
        for name, p in inspect.signature(function).parameters.items()
        if name not in groups
    ]
    for group in groups.values():
        parameters += _fields(group)
    json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
    parameters.append(_parameter("json", json, False))

    def run(*, json: bool, **values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{f.name: values.pop(f.name) for f in fields(group)})
        with _stdout_for_answers():
            answer = function(**values)
        _print(answer, json)
        raise typer.Exit(answer.code)

    run.__doc__ = function.__doc__
    run.__signature__ = inspect.Signature(parameters)
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(function.__name__)(run)
    return function


def _fields(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    # A field's default is the class attribute of its name.
    return [
        _parameter(f.name, hints[f.name], getattr(group, f.name, inspect.Parameter.empty))
        for f in fields(group)
    ]


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _print(answer: Answer, json: bool) -> None:
    if json:
        from ..record import encode

        sys.stdout.write(encode(answer.data).decode())
    else:
        from ..reporting.terminal import console

        view, terminal = answer.view(), console()
        with terminal.capture() as shown:
            if isinstance(view, str):
                terminal.out(view, highlight=False)
            else:
                terminal.print(view)
        for line in shown.get().splitlines():  # rich fills each to the terminal's width
            print(line.rstrip())
    sys.stdout.flush()


@contextmanager
def _stdout_for_answers() -> Iterator[None]:
    """Standard output belongs to the answer: what runtimes and users' code print goes to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Say on a terminal's standard error that this is being done; call it to say what next."""
    if not sys.stderr.isatty():
        yield lambda what: None
        return
    from rich.console import Console

    with Console(stderr=True, markup=False).status(what) as status:
        yield status.update


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Something to call with the work done and in all, which shows it on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn(what), BarColumn(), TimeRemainingColumn(elapsed_when_finished=True)
    console = Console(stderr=True, markup=False)
    # Drawing takes time from what is measured: seldom.
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as bar:
        task = bar.add_task(what, visible=False)
        yield lambda done, total: bar.update(
            task, completed=done, total=total, visible=done < total
        )


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"edgewise {version('edgewise')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Compress a trained model until it fits the device, and prove it there.

    Exit codes: 0 done, 1 a budget or check was not met, 2 the call or its input was wrong.
    """
