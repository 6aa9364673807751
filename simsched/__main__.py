"""`python -m simsched`."""

from simsched.cli import main

if __name__ == "__main__":
    main()
