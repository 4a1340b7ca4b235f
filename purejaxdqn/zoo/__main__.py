"""`python -m purejaxdqn.zoo`."""

from purejaxdqn.zoo.command import main

if __name__ == "__main__":
    raise SystemExit(main())
