"""The resource detector: who and where the process is that runs a pipeline, from its environment and a few small files.

Entry point ``runnable`` in the group ``opentelemetry_resource_detector``. No subprocess and no network; a file is read
only if it is a regular one, and never beyond a fixed number of bytes; what is not known is left out.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from opentelemetry.sdk.environment_variables import OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME
from opentelemetry.sdk.resources import Resource, ResourceDetector
from opentelemetry.semconv.attributes.service_attributes import SERVICE_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RunnableResourceDetector"]

_Found = dict[str, str | list[str]]
_Mount = tuple[str, str, str]

_MAX_CHARS: Final = 1024
_MAX_VALUE: Final = 4096  # bytes of a file that holds one value: as long as the longest path on Linux
_MAX_LINES: Final = 1 << 16  # bytes of cgroup, mountinfo, .git/config
_MAX_PACKED_REFS: Final = 1 << 20
_MAX_LEVELS: Final = 16
_MAX_SYMREFS: Final = 5  # git's own limit (SYMREF_MAXDEPTH)

# Control and format characters: they only serve to disturb whoever displays the value.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
_SURROGATES = re.compile("[\ud800-\udfff]")  # one of them loses the whole batch in the OTLP exporter

# docker, podman, containerd, CRI-O: /docker/<id>, docker-<id>.scope, /kubepods/…/pod<uid>/<id>, …:cri-containerd:<id>
_CONTAINER = re.compile(r"(?:^|[/:-])([0-9a-f]{64})(?=\.scope|/|$)")
_CONTAINER_FOLDER = re.compile(r"/(?:overlay-)?containers/([0-9a-f]{64})/")
_UUID = r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}"
_POD = re.compile(rf"kubepods.*?pod({_UUID})")  # systemd's cgroup driver writes the uid with underscores
_POD_FOLDER = re.compile(rf"/pods/({_UUID})/")

_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF = re.compile(r"refs(?:/(?!\.)[^\s/\\:?*\[~^\x00-\x20\x7f]+)+")  # git-check-ref-format(1): no part is ".."
_ORIGIN = re.compile(r"""\s*\[\s*(?i:remote)\s+"origin"\s*\](.*)""")
# Anything but one plain or quoted word is left alone: half of it could be half of a password.
_URL_LINE = re.compile(r"""(?i:\s*url)\s*=\s*(?:"([^"\\]+)"|([^"#;\s\\]+))\s*(?:\s[#;].*)?""")
_SCHEMES = frozenset({"http", "https", "ssh", "git", "git+ssh", "ssh+git", "ftp", "ftps"})
_HOST = re.compile(r"[\w.-]+|[0-9a-f:.]+", re.ASCII)
# ssh's own form, user@host:path; it has no place for a password, but a long user is more likely a token.
_SCP = re.compile(r"(?:[A-Za-z0-9._-]{1,32}@)?[A-Za-z0-9.-]{2,}:(?!:)[^@\s]+")
# A token where git expects none, for instance as a folder of the path: better no URL than that one.
_TOKEN = re.compile(r"gh[a-z]_\w{20}|github_pat_|gl[a-z]{2,6}-[\w-]{20}|xox[a-z]-|AKIA[A-Z0-9]{16}|eyJ[\w-]{10,}\.")


class RunnableResourceDetector(ResourceDetector):
    """What all runs of this process have in common: version, container, pod, workflow and the code's revision.

    Keys follow the OpenTelemetry semantic conventions (``service``, ``container``, ``k8s``, ``vcs``); ours are
    ``runnable.version`` and ``argo.workflow.uid``. Each is there only where its value is known, as a text of 1 to
    1,024 characters without control characters; ``container.image.repo_digests`` is a list of one such text.

    Args:
        proc: the folder with ``cgroup`` and ``mountinfo`` of this process.
        cwd: where to look for the git repository; ``None`` means the working directory when ``detect`` is called.
        environ: the environment; ``None`` means ``os.environ``.
        serviceaccount: the folder where Kubernetes mounts the service account of a pod.
    """

    def __init__(
        self,
        *,
        proc: Path = Path("/proc/self"),
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
        serviceaccount: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount"),
    ) -> None:
        super().__init__(raise_on_error=False)
        self._proc = proc
        self._cwd = cwd
        self._environ: Mapping[str, str] = os.environ if environ is None else environ
        self._serviceaccount = serviceaccount

    def detect(self) -> Resource:
        """Return what is known; never raises.

        Without a schema URL: ``Resource.merge`` refuses, with an error, two resources whose schema URLs differ.
        """
        found: _Found = {}
        for part in (self._service, self._container, self._kubernetes, self._repository):
            with suppress(Exception):  # a detector that raises costs the process its telemetry, or its start
                found.update(part())
        return Resource(found)

    def _service(self) -> _Found:
        # The SDK merges detectors in an order that differs between its versions (1.40: that of a set; 1.45: the
        # environment comes last). So ours is silent where the user has spoken, in whichever order it comes.
        name = None if _names_service(self._environ) else "runnable"
        return _known({SERVICE_NAME: name, "runnable.version": _runnable_version()})

    def _container(self) -> _Found:
        mounts = _mounts(self._proc)
        cgroups = _cgroups(self._proc, mounts)
        container = _container_id(cgroups, mounts, in_pod=self._in_pod())
        pod = self._first("K8S_POD_UID", "POD_UID", "ARGO_POD_UID") or _pod_uid(cgroups, mounts)
        found = _known({"container.id": container, "k8s.pod.uid": pod})
        digest = self._first("RUNNABLE_CODE_ID_DOCKER_IMAGE_DIGEST")
        return {**found, "container.image.repo_digests": [digest]} if digest else found

    def _kubernetes(self) -> _Found:
        in_pod = self._in_pod()
        namespace = self._first("K8S_NAMESPACE_NAME", "POD_NAMESPACE", "K8S_NAMESPACE")
        pod = self._first("K8S_POD_NAME", "POD_NAME", "ARGO_POD_NAME")
        seed = self._first("RUNNABLE_OTEL_SEED") if self._environ.get("ARGO_TEMPLATE") else None
        return _known(
            {
                "k8s.namespace.name": namespace or _read(self._serviceaccount / "namespace"),
                "k8s.pod.name": pod or (self._first("HOSTNAME") if in_pod else None),
                # JOB_NAME counts inside a pod only: Jenkins sets it on every build.
                "k8s.job.name": self._first("K8S_JOB_NAME", *(("JOB_NAME",) if in_pod else ())),
                # The second one is runnable's own, in each container that it renders for Argo.
                "argo.workflow.uid": self._first("ARGO_WORKFLOW_UID", "RUNNABLE_CODE_ID_ARGO_WORKFLOW_UID") or seed,
            }
        )

    def _repository(self) -> _Found:
        git = _find_git(Path(self._cwd or Path.cwd()).absolute())
        if git is None:
            return {}
        # A worktree has a HEAD of its own, and shares branches and configuration with the main one.
        common = _follow(git, _read(git / "commondir")) or git
        revision, branch = _head(git, common)
        url = _origin_url(_read(common / "config", lines=_MAX_LINES))
        return _known({"vcs.ref.head.revision": revision, "vcs.ref.head.name": branch, "vcs.repository.url.full": url})

    def _in_pod(self) -> bool:
        return bool(self._environ.get("KUBERNETES_SERVICE_HOST"))  # Kubernetes sets it in every container

    def _first(self, *names: str) -> str | None:
        values = (_clean(self._environ.get(name)) for name in names)
        # "{{workflow.uid}}" is a template that nobody filled in: a rendered file used outside of Argo.
        return next((value for value in values if value and "{{" not in value), None)


def _known(values: Mapping[str, str | None]) -> _Found:
    cleaned = ((key, _clean(value)) for key, value in values.items())
    return {key: value for key, value in cleaned if value}


def _clean(value: str | None) -> str | None:
    visible = _CONTROLS.sub("", (value or "")[: 2 * _MAX_CHARS])
    return _SURROGATES.sub("\ufffd", visible).strip()[:_MAX_CHARS] or None


def _names_service(environ: Mapping[str, str]) -> bool:
    """Whether the user named the service, read as ``OTELResourceDetector`` of the SDK reads it."""
    pairs = (item.partition("=") for item in environ.get(OTEL_RESOURCE_ATTRIBUTES, "").split(","))
    named = any(key.strip() == SERVICE_NAME and value.strip() for key, _, value in pairs)
    return named or bool(environ.get(OTEL_SERVICE_NAME))


@cache
def _runnable_version() -> str | None:
    """The installed version, without importing runnable: its import prints, and configures logfire."""
    # The same folders in the same order as importlib.metadata, which indexes every distribution first: 0.9 ms, not 0.2.
    for folder in sys.path:
        with suppress(OSError):
            for name in os.listdir(folder or "."):
                if name.startswith("runnable-") and name.endswith(".dist-info"):
                    return name[len("runnable-") : -len(".dist-info")]
    with suppress(Exception):  # not installed, or its metadata is broken: unknown either way
        return metadata.version("runnable")
    return None


def _read(path: Path, *, lines: int = 0) -> str:
    """The text of a small regular file; empty where there is none.

    A file of one value is empty too where it has more than 4,096 bytes, since half a value is another one. One of lines
    is read up to the last line that ends within ``lines`` bytes. Opened without blocking: a pipe would never open.
    """
    limit = lines or _MAX_VALUE
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            data = file.read(limit + 1) if S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    except (OSError, ValueError):  # ValueError: a NUL in a path that came from a file
        return ""
    if len(data) > limit:
        data = data[: data.rfind(b"\n", 0, limit) + 1] if lines else b""
    # As Python decodes file names on POSIX: a path that comes out of it opens, whatever its bytes; it never raises.
    return data.decode("utf-8", "surrogateescape") if lines else data.decode("utf-8", "surrogateescape").strip()


def _mounts(proc: Path) -> list[_Mount]:
    """Each mount's root in its file system, mount point, and the rest (``proc_pid_mountinfo(5)``, from field 4)."""
    lines = (line.split(" ", 5) for line in _read(proc / "mountinfo", lines=_MAX_LINES).split("\n"))
    return [(fields[3], fields[4], fields[5]) for fields in lines if len(fields) == 6]


def _cgroups(proc: Path, mounts: list[_Mount]) -> list[str]:
    """Paths of the control groups: versions 1 and 2, and those that show only as a mount's root."""
    paths = [line.split(":", 2)[-1] for line in _read(proc / "cgroup", lines=_MAX_LINES).split("\n")]
    return paths + [root for root, _, rest in mounts if " - cgroup" in rest]


def _container_id(cgroups: list[str], mounts: list[_Mount], *, in_pod: bool) -> str | None:
    for path in cgroups:
        if ids := [match.group(1) for match in _CONTAINER.finditer(path)]:
            return ids[-1]  # the innermost one, where containers are nested
    # With a cgroup namespace of its own a process sees "/" only. What the engine mounts for each container names it.
    # In a pod /etc/hostname belongs to the sandbox, which is another container: no id is better than that one.
    points = ("/run/.containerenv",) if in_pod else ("/run/.containerenv", "/etc/hostname")
    roots = {point: root for root, point, _ in mounts}
    matches = (_CONTAINER_FOLDER.search(roots[point]) for point in points if point in roots)
    return next((match.group(1) for match in matches if match), None)


def _pod_uid(cgroups: list[str], mounts: list[_Mount]) -> str | None:
    # The kubelet mounts these two files into every container, from its folder of the pod.
    roots = [root for root, point, _ in mounts if point in ("/etc/hosts", "/dev/termination-log")]
    matches = (*(_POD.search(path) for path in cgroups), *(_POD_FOLDER.search(root) for root in roots))
    return next((match.group(1).replace("_", "-") for match in matches if match), None)


def _find_git(start: Path) -> Path | None:
    """The repository's git folder, from ``start`` upwards (gitrepository-layout(5)); ``$GIT_DIR`` is not consulted."""
    for folder in (start, *start.parents)[:_MAX_LEVELS]:
        entry = folder / ".git"
        if os.path.lexists(entry / "HEAD"):
            return entry
        if os.path.isfile(entry):
            # A worktree or submodule. If it leads nowhere the search ends: what lies above is another repository.
            key, _, target = _read(entry).partition("gitdir:")
            return None if key else _follow(folder, target.strip())
    return None


def _follow(base: Path, target: str) -> Path | None:
    # Two slashes name another machine on Windows: looking there would be a request over the network.
    return None if not target or target.startswith(("//", "\\\\")) else base / target


def _head(git: Path, common: Path) -> tuple[str | None, str | None]:
    """The commit's full hash and the branch's name; the latter is ``None`` where HEAD is detached."""
    value = _read(git / "HEAD")
    branch: str | None = None
    for _ in range(_MAX_SYMREFS):
        if not value.startswith("ref:"):
            break
        ref = value.removeprefix("ref:").strip()
        if not _REF.fullmatch(ref):
            return None, None  # not a name that git accepts; reftable repositories have refs/heads/.invalid here
        branch = branch or ref.removeprefix("refs/heads/")
        value = _read(git / ref) or _read(common / ref) or _packed(common, ref)
    return (value if _SHA.fullmatch(value) else None), branch


def _packed(common: Path, ref: str) -> str:
    before, found, _ = _read(common / "packed-refs", lines=_MAX_PACKED_REFS).partition(f" {ref}\n")
    return before[before.rfind("\n") + 1 :] if found else ""


def _origin_url(config: str) -> str | None:
    """The first ``url`` of the remote ``origin``, which is the one that git fetches from."""
    inside = False
    for line in config.split("\n"):
        header = _ORIGIN.match(line)
        if header or line.lstrip().startswith("["):
            inside = header is not None
        found = _URL_LINE.fullmatch(header.group(1) if header else line) if inside else None
        if found:
            return _without_credentials(_clean(found.group(1) or found.group(2)) or "")
    return None


def _without_credentials(url: str) -> str | None:
    """The address without user, password, query and fragment; ``None`` for a local path, and where one may be left."""
    if "://" not in url:
        return url if _SCP.fullmatch(url) and not _TOKEN.search(url) else None
    try:
        parts = urlsplit(url)
        port = parts.port  # ValueError: this was no port but a password, cut short by a slash in it
    except ValueError:
        return None
    host = parts.hostname or ""
    if parts.scheme not in _SCHEMES or not _HOST.fullmatch(host) or "@" in parts.path or _TOKEN.search(parts.path):
        return None
    # The convention for vcs.repository.url.full asks for the address of the web page.
    path = parts.path.removesuffix(".git") if parts.scheme in ("http", "https") else parts.path
    authority = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{authority}{'' if port is None else f':{port}'}{path}"
