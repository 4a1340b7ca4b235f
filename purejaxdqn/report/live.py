"""A report that follows its folders: served to this machine alone, read-only, made anew when files change.

`python -m purejaxdqn.report FOLDER --watch` serves it from this process. `train --live` opens the port alone, and a
process of its own serves whoever asks: `python -m purejaxdqn.report.live DESCRIPTOR FOLDER [IMPORT ...]`.
"""

import contextlib
import hashlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from purejaxdqn import cli
from purejaxdqn.config import SettingError
from purejaxdqn.machine.imports import imported
from purejaxdqn.report.write_page import content_of, read_all, whole_page
from purejaxdqn.runs.sweep_folder import REPORT

HOST = "127.0.0.1"
NAMES = ("127.0.0.1", "localhost")
"""What a browser on this machine calls it. A page from elsewhere that has its own name point here is refused."""
SHORTEST = 1.0
"""Seconds between two questions of a page."""
SHARE = 20
"""A page waits this many times as long as the last answer took to make: 5 % of one core at most."""
LAST_LOOK = 5.0
"""Seconds that a page has to ask for the end of a run."""
NICENESS = 10
EMPTY = "<header></header><main></main>"
"""The page before there is anything to show."""


class State(NamedTuple):
    """The answer to `/state`."""

    tag: str
    """Another one when the folders' files have changed."""
    said: str | None
    """Why there is nothing new to show."""
    wait: float
    """Seconds until the page asks again."""


class Watched:
    """Folders as a page, which is made anew where files changed since the last time."""

    def __init__(self, folders: Sequence[Path]):
        self.folders = tuple(folders)
        self.lock = threading.Lock()
        self.tag, self.body, self.seconds = "", EMPTY, 0.0
        self.gone: str | None = None
        self.unreadable: str | None = None

    def state(self) -> State:
        """What `/state` answers."""
        with self.lock:
            self.renew()
            return State(self.tag, self.gone or self.unreadable, max(SHORTEST, SHARE * self.seconds))

    def content(self) -> tuple[str, str]:
        """The newest header and main part of the page, and their tag."""
        with self.lock:
            self.renew()
            return self.body, self.tag

    def whole(self) -> str:
        """The page without its header and main part, for which its script asks."""
        # It imports plotly.
        from purejaxdqn.report.html import Content

        return whole_page(Content(", ".join(folder.resolve().name for folder in self.folders), EMPTY), live=True)

    def renew(self) -> None:
        """Makes the page anew if a file has changed; what cannot be read leaves the page as it was."""
        try:
            now, self.gone = tag_of(self.folders), None
        except OSError as error:
            why = error.strerror or type(error).__name__
            self.gone = f"{error.filename} cannot be read any more ({why}): this is what it held."
            return
        if now == self.tag:
            return
        begin = time.perf_counter()
        try:
            self.body, self.unreadable = content_of(read_all(self.folders)).body, None
        except SettingError as error:
            self.unreadable = cli.setting_sentence(error)
        except cli.UsageError as error:
            self.unreadable = str(error)
        self.tag, self.seconds = now, time.perf_counter() - begin


def tag_of(folders: Sequence[Path]) -> str:
    """A word that differs where a file of some folders does. Raises OSError where one cannot be read."""
    digest = hashlib.sha256()
    for folder in folders:
        with os.scandir(folder) as files:
            for file in sorted(files, key=lambda entry: entry.name):
                # Neither locks and files in the making, nor what a report itself writes.
                if not file.name.startswith(".") and file.name != REPORT and file.is_file():
                    status = file.stat()
                    digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode(errors="replace"))
    return digest.hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one `Watched` on a socket that listens already."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, watched: Watched):
        super().__init__(listening.getsockname(), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.watched = listening, watched

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a reader who went away."""


class Handler(BaseHTTPRequestHandler):
    """Answers `/`, `/state` and `/body`, and nothing else."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "purejaxdqn"
    sys_version = ""
    timeout = 60

    def do_GET(self) -> None:
        """One question."""
        watched = self.server.watched
        if self.headers.get("Host", "").rpartition(":")[0] not in NAMES:
            return self.answer(403, "This page is for this machine alone.", "text/plain")
        path = self.path.partition("?")[0]
        if path == "/":
            return self.answer(200, watched.whole(), "text/html")
        if path == "/state":
            return self.answer(200, json.dumps(watched.state()._asdict()), "application/json")
        if path == "/body":
            body, tag = watched.content()
            return self.answer(200, body, "text/html", {"X-Tag": tag})
        return self.answer(404, "There is no such page.", "text/plain")

    def answer(self, code: int, text: str, kind: str, more: dict[str, str] | None = None) -> None:
        """Sends one answer, which no browser keeps, guesses the kind of, or shows within another page."""
        data = text.encode(errors="replace")
        self.send_response(code)
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(data)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in {**headers, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def listen(port: int, field: str) -> socket.socket:
    """A socket that listens for this machine alone.

    Args:
      port: 0 for any that is free.
      field: the setting that an error is about.

    Raises:
      SettingError: where the port cannot be had.
    """
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        remedy = f"this port cannot be had ({error.strerror}): name another one, or none for any that is free"
        raise SettingError(field, port, remedy) from error


def address(listening: socket.socket) -> str:
    """What to type into a browser."""
    return f"http://{HOST}:{listening.getsockname()[1]}/"


def watch(folders: Sequence[Path], port: int) -> None:
    """Serves folders until this process is stopped.

    Raises:
      SettingError: for a folder of neither a run nor a sweep, or a port that cannot be had.
    """
    for folder in folders:
        tag_of_named(folder)
    with listen(port, "watch") as listening:
        print(f"live page: {address(listening)} (Ctrl-C ends it)", flush=True)
        Server(listening, Watched(folders)).serve_forever()


def tag_of_named(folder: Path) -> None:
    """Raises `SettingError` where a folder that was named cannot be read."""
    try:
        tag_of([folder])
    except OSError as error:
        raise SettingError("folders", str(folder), f"it cannot be read ({error.strerror})") from error


@contextlib.contextmanager
def served_on_demand(listening: socket.socket, folder: Path) -> Iterator[None]:
    """Has a folder served while the body runs: the first reader starts a process of its own, and nobody costs nothing.

    Args:
      listening: of `listen`; closed in the end.
      folder: of the run.
    """
    ended, end = socket.socketpair()
    started: list[subprocess.Popen[bytes]] = []

    def wait_for_reader() -> None:
        asked, _, _ = select.select([listening, ended], [], [])
        if ended not in asked:
            started.append(start_server(listening, folder))

    waiting_for_it = threading.Thread(target=wait_for_reader, daemon=True)
    waiting_for_it.start()
    try:
        yield
    finally:
        end.close()
        waiting_for_it.join()
        ended.close()
        listening.close()
        for process in started:
            # It ends by itself, once its page has had time to ask for the end of the run.
            assert process.stdin is not None
            process.stdin.close()


def start_server(listening: socket.socket, folder: Path) -> "subprocess.Popen[bytes]":
    """A process that serves a folder on a socket of this one, until this one closes its standard input, or ends."""
    number = listening.fileno()
    command = [sys.executable, "-m", __name__, str(number), str(folder), *imported()]
    # It computes nothing, and takes no GPU from the run; glibc would keep memory for each of its threads.
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "MALLOC_ARENA_MAX": "1"}
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, pass_fds=[number], env=environment
    )


def main(argv: Sequence[str]) -> int:
    """The process of `start_server`."""
    number, folder, *sources = argv
    os.nice(NICENESS)
    cli.import_parts([word for source in sources for word in ("--import", source)])
    server = Server(socket.socket(fileno=int(number)), Watched([Path(folder)]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # Until the run has ended, however it did.
    sys.stdin.buffer.read()
    time.sleep(LAST_LOOK)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
