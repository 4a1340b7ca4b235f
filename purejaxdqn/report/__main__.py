"""`python -m purejaxdqn.report FOLDER …`: see `command`."""

from purejaxdqn.report.command import main

if __name__ == "__main__":
    raise SystemExit(main())
