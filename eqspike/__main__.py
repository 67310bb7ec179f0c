"""``python -m eqspike``: the same as ``eqspike``, for torchrun."""

from eqspike.cli import main

if __name__ == "__main__":
    main()
