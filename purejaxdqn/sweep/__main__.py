"""`python -m purejaxdqn.sweep`."""

from purejaxdqn.sweep.command import main

if __name__ == "__main__":
    raise SystemExit(main())
