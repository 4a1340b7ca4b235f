"""`python -m purejaxdqn.train`."""

from purejaxdqn.train import main

if __name__ == "__main__":
    raise SystemExit(main())
