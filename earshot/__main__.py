"""`python -m earshot`."""

from earshot.cli import main

if __name__ == "__main__":
    main()
