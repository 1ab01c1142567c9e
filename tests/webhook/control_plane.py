"""A real kube-apiserver and its etcd on this machine, without a node: what the webhook asks, and what calls it.

The API server reaches Services by way of a proxy (its egress selector), which is ours: it does kube-proxy's part.
"""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.provision import HOME, SCRIPT

CHART = SCRIPT.parents[2] / "charts" / "podrate"
SYSTEM = "podrate-system"
BIN = HOME / "bin"
# Before a command, so that the kernel ends it when the thread that started it ends, also by SIGKILL: no `finally` can.
ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL")
# What the chart makes that concerns the API server; there is no controller here for the rest.
_KINDS = (
    *("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
    *("Secret", "Service", "MutatingWebhookConfiguration"),
)
_EGRESS = """
apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection: {proxyProtocol: HTTPConnect, transport: {uds: {udsName: %s}}}
"""


class Service:
    """Carries each connection that the API server makes to a Service to the next of `ports`, on this machine."""

    def __init__(self, path: Path) -> None:
        self.ports: list[int] = []
        self._connected: set[asyncio.StreamWriter] = set()
        self._turn = itertools.count()
        self._up, self._end = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=asyncio.run, args=[self._serve(path)])
        self._thread.start()
        self._up.wait(10)

    def disconnect(self) -> None:
        """End the connections that there are: the API server keeps them, and would use them before any other."""
        for writer in list(self._connected):
            self._loop.call_soon_threadsafe(writer.close)

    def close(self) -> None:
        """End all connections."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    async def _serve(self, path: Path) -> None:
        self._loop = asyncio.get_running_loop()
        async with await asyncio.start_unix_server(self._connect, path):
            self._up.set()
            await self._end.wait()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connected.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")  # CONNECT 10.0.0.1:443 HTTP/1.1
            ports = list(self.ports)
            if ports:
                far_reader, far_writer = await asyncio.open_connection(
                    "127.0.0.1", ports[next(self._turn) % len(ports)]
                )
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        writer.close()
        self._connected.discard(writer)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
    writer.close()


class ControlPlane:
    """The API server, with kubectl as its admin.

    kubeconfig:  the admin's
    service:     where the webhook's connections go
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, client, peer = _free_ports(3)
        pki = directory / "pki"
        subprocess.run([SCRIPT.with_name("pki.sh"), pki, str(self.port)], check=True, capture_output=True)
        self.kubeconfig = pki / "admin.kubeconfig"
        self.service = Service(directory / "service")
        (directory / "egress.yaml").write_text(_EGRESS % (directory / "service"))
        self._etcd_url = f"http://127.0.0.1:{client}"
        urls = [f"--{each}={self._etcd_url}" for each in ("listen-client-urls", "advertise-client-urls")]
        urls += [f"--{each}=http://127.0.0.1:{peer}" for each in ("listen-peer-urls", "initial-advertise-peer-urls")]
        cluster = f"--initial-cluster=default=http://127.0.0.1:{peer}"
        self._etcd = self._start("etcd", f"--data-dir={directory}/etcd", "--unsafe-no-fsync", cluster, *urls)
        self.process = self._start(
            "kube-apiserver",
            *(f"--etcd-servers={self._etcd_url}", f"--secure-port={self.port}", "--bind-address=127.0.0.1"),
            *(f"--tls-cert-file={pki}/apiserver.crt", f"--tls-private-key-file={pki}/apiserver.key"),
            *(f"--client-ca-file={pki}/ca.crt", "--authorization-mode=RBAC", "--endpoint-reconciler-type=none"),
            f"--service-account-key-file={pki}/service-account.pub",
            f"--service-account-signing-key-file={pki}/service-account.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--egress-selector-config-file={directory}/egress.yaml",
        )
        self._await_ready()

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """What `kubectl ARGUMENTS` prints; on both outputs when it may fail."""
        command = [str(BIN / "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 or not check, f"{arguments}: {done.stderr}"
        return done.stdout if check else done.stdout + done.stderr

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get ARGUMENTS`, parsed."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found

    def install(self, *values: str) -> None:
        """Create what the chart makes, but for the Deployment: that is the test's part."""
        command = [str(BIN / "helm"), "template", "podrate", str(CHART), "-n", SYSTEM, "--kube-version=1.36"]
        command += ["--no-hooks", *values]
        rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        manifests = [each for each in yaml.safe_load_all(rendered) if each and each["kind"] in _KINDS]
        self.kubectl("create", "namespace", SYSTEM)
        self.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))

    def account(self) -> Path:
        """A kubeconfig of the webhook's ServiceAccount, which may do what the chart says and no more."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        token = self.kubectl("-n", SYSTEM, "create", "token", "podrate").strip()
        config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
        file = self.directory / "podrate.kubeconfig"
        file.write_text(json.dumps(config))
        return file

    def forget(self, version: str) -> None:
        """Make etcd forget what was before `version`, as it does every five minutes."""
        body = json.dumps({"revision": version, "physical": True}).encode()
        with urllib.request.urlopen(f"{self._etcd_url}/v3/kv/compaction", body, timeout=10) as answer:  # noqa: S310
            answer.read()

    def stop(self) -> None:
        """End all of it."""
        for process in (self.process, self._etcd):
            process.kill()
            process.wait()
        self.service.close()

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.directory / f"{program}.log").open("wb") as log:
            return subprocess.Popen([*ENDS_WITH_US, BIN / program, *arguments], stdout=log, stderr=log)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + 60
        while self.kubectl("get", "--raw", "/readyz", check=False) != "ok":
            log = (self.directory / "kube-apiserver.log").read_text()
            assert self.process.poll() is None, log[-4000:]
            assert time.monotonic() < deadline, log[-4000:]
            time.sleep(0.2)
        # A pod may be created where its ServiceAccount is; a controller would make it.
        self.kubectl("create", "serviceaccount", "default", "-n", "default")


@contextlib.contextmanager
def control_plane(directory: Path) -> Iterator[ControlPlane]:
    """Until the end of the block."""
    plane = ControlPlane(directory)
    try:
        yield plane
    finally:
        plane.stop()


def obstacle() -> str | None:
    """Why there can be none here; None when there can: then it is built first if need be, in 10 to 15 minutes."""
    if not all((BIN / f".{part}").exists() for part in ("kube", "helm", "promtool", "crds")):
        if os.geteuid() != 0 or shutil.which("go") is None:
            return "building it needs root and Go 1.21 or later; see tests/cluster/README.md"
        subprocess.run([SCRIPT, "build"], check=True)
    return None


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    with contextlib.ExitStack() as taken:
        sockets = [taken.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
