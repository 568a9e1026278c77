"""The `wherry` command, and `python -m wherry`."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the command."""
    # Loading modules makes thousands of objects, and next to no garbage: without this a tenth of
    # the time until a server is ready is spent in looking for some. A command turns it on again.
    gc.disable()
    if sys.argv[1:2] == ["serve"] and "_WHERRY_COMPLETE" not in os.environ:
        from wherry._cli.serve_options import parsed

        arguments = parsed(sys.argv[2:])
        if arguments is not None:
            sys.exit(_serve(arguments))
    from wherry._cli.commands import main as command

    command()


def _serve(arguments: dict[str, object]) -> int:
    """`wherry serve` without click; its status."""
    from wherry._cli.serving import serve
    from wherry._errors import WherryError

    try:
        serve(**arguments)  # type: ignore[arg-type]
    except (WherryError, OSError, KeyboardInterrupt) as error:
        from wherry._cli.commands import status_of

        return status_of(error)
    return 0


if __name__ == "__main__":
    main()
