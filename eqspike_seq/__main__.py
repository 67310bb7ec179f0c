"""``python -m eqspike_seq``: the same as ``eqspike``, for torchrun."""

from eqspike_seq.cli import main

if __name__ == "__main__":
    main()
