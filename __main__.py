"""`python -m slimpath`: the same as the command `slimpath`."""

from .cli.app import main

if __name__ == "__main__":
    main()
