"""`python -m purejaxdqn.export`."""

from purejaxdqn.export.command import main

if __name__ == "__main__":
    raise SystemExit(main())
