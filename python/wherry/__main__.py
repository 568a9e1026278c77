"""The `wherry` command, and `python -m wherry`."""

from __future__ import annotations

import gc


def main() -> None:
    """Run the command."""
    # Loading modules makes thousands of objects, and next to no garbage: without this a tenth of
    # the time until a server is ready is spent in looking for some. A command turns it on again.
    gc.disable()
    from wherry._cli import main as command

    command()


if __name__ == "__main__":
    main()
