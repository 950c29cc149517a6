"""`python -m edgeport`: the command line, where its script is not on the path."""

from edgeport.cli import main

if __name__ == "__main__":
    main()
