"""The ``slimnets`` command: the table of its commands, and what an error looks like."""

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence

from tools.commands import classify, convert, demo, download, features, inspect, merge, nets, time, weights
from tools.runtime.importing import check_nets, import_tensorflow
from tools.terminal.option_names import as_options

__all__ = ["main"]

# Each adds its own arguments, and imports its library once it runs: --help answers at once.
_COMMANDS = (nets, weights, download, inspect, convert, features, merge, classify, time, demo)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status: 0 done, 1 failed or refused, 2 wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        check_nets()
        import_tensorflow()
        for stream in (sys.stdout, sys.stderr):
            # A name of a file need not be one that the terminal can show; a notebook's streams show any.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        # Pillow's, of broken EXIF data or of size: what can be shown is decoded, the rest is an error.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.showwarning = _show_warning
        status = arguments.run(arguments)
        sys.stdout.flush()  # a reader that has gone is noticed here, and not by the interpreter at exit
        return status
    except KeyboardInterrupt:
        print("slimnets: interrupted; what was not finished is not kept", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(f"slimnets: error: Memory does not suffice ({error}): take smaller images or batches.", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output has gone (`| head`): leave without a complaint at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ImportError, OSError, ValueError) as error:
        # What is wrong with what was given, in the words of whoever found it. Anything else is a bug, and shows it.
        print(f"slimnets: error: {as_options(str(error))}", file=sys.stderr)
        return 1


def _show_warning(message: Warning | str, *where: object, **rest: object) -> None:
    print(f"slimnets: warning: {as_options(str(message))}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="slimnets", description="The ResNets of TF-Slim on today's TensorFlow 2.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
