"""The ``slimnets`` command: the table of its subcommands, and how errors and interrupts are reported."""

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence

from tools.commands import (
    classify,
    convert,
    demo,
    download,
    evaluate,
    export,
    features,
    inspect,
    map,
    merge,
    neighbours,
    nets,
    note,
    recalibrate,
    show,
    time,
    train,
    weights,
)
from tools.runtime.importing import check_nets, import_tensorflow
from tools.terminal.option_names import as_options
from tools.terminal.visible import visible

__all__ = ["main"]

# Each adds its own arguments and imports its library only when it runs, so that --help answers at once.
_COMMANDS = (
    *(nets, weights, download, inspect, note, convert, export),
    *(features, merge, neighbours, map, classify, show, evaluate, recalibrate, train, time, demo),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status: 0 done, 1 failed or refused, 2 wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        check_nets()
        # A command that may do without TensorFlow says so, and imports it itself.
        if getattr(arguments, "imports_tensorflow", True):
            import_tensorflow()
        for stream in (sys.stdout, sys.stderr):
            # The terminal may be unable to show some file names. The streams of a notebook can show all.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        # Pillow warns of broken EXIF data and of large images. Those that decode are fine, the others are errors.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.showwarning = _show_warning
        status = arguments.run(arguments)
        sys.stdout.flush()  # raises BrokenPipeError here rather than when the interpreter exits
        return status
    except KeyboardInterrupt:
        print("slimnets: interrupted; unfinished work is not kept", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(f"slimnets: error: Out of memory ({error}): use smaller images or batches.", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of the output has gone (`| head`). The interpreter must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ImportError, OSError, ValueError) as error:
        # The library's message says what is wrong with the input. Any other exception is a bug and shows its traceback.
        print(f"slimnets: error: {visible(as_options(str(error)))}", file=sys.stderr)
        return 1


def _show_warning(message: Warning | str, *where: object, **rest: object) -> None:
    print(f"slimnets: warning: {visible(as_options(str(message)))}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="slimnets", description="The ResNets of TF-Slim on today's TensorFlow 2.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
