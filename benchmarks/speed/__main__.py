"""`python -m benchmarks.speed`: see `benchmarks.peers.contest_speed`."""

from benchmarks.peers.contest_speed import main

if __name__ == "__main__":
    main()
