"""What tests of command lines share."""

import pytest


def refused(capsys, main, args):
    """The one sentence with which a command line is refused."""
    with pytest.raises(SystemExit) as stop:
        main(args)
    said = capsys.readouterr()
    assert stop.value.code == 2
    lines = said.err.strip().splitlines()
    assert len(lines) == 1 and "Traceback" not in said.err, said.err
    return lines[0]
