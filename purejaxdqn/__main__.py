"""`python -m purejaxdqn`: the command `purejaxdqn` where it is not on the path."""

from purejaxdqn.commands.dispatch import main

if __name__ == "__main__":
    raise SystemExit(main())
