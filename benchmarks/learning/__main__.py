"""`python -m benchmarks.learning`: see `benchmarks.learning.defaults`."""

from benchmarks.learning.defaults import main

if __name__ == "__main__":
    main()
