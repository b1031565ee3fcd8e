"""Reading the command line, and turning what goes wrong into one line and an exit status."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import tyro

import jnst
from jnst.cli.listing import Backbones, Presets
from jnst.cli.stylize import Stylize
from jnst.cli.weights import Weights
from jnst.errors import JnstError, ResourceError

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 if all went well; 2 for wrong usage, 3 for an input picture, 4 for weights, 5 for a loss that stopped being
        finite, 6 for memory or disk space, 130 when interrupted, 143 when terminated.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    if args == ["--version"]:
        print(f"jnst {jnst.__version__}")
        return 0
    try:
        return _parse(args).run()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of standard output has gone; nothing is wrong with us.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        known = _known(error)
        if debug or known is None:
            raise
        print(f"jnst: error: {known}", file=sys.stderr)
        return known.exit_code


def _known(error: Exception) -> JnstError | None:
    """The error as one of ours; None if it is a fault of the program."""
    if isinstance(error, JnstError):
        return error
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return ResourceError("memory ran out: choose a smaller --size or fewer layers")
    if isinstance(error, OSError):
        return ResourceError(f"{error.filename or 'a file'}: {error.strerror or error}")
    return None


def _parse(args: list[str]) -> Any:
    commands = tyro.extras.subcommand_type_from_defaults(
        {
            "stylize": Stylize.from_preset(_preset_name(args)),
            "presets": Presets(),
            "backbones": Backbones(),
            "weights": Weights(tyro.MISSING),
        }
    )
    return tyro.cli(
        commands,
        prog="jnst",
        description="Neural style transfer. `jnst COMMAND --help` explains a command; --debug shows tracebacks.",
        args=args,
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )


def _preset_name(args: list[str]) -> str:
    """The preset asked for, read ahead: its values are the defaults that are parsed and shown in the help."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset", default="jnst")
    try:
        return parser.parse_known_args(args)[0].preset
    except argparse.ArgumentError:
        return "jnst"
