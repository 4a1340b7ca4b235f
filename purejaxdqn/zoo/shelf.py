"""A zoo: `manifest.json`, and an archive for each trained run, with its settings, tables and policy but no replay.

It lies in a folder, or flat behind a URL, as files that are attached to a release do. Nothing in it is executed.
"""

import hashlib
import http.client
import io
import json
import re
import tempfile
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from purejaxdqn.config import SettingError, one_line, require
from purejaxdqn.machine.files import write_atomically
from purejaxdqn.runs.checkpoint import DamagedCheckpoint, file_sums, latest_step, load_checkpoint
from purejaxdqn.runs.folder import CHECKPOINTS, CONFIG, METRICS, SUMMARY, read_config

MANIFEST, FORMAT = "manifest.json", 1
TABLES = (CONFIG, METRICS, SUMMARY)
FIELDS = {
    "env": str,
    "recipe": str,
    "seeds": list,
    "env_steps": int,
    "best_mean_return": list,
    "bytes": int,
    "sha256": str,
}
"""Of a run in the manifest, which may hold more."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
MOST_BYTES = 2**30
"""Of a manifest or a run, packed or not: policies are far smaller."""
SECONDS = 60.0
"""After which a server that does not answer is given up."""


def read(source: str, name: str, most: int = MOST_BYTES) -> bytes:
    """A file of a zoo, of which no more than one byte past `most` is read.

    Raises:
      SettingError: where it cannot be read.
    """
    try:
        if "://" not in source:
            with open(Path(source) / name, "rb") as file:
                return file.read(most + 1)
        require(source.startswith(("http://", "https://")), "source", source, "use a folder, or a URL of http or https")
        with urllib.request.urlopen(f"{source.rstrip('/')}/{urllib.parse.quote(name)}", timeout=SECONDS) as answer:
            return bytes(answer.read(most + 1))
    except SettingError:
        raise
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise SettingError("source", source, f"its {name} cannot be read ({one_line(error)})") from error


def read_manifest(source: str) -> dict[str, dict[str, Any]]:
    """What there is, by name: each run's environment, recipe, returns, size and SHA-256.

    Raises:
      SettingError: where there is no zoo, or its manifest is damaged.
    """
    try:
        data = json.loads(read(source, MANIFEST))
        known, runs = data["format"] == FORMAT, dict(data["runs"])
        for name, entry in runs.items() if known else ():
            right = NAME.fullmatch(name) and all(isinstance(entry[field], kind) for field, kind in FIELDS.items())
            if not right or not all(isinstance(value, float | None) for value in entry["best_mean_return"]):
                raise ValueError(f"the entry {name!r}")
    except SettingError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SettingError("source", source, f"its {MANIFEST} is damaged ({one_line(error)})") from error
    require(known, "source", source, f"its {MANIFEST} is of another format: take another version of purejaxdqn")
    return runs


def archive_name(name: str) -> str:
    """The file of a run."""
    return f"{name}.zip"


def fetch(source: str, name: str, out: Path) -> None:
    """Brings a run here, as a folder that `load_policy`, `evaluate` and `export` read, once it is known to be whole.

    Args:
      source: a folder or a URL.
      name: of a run, as the manifest has it.
      out: the folder that is made.

    Raises:
      SettingError: where there is no such run, something is there already, or what came is not what is listed.
    """
    runs = read_manifest(source)
    require(name in runs, "names", name, f"use one of {', '.join(runs)}")
    require(not out.exists(), "out", str(out), "there is something already: name another folder")
    data, entry = read(source, archive_name(name), min(runs[name]["bytes"], MOST_BYTES)), runs[name]
    size = f"{archive_name(name)} is truncated or too long: {len(data)} bytes came, and {entry['bytes']} are listed"
    require(len(data) == entry["bytes"], "source", source, size)
    other = f"{archive_name(name)} is not the file that is listed: its SHA-256 differs"
    require(hashlib.sha256(data).hexdigest() == entry["sha256"], "source", source, other)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as beside:
            made = Path(beside) / "run"
            unpack(data, made)
            read_config(made, "source")
            load_checkpoint(made / CHECKPOINTS, with_state=False)
            made.rename(out)
    except (DamagedCheckpoint, zipfile.BadZipFile, ValueError) as error:
        said = error.remedy if isinstance(error, SettingError) else one_line(error)
        raise SettingError("source", source, f"{archive_name(name)} is no whole run ({said})") from error
    except OSError as error:
        raise SettingError("out", str(out), f"it cannot be written ({error.strerror})") from error


def unpack(data: bytes, folder: Path) -> None:
    """Writes an archive's files, and none elsewhere. Raises ValueError for one that is not of a run."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
            raise ValueError("it is too large")
        for entry in archive.infolist():
            parts = PurePosixPath(entry.filename).parts
            if not parts or ".." in parts or parts[0] not in (*TABLES, CHECKPOINTS) or entry.is_dir():
                raise ValueError(f"{entry.filename!r} does not belong to a run")
            path = folder.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(entry))


def pack(run: Path) -> bytes:
    """A run without its replay, the same bytes for the same files."""
    step = latest_step(run / CHECKPOINTS)
    policy = Path(CHECKPOINTS) / str(step)
    names = [policy / name for name in (*file_sums(run / policy, with_state=False), "SHA256SUMS")]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted([*map(Path, TABLES), *names]):
            # Of no date, which would differ.
            archive.writestr(zipfile.ZipInfo(name.as_posix()), (run / name).read_bytes(), zipfile.ZIP_DEFLATED)
    return file.getvalue()


def add(zoo: Path, run: Path, name: str) -> None:
    """Puts a trained run into a zoo's folder, which is made if it is not there.

    Raises:
      SettingError: for a run that has not ended or is damaged, or a name that is no file's.
    """
    require(NAME.fullmatch(name) is not None, "names", name, "use letters, digits, dots, dashes and underscores")
    settings, spec, _ = read_config(run, "run")
    require((run / SUMMARY).is_file(), "run", str(run), "it has not ended: resume it first")
    try:
        load_checkpoint(run / CHECKPOINTS, with_state=False)
        summary, data = json.loads((run / SUMMARY).read_text()), pack(run)
        zoo.mkdir(parents=True, exist_ok=True)
        runs = read_manifest(str(zoo)) if (zoo / MANIFEST).exists() else {}
        runs[name] = {
            "env": spec.env_id,
            "recipe": settings.recipe,
            "algo": settings.algo,
            "seeds": list(settings.seeds),
            "env_steps": summary["env_steps_per_seed"],
            "best_mean_return": [entry["best_mean_return"] for entry in summary["evaluation"]],
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        write_atomically(zoo / archive_name(name), data)
        write_atomically(zoo / MANIFEST, json.dumps({"format": FORMAT, "runs": dict(sorted(runs.items()))}, indent=1))
    except DamagedCheckpoint as error:
        raise SettingError("run", str(run), str(error)) from error
    except OSError as error:
        raise SettingError("source", str(zoo), f"it cannot be written ({error.strerror})") from error
