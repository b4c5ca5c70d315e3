"""A container as a process: folders of its own by Linux mount namespaces, the network and all else the machine's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

WORK = "/mnt"
"""Where the image has the project, and the working folder of its containers."""

_SCRIPT = """
set -e
work=$1; tmp=$2; shift 2
while [ "$1" != -- ]; do
    case $2 in
        /tmp/*) mkdir -p "$tmp/${2#/tmp/}"; mount --bind "$1" "$tmp/${2#/tmp/}";;
        *) mount --bind "$1" "$2";;
    esac
    shift 2
done
shift
mount --bind "$work" /mnt
cd /mnt
mount --rbind "$tmp" /tmp
exec "$@"
"""


@cache
def _unshare() -> list[str]:
    options = ["--mount"] if os.getuid() == 0 else ["--mount", "--user", "--map-root-user"]
    command = ["unshare", *options, "--propagation", "private"]
    if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
        return command
    return []


def needs_containers() -> Any:
    """Marks tests that need mount namespaces."""
    if Path(sys.prefix).is_relative_to("/tmp"):
        return pytest.mark.skip("needs a checkout that is not in /tmp, which is another folder in a container")
    return pytest.mark.skipif(
        not _unshare(), reason="needs unshare (mount namespaces, as root or by the kernel's leave)"
    )


def image_environment() -> dict[str, str]:
    """The environment that the image sets: the tests' interpreter on the path, and no folder to keep things in."""
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": "/dev/null",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "120",
    }


def start(
    command: Sequence[str],
    environ: Mapping[str, str],
    *,
    work: Path,
    tmp: Path,
    mounts: Sequence[tuple[Path, str]] = (),
    **options: Any,
) -> subprocess.Popen[str]:
    """Start a container.

    Args:
        command: what runs in it.
        environ: its whole environment.
        work: what is at `WORK`.
        tmp: what is at /tmp.
        mounts: further folders or files, and where they are; in /tmp they need not be there, elsewhere they must.
        options: of `Popen`.
    """
    pairs = [str(each) for pair in mounts for each in pair]
    words = [*_unshare(), "sh", "-c", _SCRIPT, "sh", str(work), str(tmp), *pairs, "--", *command]
    return subprocess.Popen(words, env=dict(environ), text=True, start_new_session=True, **options)
