"""`python -m wherry` is the `wherry` command."""

from wherry._cli import main

if __name__ == "__main__":
    main()
