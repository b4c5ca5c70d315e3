"""The resource detector, on folders that look like the real ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.resources import OTELResourceDetector, Resource, get_aggregated_resources
from opentelemetry.sdk.trace import TracerProvider

from runnable_otel.resource import RunnableResourceDetector

if TYPE_CHECKING:
    from collections.abc import Mapping

A = "a" * 64
B = "0123456789abcdef" * 4
SHA = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40
UID = "12345678-90ab-cdef-1234-567890abcdef"
IN_POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


def detect(root: Path, environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> dict[str, object]:
    """What the detector finds in a root with ``proc``, ``sa`` and ``work``, all of them optional."""
    detector = RunnableResourceDetector(
        proc=root / "proc", cwd=cwd or root / "work", environ=environ or {}, serviceaccount=root / "sa"
    )
    found = dict(detector.detect().attributes)
    found.pop("runnable.version", None)
    return found


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def git(root: Path, *, head: str = "ref: refs/heads/main\n", config: str = "", **files: str) -> Path:
    """A git folder at ``root``; a file's name is its path with two underscores for each slash."""
    write(root / "HEAD", head)
    write(root / "config", config)
    for name, text in files.items():
        write(root / name.replace("__", "/").replace("_", "-"), text)
    return root


def origin(url: str) -> str:
    return f'[core]\n\tbare = false\n[remote "origin"]\n\turl = {url}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n'


def test_nothing_known(tmp_path: Path) -> None:
    """Where nothing is known the service has a name, and there is no empty attribute."""
    assert detect(tmp_path) == {"service.name": "runnable"}


# --- service and version


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "runnable"),
        ({"OTEL_SERVICE_NAME": "mine"}, None),
        ({"OTEL_SERVICE_NAME": ""}, "runnable"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=b, service.name = mine"}, None),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=,a"}, "runnable"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.namespace=x,my.service.name=y"}, "runnable"),
        ({"OTEL_RESOURCE_ATTRIBUTES": ",,=,service.name"}, "runnable"),
    ],
)
def test_service_name(tmp_path: Path, environ: dict[str, str], expected: str | None) -> None:
    """We name the service only where the user did not, in either of the two variables."""
    assert detect(tmp_path, environ).get("service.name") == expected


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("OTEL_SERVICE_NAME", "mine", "mine"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=mine", "mine"),
        ("OTEL_RESOURCE_ATTRIBUTES", "other=1", "runnable"),
    ],
)
def test_users_service_name_wins_in_any_order(
    monkeypatch: pytest.MonkeyPatch, ours_first: bool, key: str, value: str, expected: str
) -> None:
    """The user's service name wins and the SDK's "unknown_service" loses, before and after the SDK's own detector."""
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.setenv(key, value)
    detectors = [RunnableResourceDetector(), OTELResourceDetector()]
    for merged in (
        get_aggregated_resources(detectors if ours_first else detectors[::-1]),
        get_aggregated_resources([RunnableResourceDetector()]),
        Resource.create().merge(RunnableResourceDetector().detect()),
        Resource.create({"service.name": expected}),
    ):
        assert merged.attributes["service.name"] == expected


def test_code_wins_over_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service name given in code wins over ours, since Resource.create merges it last."""
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    found = RunnableResourceDetector().detect()
    assert found.merge(Resource({"service.name": "code"})).attributes["service.name"] == "code"


def test_provider_takes_the_resource(tmp_path: Path) -> None:
    """A provider built with the detector puts its attributes on every span, the list as a sequence of text."""
    digest = "sha256:" + A
    environ = {"RUNNABLE_CODE_ID_DOCKER_IMAGE_DIGEST": digest, "ARGO_WORKFLOW_UID": "w-1"}
    resource = get_aggregated_resources([RunnableResourceDetector(proc=tmp_path, cwd=tmp_path, environ=environ)])
    span = TracerProvider(resource=resource).get_tracer("t").start_span("s")
    attributes = span.resource.attributes
    assert attributes["container.image.repo_digests"] == (digest,)
    assert attributes["argo.workflow.uid"] == "w-1"
    assert attributes["runnable.version"] == metadata.version("runnable")
    assert "runnable.version" in span.resource.to_json()


def test_no_schema_url(tmp_path: Path) -> None:
    """Ours has no schema URL, so that it merges with a resource that has one, whichever comes first."""
    ours = RunnableResourceDetector(proc=tmp_path, cwd=tmp_path, environ={}).detect()
    theirs = Resource({"x": "y"}, "https://opentelemetry.io/schemas/1.30.0")
    for merged in (ours.merge(theirs), theirs.merge(ours)):
        assert {"service.name", "x"} <= set(merged.attributes)


def run(code: str, *path: Path) -> list[str]:
    """The words that a new process prints."""
    ours = [str(Path(__file__).parents[1] / "src"), *(entry for entry in sys.path if entry)]
    environ = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join([*map(str, path), *ours])}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.split()


VERSION = """
import sys
from runnable_otel.resource import RunnableResourceDetector
{then}
print(RunnableResourceDetector().detect().attributes.get("runnable.version"))
print("runnable" in sys.modules, RunnableResourceDetector(environ=dict()).detect().attributes["service.name"])
"""


def test_version_is_the_first_on_the_path(tmp_path: Path) -> None:
    """The version is that of the distribution that an import would find first, read without importing it."""
    write(tmp_path / "runnable_x-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: runnable-x\nVersion: 1.0\n")
    write(tmp_path / "runnable-9.8.7.dist-info/METADATA", "Metadata-Version: 2.1\nName: runnable\nVersion: 9.8.7\n")
    assert run(VERSION.format(then=""), tmp_path) == ["9.8.7", "False", "runnable"]


@pytest.mark.parametrize("folder", ["Runnable-9.8.7.dist-info", "runnable.egg-info"])
def test_version_of_an_unusual_installation(tmp_path: Path, folder: str) -> None:
    """Where the folder is spelt otherwise, importlib.metadata finds the version."""
    name = "PKG-INFO" if folder.endswith("egg-info") else "METADATA"
    write(tmp_path / folder / name, "Metadata-Version: 2.1\nName: runnable\nVersion: 9.8.7\n")
    then = f"sys.path[:] = [p for p in sys.path if 'site-packages' not in p] + ['/nowhere', {str(tmp_path)!r}]"
    assert run(VERSION.format(then=then)) == ["9.8.7", "False", "runnable"]


def test_version_absent_where_runnable_is() -> None:
    """Without runnable there is no version, no error, and everything else."""
    then = "sys.path[:] = [p for p in sys.path if 'site-packages' not in p]"
    assert run(VERSION.format(then=then)) == ["None", "False", "runnable"]


# --- containers


@pytest.mark.parametrize(
    "line",
    [
        f"12:memory:/docker/{A}",
        f"1:name=systemd:/docker/{B}/docker/{A}",
        f"0::/system.slice/docker-{A}.scope",
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope/container",
        f"11:cpu:/kubepods/burstable/pod{UID}/{A}",
        f"0::/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-containerd-{A}.scope",
        f"1:name=systemd:/kubepods.slice/kubepods-pod{UID}.slice/crio-{A}.scope",
        f"6:cpuset:/system.slice/containerd.service/kubepods-besteffort-pod{UID}.slice:cri-containerd:{A}",
        f"9:perf_event:/ecs/task/{A}",
    ],
)
@pytest.mark.parametrize("environ", [{}, IN_POD])
def test_container_from_cgroup(tmp_path: Path, line: str, environ: dict[str, str]) -> None:
    """The control group's path names the innermost container, whichever engine wrote it."""
    write(tmp_path / "proc/cgroup", f"13:misc:/\n{line}\n0::/\n")
    assert detect(tmp_path, environ)["container.id"] == A


def mount(root: str, point: str, rest: str = "rw - ext4 /dev/sda1 rw") -> str:
    return f"620 591 254:1 {root} {point} {rest}\n"


@pytest.mark.parametrize(
    ("lines", "environ", "expected"),
    [
        (mount(f"/var/lib/docker/containers/{A}/hostname", "/etc/hostname"), {}, A),
        (mount(f"/containers/{A}/hostname", "/etc/hostname"), {}, A),
        (mount(f"/run/user/1/containers/overlay-containers/{A}/userdata/.containerenv", "/run/.containerenv"), {}, A),
        (mount(f"/x/overlay-containers/{A}/userdata/.containerenv", "/run/.containerenv"), IN_POD, A),
        (mount(f"/kubepods/pod{UID}/{A}", "/sys/fs/cgroup", "ro - cgroup2 cgroup rw"), IN_POD, A),
        # the sandbox's id, not the container's
        (mount(f"/var/lib/docker/containers/{B}/hostname", "/etc/hostname"), IN_POD, None),
        (mount(f"/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{B}/hostname", "/etc/hostname"), {}, None),
        # other people's containers, seen from the host
        (mount("/", f"/var/lib/docker/overlay2/{B}/merged", "rw - overlay overlay rw"), {}, None),
        (mount(f"/containers/{A}/data", "/mnt"), {}, None),
        (mount("/containers/abc/hostname", "/etc/hostname"), {}, None),
        ("", {}, None),
        ("x\n\n - cgroup\n1 2 3 4 5\n", {}, None),
    ],
)
def test_container_from_mounts(tmp_path: Path, lines: str, environ: dict[str, str], expected: str | None) -> None:
    """Under cgroup v2 the engine's own mounts name the container; an id that may be another's is left out."""
    write(tmp_path / "proc/cgroup", "0::/\n")
    write(tmp_path / "proc/mountinfo", mount("/", "/", "rw - overlay overlay rw,lowerdir=/l/AB:/l/CD") + lines)
    assert detect(tmp_path, environ).get("container.id") == expected


@pytest.mark.parametrize("line", [f"0::/x{A}", f"0::/{A}0", f"0::/docker/{A.upper()}", "0::/ecs/abc-12", f"0::{A}x"])
def test_what_is_no_container(tmp_path: Path, line: str) -> None:
    """Only 64 hexadecimal digits that stand alone are a container's id."""
    write(tmp_path / "proc/cgroup", line)
    assert "container.id" not in detect(tmp_path)


def test_image_digest(tmp_path: Path) -> None:
    """The image's digest is a list of one text, as the convention has it."""
    found = detect(tmp_path, {"RUNNABLE_CODE_ID_DOCKER_IMAGE_DIGEST": " sha256:abc\n"})
    assert found["container.image.repo_digests"] == ("sha256:abc",)


# --- Kubernetes and Argo


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"K8S_NAMESPACE_NAME": "a", "POD_NAMESPACE": "b", "K8S_NAMESPACE": "c"}, {"k8s.namespace.name": "a"}),
        ({"POD_NAMESPACE": "b", "K8S_NAMESPACE": "c"}, {"k8s.namespace.name": "b"}),
        ({"K8S_NAMESPACE": "c"}, {"k8s.namespace.name": "c"}),
        ({"K8S_NAMESPACE": " \n"}, {}),
        ({"K8S_POD_NAME": "a", "POD_NAME": "b", "HOSTNAME": "h", **IN_POD}, {"k8s.pod.name": "a"}),
        ({"POD_NAME": "b", "HOSTNAME": "h", **IN_POD}, {"k8s.pod.name": "b"}),
        ({"HOSTNAME": "h", **IN_POD}, {"k8s.pod.name": "h"}),
        ({"HOSTNAME": "h"}, {}),
        ({"K8S_POD_UID": "a", "POD_UID": "b"}, {"k8s.pod.uid": "a"}),
        ({"POD_UID": "b"}, {"k8s.pod.uid": "b"}),
        ({"ARGO_POD_UID": "u", "ARGO_POD_NAME": "n"}, {"k8s.pod.uid": "u", "k8s.pod.name": "n"}),
        ({"K8S_JOB_NAME": "a", "JOB_NAME": "b", **IN_POD}, {"k8s.job.name": "a"}),
        ({"JOB_NAME": "b", **IN_POD}, {"k8s.job.name": "b"}),
        ({"JOB_NAME": "jenkins/main"}, {}),
        ({"ARGO_WORKFLOW_UID": "a", "RUNNABLE_CODE_ID_ARGO_WORKFLOW_UID": "b"}, {"argo.workflow.uid": "a"}),
        ({"RUNNABLE_CODE_ID_ARGO_WORKFLOW_UID": "b", "RUNNABLE_OTEL_SEED": "s"}, {"argo.workflow.uid": "b"}),
        ({"RUNNABLE_OTEL_SEED": "s", "ARGO_TEMPLATE": "{}"}, {"argo.workflow.uid": "s"}),
        ({"RUNNABLE_OTEL_SEED": "s", "ARGO_TEMPLATE": '{"name":"{{inputs.x}}"}'}, {"argo.workflow.uid": "s"}),
        ({"RUNNABLE_OTEL_SEED": "s"}, {}),
        ({"ARGO_WORKFLOW_UID": "{{workflow.uid}}"}, {}),
    ],
)
def test_kubernetes_environment(tmp_path: Path, environ: dict[str, str], expected: dict[str, str]) -> None:
    """Pod, job and workflow come from the environment, the most explicit variable first."""
    assert detect(tmp_path, environ) == {"service.name": "runnable", **expected}


def test_namespace_file(tmp_path: Path) -> None:
    """Without a variable the namespace is that of the service account."""
    write(tmp_path / "sa/namespace", "team-a\n")
    assert detect(tmp_path)["k8s.namespace.name"] == "team-a"
    assert detect(tmp_path, {"POD_NAMESPACE": "b"})["k8s.namespace.name"] == "b"


@pytest.mark.parametrize(
    ("cgroup", "mounts", "expected"),
    [
        (f"0::/kubepods/burstable/pod{UID}/{A}", "", UID),
        (f"0::/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/crio-{A}.scope", "", UID),
        ("0::/", mount(f"/kubepods/pod{UID}/{A}", "/sys/fs/cgroup", "ro - cgroup2 cgroup rw"), UID),
        ("0::/", mount(f"/var/lib/kubelet/pods/{UID}/etc-hosts", "/etc/hosts"), UID),
        ("0::/", mount(f"/pods/{UID}/containers/main/0a1b", "/dev/termination-log"), UID),
        ("0::/", mount("/", f"/var/lib/kubelet/pods/{UID}/volumes/kubernetes.io~projected/token"), None),
        ("0::/", mount(f"/var/lib/kubelet/pods/{UID}/volumes/x", "/data"), None),
        (f"0::/kubepods/pod{UID[:-1]}/x", "", None),
        (f"0::/docker/pod{UID}", "", None),
    ],
)
def test_pod_uid(tmp_path: Path, cgroup: str, mounts: str, expected: str | None) -> None:
    """The pod's uid comes from its control group or from the kubelet's mounts, never from another pod's."""
    write(tmp_path / "proc/cgroup", cgroup)
    write(tmp_path / "proc/mountinfo", mounts)
    assert detect(tmp_path).get("k8s.pod.uid") == expected


# --- git


def vcs(root: Path, cwd: Path | None = None) -> tuple[object, object, object]:
    found = detect(root, cwd=cwd)
    return tuple(found.get(f"vcs.{key}") for key in ("ref.head.revision", "ref.head.name", "repository.url.full"))  # type: ignore[return-value]


def test_git_folder(tmp_path: Path) -> None:
    """A checked-out branch gives its name, its commit and the address of origin, from any folder inside."""
    git(tmp_path / ".git", config=origin("https://host/a/b.git"), refs__heads__main=SHA + "\n")
    below = tmp_path / "a/b/c"
    below.mkdir(parents=True)
    for folder in (tmp_path, below):
        assert vcs(tmp_path, folder) == (SHA, "main", "https://host/a/b")


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_what_git_itself_writes(tmp_path: Path) -> None:
    """Repositories, packed refs, worktrees and submodules that git itself made give what git itself says."""
    home = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    who = {f"GIT_{role}_{key}": "x@y" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}

    def call(cwd: Path, *args: str) -> str:
        command = ["git", "-c", "protocol.file.allow=always", "-C", str(cwd), *args]
        return subprocess.run(command, env=home | who, capture_output=True, text=True, check=True).stdout.strip()

    main = tmp_path / "main"
    main.mkdir()
    call(main, "init", "-q")
    call(main, "checkout", "-q", "-b", "feature/x")
    call(main, "commit", "-q", "--allow-empty", "-m", "one")
    call(main, "remote", "add", "origin", "https://user:pw@host/a/b.git")
    first = call(main, "rev-parse", "HEAD")
    assert vcs(tmp_path, main) == (first, "feature/x", "https://host/a/b")
    call(main, "pack-refs", "--all")
    assert not (main / ".git/refs/heads/feature/x").exists()
    assert vcs(tmp_path, main) == (first, "feature/x", "https://host/a/b")
    call(main, "worktree", "add", "-q", "-b", "other", str(tmp_path / "tree"))
    call(tmp_path / "tree", "commit", "-q", "--allow-empty", "-m", "two")
    second = call(tmp_path / "tree", "rev-parse", "HEAD")
    assert vcs(tmp_path, tmp_path / "tree") == (second, "other", "https://host/a/b")
    call(main, "submodule", "--quiet", "add", str(main), "sub")
    assert (main / "sub/.git").is_file()
    assert vcs(tmp_path, main / "sub")[:2] == (first, call(main / "sub", "branch", "--show-current"))
    call(main, "checkout", "-q", "--detach")
    assert vcs(tmp_path, main) == (first, None, "https://host/a/b")


def test_worktree_and_submodule(tmp_path: Path) -> None:
    """A `.git` file leads to its folder, absolute or relative; a worktree shares the main one's branches and origin."""
    shared = git(tmp_path / "main/.git", config=origin("ssh://git@host/x"), refs__heads__side=SHA)
    git(shared / "worktrees/w", head="ref: refs/heads/side", commondir="../..\n").joinpath("config").unlink()
    write(tmp_path / "w/.git", f"gitdir: {shared}/worktrees/w\n")
    assert vcs(tmp_path, tmp_path / "w") == (SHA, "side", "ssh://host/x")
    git(shared / "modules/sub", head=OTHER, config=origin("git@host:sub.git"))
    write(tmp_path / "main/sub/.git", "gitdir: ../.git/modules/sub")
    assert vcs(tmp_path, tmp_path / "main/sub") == (OTHER, None, "git@host:sub.git")


def test_detached_head(tmp_path: Path) -> None:
    """A detached HEAD gives the commit, of SHA-1 or SHA-256, and no branch."""
    for sha in (SHA, A):
        git(tmp_path / "work/.git", head=sha + "\n")
        assert vcs(tmp_path) == (sha, None, None)


def test_packed_refs(tmp_path: Path) -> None:
    """A packed branch is found by its whole name, and a loose one wins over it."""
    packed = f"# pack-refs with: peeled fully-peeled sorted\n{OTHER} refs/heads/ma\n{OTHER} refs/heads/main2\n"
    packed += f"{SHA} refs/heads/main\n{OTHER} refs/tags/v1\n^{SHA}\n"
    folder = git(tmp_path / "work/.git", packed_refs=packed)
    assert vcs(tmp_path) == (SHA, "main", None)
    write(folder / "refs/heads/main", OTHER)
    assert vcs(tmp_path) == (OTHER, "main", None)


def test_packed_refs_are_read_up_to_a_mebibyte(tmp_path: Path) -> None:
    """Of a larger file of packed refs the first MiB counts; what lies beyond is absent, never half of it."""
    folder = git(tmp_path / "work/.git", packed_refs="")
    filler = f"{OTHER} refs/tags/{'t' * 62}\n".encode()
    assert 1024 * 1024 % len(filler) != 0
    many = filler * (1024 * 1024 // len(filler) + 1)
    line = f"{SHA} refs/heads/main\n".encode()
    write(folder / "packed-refs", many[: -2 * len(filler)] + line + many)
    assert vcs(tmp_path) == (SHA, "main", None)
    write(folder / "packed-refs", many + line)
    assert vcs(tmp_path) == (None, "main", None)


def test_a_branch_without_commit(tmp_path: Path) -> None:
    """Before the first commit the branch has a name and no revision."""
    git(tmp_path / "work/.git", head="ref: refs/heads/trunk\n")
    assert vcs(tmp_path) == (None, "trunk", None)


@pytest.mark.parametrize(
    "head",
    [
        "ref: refs/heads/.invalid",  # what a reftable repository holds
        "ref: ../../secret",
        "ref: refs/heads/../../../../secret",
        "ref: refs/heads/a\\..\\b",
        "ref: /secret",
        "ref: refs/",
        "ref: refs//heads",
        "ref: refs/heads/a\x00b",
        "ref: refs/heads/a b",
        "ref:",
        "",
        "hello",
        SHA + "0",
    ],
)
def test_heads_that_git_refuses(tmp_path: Path, head: str) -> None:
    """A HEAD that git would refuse gives nothing, and never leads out of the git folder."""
    write(tmp_path / "secret", SHA)
    git(tmp_path / "work/.git", head=head)
    assert vcs(tmp_path) == (None, None, None)


def test_symbolic_refs_do_not_run_in_circles(tmp_path: Path) -> None:
    """A symbolic ref is followed to its commit, and one that leads back to itself ends."""
    git(tmp_path / "work/.git", refs__heads__main="ref: refs/heads/next", refs__heads__next=SHA)
    assert vcs(tmp_path) == (SHA, "main", None)
    write(tmp_path / "work/.git/refs/heads/next", "ref: refs/heads/main")
    assert vcs(tmp_path) == (None, "main", None)


def test_how_far_up(tmp_path: Path) -> None:
    """The search goes up 16 folders, its own included, and no further."""
    git(tmp_path / ".git", refs__heads__main=SHA)
    near = tmp_path.joinpath(*"abcdefghijklmno")
    (near / "p").mkdir(parents=True)
    assert vcs(tmp_path, near)[0] == SHA
    assert vcs(tmp_path, near / "p")[0] is None


@pytest.mark.parametrize(
    "pointer", ["gitdir: /nowhere", "gitdir:", "", "words", "gitdir: /{0}/.git", "x gitdir: {0}/.git"]
)
def test_a_git_file_that_leads_nowhere(tmp_path: Path, pointer: str) -> None:
    """A `.git` file that leads nowhere ends the search: the repository above is another one."""
    git(tmp_path / ".git", refs__heads__main=SHA)
    write(tmp_path / "work/.git", pointer.format(tmp_path))
    assert vcs(tmp_path) == (None, None, None)


def test_an_empty_git_folder_is_passed_over(tmp_path: Path) -> None:
    """A folder named `.git` without a HEAD is no repository, as git sees it."""
    git(tmp_path / ".git", refs__heads__main=SHA)
    (tmp_path / "work/.git").mkdir(parents=True)
    assert vcs(tmp_path) == (SHA, "main", None)


def test_git_dir_is_not_consulted(tmp_path: Path) -> None:
    """GIT_DIR in the environment leads nowhere."""
    git(tmp_path / "elsewhere", refs__heads__main=SHA)
    assert detect(tmp_path, {"GIT_DIR": str(tmp_path / "elsewhere")}) == {"service.name": "runnable"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://github.com/o/r.git", "https://github.com/o/r"),
        ("https://github.com/o/r", "https://github.com/o/r"),
        ("https://user:s3cret@github.com/o/r.git", "https://github.com/o/r"),
        ("https://s3cret@github.com/o/r", "https://github.com/o/r"),
        ("https://user:s3@cret@host/o/r", "https://host/o/r"),
        ("https://x-access-token:ghs_s3cret@host:8443/o/r", "https://host:8443/o/r"),
        ("https://host/o/r?private_token=s3cret", "https://host/o/r"),
        ('"https://host/o/r?a=s3cret#s3cret"  ; a comment', "https://host/o/r"),
        ("https://host/o/r # a comment", "https://host/o/r"),
        ("HTTPS://u:s3cret@HOST/o/r", "https://host/o/r"),
        ("https://u:s3cret@[::1]:80/o", "https://[::1]:80/o"),
        ("ssh://git:s3cret@host:22/o/r.git", "ssh://host:22/o/r.git"),
        ("git@github.com:o/r.git", "git@github.com:o/r.git"),
        ("host.example:o/r", "host.example:o/r"),
        # where it is not clear what is left, nothing is
        ("https://user:s3/cret@host/o/r", None),
        ("https://user:12/s3cret@host/o/r", None),
        ("https://s3/cret@host/o/r", None),
        ("https://user%3As3cret%40host/o/r", None),
        ("https://user:s3\\\\cret@host/o", None),
        ('"https://user:s3;cret@host/o"', "https://host/o"),
        ("https://user:s3;cret@host/o", None),
        ("https://s3#cret@host/o", None),
        ("https://user:s3 cret@host/o", None),
        ("ghp_0123456789abcdefghijs3cret0123456789@github.com:o/r", None),
        ("s3cret0123456789abcdef0123456789abcdef01@host:o/r", None),
        ("git@host:ghp_0123456789abcdefghij0123456789s3cret/o/r", None),
        ("user:s3cret@host:o/r", None),
        ("https://host/ghp_0123456789abcdefghij0123456789s3cret/o/r", None),
        ("https://host/git/glpat-0123456789abcdefs3cret/r", None),
        ("https://[::1", None),
        ("ext::sh -c s3cret", None),
        ("codecommit::eu://s3cret@repo", None),
        ("javascript://host/x", None),
        ("/srv/git/r.git", None),
        ("../r.git", None),
        ("file:///srv/git/r.git", None),
        ("C:/repos/r", None),
        ("", None),
    ],
)
def test_urls(tmp_path: Path, url: str, expected: str | None) -> None:
    """The repository's address holds no user, password, token, query or fragment."""
    git(tmp_path / "work/.git", config=origin(url))
    found = detect(tmp_path)
    assert found.get("vcs.repository.url.full") == expected
    assert found["vcs.ref.head.name"] == "main"
    assert "s3" not in str(found)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ('[remote "upstream"]\nurl = https://up/x\n[remote "origin"]\nurl = https://or/x\n', "https://or/x"),
        ('[remote "origin"]\npushurl = https://push/x\nURL=https://or/x\r\nurl = https://second/x\n', "https://or/x"),
        ('[Remote   "origin"] url = https://or/x\n', "https://or/x"),
        ('[remote "origin"]\n[branch "main"]\nurl = https://no/x\n', None),
        ('[remote "ORIGIN"]\nurl = https://no/x\n', None),
        ('; [remote "origin"]\nurl = https://no/x\n', None),
        ('[remote "origin"]\n# url = https://no/x\nurls = https://no/x\n', None),
        ('[remote "origin"]\n\turl = https://or/\x1b[31mx\n', "https://or/[31mx"),
    ],
)
def test_configuration(tmp_path: Path, config: str, expected: str | None) -> None:
    """The first url of origin counts, and of no other section."""
    git(tmp_path / "work/.git", config=config)
    assert detect(tmp_path).get("vcs.repository.url.full") == expected


# --- hostile values and files


def test_values_are_bounded_and_clean(tmp_path: Path) -> None:
    """Every value is at most 1,024 characters of valid text without control characters."""
    environ = {
        "K8S_POD_NAME": "x" * 5_000_000,
        "K8S_NAMESPACE_NAME": "a\x1b[31m\r\nb\x00\u202ec",
        "K8S_POD_UID": "a\udc80b\ud800",
        "K8S_JOB_NAME": "\x07\n \x9b",
        "RUNNABLE_CODE_ID_DOCKER_IMAGE_DIGEST": "\udcff" * 2000,
    }
    found = detect(tmp_path, environ)
    assert found["k8s.pod.name"] == "x" * 1024
    assert found["k8s.namespace.name"] == "a[31mbc"
    assert found["k8s.pod.uid"] == "a\ufffdb\ufffd"
    assert "k8s.job.name" not in found
    assert found["container.image.repo_digests"] == ("\ufffd" * 1024,)


FILES = ["proc/cgroup", "proc/mountinfo", "sa/namespace", "work/.git/HEAD", "work/.git/config", "work/.git/packed-refs",
         "work/.git/commondir", "work/.git/refs/heads/main", "work/.git"]  # fmt: skip


KINDS = ["100 MB", "one line of 100 MB", "binary", "folder", "pipe", "circle", "device", "mode 0"]


def healthy(root: Path) -> None:
    write(root / "proc/cgroup", f"0::/docker/{A}\n")
    write(root / "proc/mountinfo", mount(f"/pods/{UID}/etc-hosts", "/etc/hosts"))
    write(root / "sa/namespace", "ns")
    git(root / "work/.git", config=origin("https://host/r"), refs__heads__main=SHA, packed_refs="", commondir=".")


def hostile(path: Path, kind: str) -> None:
    """Put something unfit in place of a file."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "100 MB":
        with path.open("wb") as file:
            file.truncate(100_000_000)  # sparse: costs no disk
    elif kind == "one line of 100 MB":
        with path.open("wb") as file:
            file.write(b"ref: refs/heads/")
            file.seek(100_000_000)
            file.write(b"\n")
    elif kind == "binary":
        path.write_bytes(bytes(range(256)) * 20)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "circle":
        path.symlink_to(path.name)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        write(path, "x").chmod(0)


def test_a_healthy_tree(tmp_path: Path) -> None:
    """The tree that the next test spoils gives everything."""
    healthy(tmp_path)
    assert set(detect(tmp_path)) == {
        "service.name", "container.id", "k8s.pod.uid", "k8s.namespace.name",
        "vcs.ref.head.revision", "vcs.ref.head.name", "vcs.repository.url.full",
    }  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="needs pipes and devices")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_hostile_files(tmp_path: Path, name: str, kind: str) -> None:
    """A file that is huge, binary, unreadable, or no file at all costs its own attribute only, and never blocks."""
    healthy(tmp_path)
    hostile(tmp_path / name, kind)
    found = detect(tmp_path)
    assert found["service.name"] == "runnable"
    assert all(len(str(value)) <= 1024 and str(value).isprintable() for value in found.values())
    for part, keys in {
        "proc/cgroup": {"container.id"},
        "proc/mountinfo": {"k8s.pod.uid"},
        "sa/": {"k8s.namespace.name"},
        "work/": {"vcs.repository.url.full"},
    }.items():
        assert name.startswith(part) or keys <= set(found)


@pytest.mark.skipif(os.name == "nt", reason="needs resource limits")
def test_memory_of_hostile_files(tmp_path: Path) -> None:
    """A tree of 100 MB files is read in a few MB of memory."""
    import tracemalloc

    for name in FILES[:3]:
        hostile(tmp_path / name, "100 MB")
    git(tmp_path / "work/.git", packed_refs="")
    for name in ("config", "packed-refs", "refs/heads/main"):
        hostile(tmp_path / "work/.git" / name, "one line of 100 MB")
    tracemalloc.start()
    try:
        assert detect(tmp_path) == {"service.name": "runnable", "vcs.ref.head.name": "main"}
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(os.name == "nt", reason="needs pipes")
def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    """What waits in a pipe is left to whoever it is meant for."""
    (tmp_path / "sa").mkdir()
    os.mkfifo(tmp_path / "sa/namespace")
    pipe = os.open(tmp_path / "sa/namespace", os.O_RDWR)
    try:
        os.write(pipe, b"ns")
        assert detect(tmp_path) == {"service.name": "runnable"}
        assert os.read(pipe, 2) == b"ns"
    finally:
        os.close(pipe)


def test_a_nul_in_a_path(tmp_path: Path) -> None:
    """A path in a file that no file system takes costs what lies there, and no more."""
    git(tmp_path / "work/.git", head=SHA, commondir="a\x00b")
    assert vcs(tmp_path) == (SHA, None, None)


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose working directory was removed gets everything but the repository."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    detector = RunnableResourceDetector(proc=tmp_path, environ={"POD_NAME": "p"}, serviceaccount=tmp_path)
    assert dict(detector.detect().attributes).items() >= {"service.name": "runnable", "k8s.pod.name": "p"}.items()


def test_an_environment_of_other_types(tmp_path: Path) -> None:
    """A mapping whose values are no text costs those attributes only."""
    environ: dict[str, str] = {"K8S_POD_NAME": 5, "OTEL_RESOURCE_ATTRIBUTES": None}  # type: ignore[dict-item]
    git(tmp_path / "work/.git", refs__heads__main=SHA)
    assert detect(tmp_path, environ)["vcs.ref.head.revision"] == SHA


def test_defaults_run_here() -> None:
    """Without arguments it reads this machine, and returns text and lists of text alone."""
    for value in RunnableResourceDetector().detect().attributes.values():
        assert isinstance(value, str) or all(isinstance(item, str) for item in value)  # type: ignore[union-attr]
