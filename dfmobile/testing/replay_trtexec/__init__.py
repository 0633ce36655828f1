"""A *replay* of NVIDIA's ``trtexec``: its flags, output and files by version, with times that nobody measured.

A test tool. It plays TensorRT 8.2, 8.5, 10.3 and 11: rejects flags that its version lacks, reads the ONNX file, writes
an engine that only it can load, and prints and writes what trtexec of that version does, with times made up from the
network's convolutions. It can also play a recorded log, and fail in recorded ways. Its first and its last line say that
it is a replay, and the parser keeps that (``TrtexecLog.replay``), so that no row can be taken for a measurement.

It runs on the far side, where there may be nothing but Python 3.6: standard library only, nothing of dfmobile, no
syntax that is newer. ``install_replay`` copies it there and writes the program ``trtexec``.
"""

import json
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any, Dict

VERSIONS = ("8.2.1", "8.5.2", "10.3.0", "11.0.0")


def install_replay(folder: Path, version: str, interpreter: str = sys.executable, **settings: Any) -> Path:
    """Write a program ``trtexec`` that is the replay of a version; return its path.

    Args:
        folder: where it goes, with a folder ``replay`` beside it; made if missing.
        version: one of ``VERSIONS``.
        interpreter: Python 3.6 or later of the far side.
        settings: see ``configure_replay``.
    """
    if version not in VERSIONS:
        raise ValueError("the replay plays {}, not {!r}".format(", ".join(VERSIONS), version))
    home = folder / "replay"
    package = home / "replay_trtexec"
    package.mkdir(parents=True, exist_ok=True)
    for source in Path(__file__).parent.glob("*.py"):
        shutil.copyfile(str(source), str(package / source.name))
    configure_replay(folder, version=version, **settings)
    program = folder / "trtexec"
    quoted = ["'{}'".format(str(part).replace("'", "'\\''")) for part in (home, interpreter)]
    program.write_text(
        "#!/bin/sh\n# A replay of trtexec: it measures nothing.\n"
        'PYTHONPATH={0} PYTHONDONTWRITEBYTECODE=1 DFMOBILE_REPLAY={0} exec {1} -m replay_trtexec "$@"\n'.format(
            *quoted
        ),
        encoding="utf-8",
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return program


def configure_replay(folder: Path, **settings: Any) -> None:
    """Change how an installed replay behaves from its next run on; what is not named stays.

    Args:
        folder: as given to ``install_replay``.
        settings: ``version``; ``failure`` (one of ``play.FAILURES``, ``""`` for none); ``failure_phase`` (``build``,
            ``time`` or ``any``); ``failures_left`` (fail so often, then no more; -1 for always); ``build_s`` (real
            seconds that a build takes); ``run_s`` (real seconds of a timing); ``recorded_log`` and ``recorded_times``
            (files to play instead, for timings); ``scale`` (of all times).
    """
    path = folder / "replay" / "settings.json"
    known = read_settings(path)
    unknown = set(settings) - set(known)
    if unknown:
        raise ValueError("the replay has no settings {}".format(", ".join(sorted(unknown))))
    known.update(settings)
    part = path.with_name("settings.json.part")
    part.write_text(json.dumps(known), encoding="utf-8")
    os.replace(str(part), str(path))


def read_settings(path: Path) -> Dict[str, Any]:
    """Return the settings in a file, defaults where it says nothing or is missing."""
    settings: Dict[str, Any] = {
        "version": VERSIONS[0],
        "failure": "",
        "failure_phase": "any",
        "failures_left": -1,
        "build_s": 0.02,
        "run_s": 0.0,
        "recorded_log": "",
        "recorded_times": "",
        "scale": 1.0,
    }
    if path.exists():
        settings.update(json.loads(path.read_text(encoding="utf-8")))
    return settings
