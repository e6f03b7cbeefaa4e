"""`python -m mirst.cli`."""

from mirst.cli import main

if __name__ == "__main__":
    main()
