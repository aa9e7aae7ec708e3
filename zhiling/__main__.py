"""`python -m zhiling`: the same front door as the `zhiling` command."""

from zhiling.cli import main

if __name__ == "__main__":
    main()
