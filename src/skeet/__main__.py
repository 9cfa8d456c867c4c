"""``python -m skeet`` is the ``skeet`` command."""

from skeet.cli.main import main

if __name__ == "__main__":
    main()
