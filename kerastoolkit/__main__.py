"""``python -m kerastoolkit`` is the command ``kerastoolkit``."""

from kerastoolkit.cli import main

if __name__ == "__main__":
    main()
