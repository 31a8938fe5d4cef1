"""`python -m pellucid`: the command line, where its script is not on the path."""

from pellucid.cli import main

if __name__ == "__main__":
    main()
