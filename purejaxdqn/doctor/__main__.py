"""`python -m purejaxdqn.doctor RUN`: see `command`."""

from purejaxdqn.doctor.command import main

if __name__ == "__main__":
    raise SystemExit(main())
