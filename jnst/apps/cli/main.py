"""Parse the command line, run a command, and turn errors into one line and an exit status."""

import argparse
import contextlib
import io
import itertools
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import tyro

import jnst
from jnst.apps.cli.apply import Apply, Export
from jnst.apps.cli.arguments import AUTO
from jnst.apps.cli.demo import Demo
from jnst.apps.cli.grid import Grid
from jnst.apps.cli.interruption import NUMBERS, Terminated, end_process, leave, promptly
from jnst.apps.cli.listing import Backbones, Presets, Statistics
from jnst.apps.cli.outputs import command_line, with_values
from jnst.apps.cli.programs import kept_programs
from jnst.apps.cli.startup import prepare_streams
from jnst.apps.cli.stylize import Reconstruct, Stylize, Synthesize
from jnst.apps.cli.train import Train
from jnst.apps.cli.weights import Weights
from jnst.errors import ArgumentError, JnstError, ResourceError, hint
from jnst.transfer.memory import exhausted, ran_out
from jnst.transfer.stages import is_compiling

FRAME, RULE = "\u2502\u256d\u256e\u2570\u256f", "\u2500-"
"""Characters that tyro draws with. Hyphens take the place of lines if standard output is not UTF-8."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The arguments; None for those of this process, which then ends quickly if it was interrupted.

    Returns:
        0 if all went well, 2 for wrong arguments, 3 for an image, 4 for weights, 5 for a loss that is not finite, 6 for
        memory or disk space, 1 for any other error of jnst, 130 if interrupted, 143 if terminated.
    """
    prepare_streams()
    status = _main(list(sys.argv[1:] if argv is None else argv), own_process=argv is None)
    if argv is None and status - 128 in NUMBERS:
        # On a busy machine the interpreter takes seconds to end by itself.
        leave(status - 128)
    if argv is None and is_compiling():
        # A run that ended early has no use for the programs of further sizes.
        end_process(status)
    return status


def _main(args: list[str], *, own_process: bool) -> int:
    debug = "--debug" in args
    args = with_values([arg for arg in args if arg != "--debug"])
    try:
        with promptly(), _plain_warnings() if own_process else contextlib.nullcontext():
            return _run(args, own_process=own_process)
    except KeyboardInterrupt as interrupt:
        return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)
    except BrokenPipeError:
        # Whoever read standard output has gone, which is no error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        known = _as_known(error)
        if debug or known is None:
            raise
        print(f"jnst: error: {known}", file=sys.stderr)
        return known.exit_code


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print warnings in one line, without the place in the code that they come from."""

    def show(message: Warning | str, *_: Any) -> None:
        print(f"jnst: {' '.join(str(message).split())}", file=sys.stderr, flush=True)

    before, warnings.showwarning = warnings.showwarning, show
    try:
        yield
    finally:
        warnings.showwarning = before


def _run(args: list[str], *, own_process: bool) -> int:
    if args == ["--version"]:
        print(f"jnst {jnst.__version__}", flush=True)
        return 0
    command_line.set(tuple(args))
    try:
        command: Any = _parse(args)
        if hasattr(command, "choose_device"):
            command.choose_device()
        keep = own_process and not getattr(command, "no_program_cache", True)
        with (
            kept_programs() if keep else contextlib.nullcontext(),
            _memory_advice(getattr(command, "memory_advice", "")),
        ):
            return command.run()
    finally:
        # If the reader has gone, this fails now instead of at the end of the interpreter. (sys.stdout may be None.)
        print(end="", flush=True)


@contextlib.contextmanager
def _memory_advice(flags: str) -> Iterator[None]:
    """Add the flags that help to errors about memory."""
    try:
        yield
    except Exception as error:
        known = _as_known(error)
        if not flags or not isinstance(known, ResourceError) or "memory" not in str(known):
            raise
        raise ResourceError(f"{known} ({flags})") from error


def _as_known(error: Exception) -> JnstError | None:
    """The error as one of jnst's; None if it is a bug."""
    if isinstance(error, JnstError):
        return error
    if ran_out(error):
        return ResourceError(exhausted(error))
    if isinstance(error, OSError):
        return ResourceError(f"{error.filename or 'a file'}: {error.strerror or error}")
    return None


def _parse(args: list[str]) -> Any:
    chosen = _preset_and_statistic(args)
    defaults = {
        "stylize": Stylize.from_preset(*chosen),
        "synthesize": Synthesize.from_preset(*chosen),
        "reconstruct": Reconstruct.from_preset(*chosen),
        "grid": Grid.from_preset(*chosen),
        "apply": Apply(tyro.MISSING, tyro.MISSING),
        "demo": Demo(),
        "presets": Presets(),
        "statistics": Statistics(),
        "backbones": Backbones(),
        "weights": Weights(tyro.MISSING),
        "train": Train(tyro.MISSING),
        "export": Export(tyro.MISSING, tyro.MISSING),
    }
    if args and not args[0].startswith("-") and args[0] not in defaults:
        raise ArgumentError(f"unknown command {args[0]!r}: {hint(args[0], defaults)} (see jnst --help)")
    descriptions = {name: (type(default).__doc__ or "").partition("\n")[0] for name, default in defaults.items()}
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                tyro.extras.subcommand_type_from_defaults(defaults, descriptions),
                prog="jnst",
                description=(
                    "Neural style transfer. `jnst COMMAND --help` explains a command, `jnst --version` prints the "
                    "version, and --debug shows the tracebacks of errors."
                ),
                args=args,
                config=(tyro.conf.OmitSubcommandPrefixes,),
            )
    except SystemExit as end:
        if end.code == 0:
            raise
        raise ArgumentError(_one_line(complaint.getvalue())) from None


def _one_line(box: str) -> str:
    """Turn tyro's framed error into one line: the error, and the commands or flags that may have been meant."""
    _, *inside = (row.strip(f"{FRAME} ") for row in box.splitlines())
    sections = [list(filter(None, rows)) for is_rule, rows in itertools.groupby(inside, _is_rule) if not is_rule]
    first, *others = filter(None, sections)
    parts = [" ".join(first).rstrip(".")]
    for title, *rows in others:
        if title.startswith("Available"):
            parts.append(" ".join([title, *rows]))
        elif title.startswith("Perhaps"):
            flags = (row.partition(" {")[0] for row in rows if row.startswith("-"))
            parts.append(" ".join([title, *flags]))
    return f"{'; '.join(parts)}: see jnst --help or jnst COMMAND --help"


def _is_rule(row: str) -> bool:
    return bool(row) and set(row) <= set(RULE)


def _preset_and_statistic(args: list[str]) -> tuple[str, str | None]:
    """Read these two flags in advance, since they determine the defaults of others, which the help shows."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset", default="jnst")
    parser.add_argument("--style-statistic", default=AUTO)
    try:
        found = parser.parse_known_args(args)[0]
    except argparse.ArgumentError:
        return "jnst", None
    return found.preset, None if found.style_statistic == AUTO else found.style_statistic
