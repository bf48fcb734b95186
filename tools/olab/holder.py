"""Holder: the process that holds a lab; the lab ends when it exits. Process 1 of a process namespace of the lab's own.

`Lab` starts it (`python -m ouroboros_tools.olab.holder FOLDER`, the description on standard input). It makes the
namespaces and keeps them open, starts and reaps the IRMds, and serves the requests of `control`; one thread, one loop.

Nothing of a lab can outlive it: when process 1 of a process namespace ends, in whatever way, the kernel kills all others
in it, and network namespaces, devices and mounts end with the last of them. After `kill -9` of the holder only its folder
is left, which the next `olab down` or `olab up` of that name removes. Until a request `keep` arrives, it also
ends with the process that made it: its standard input is at its end then.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import control, namespaces
from .description import Description, SystemSpec
from .place import Place
from .reading import from_table

EXIT_TIMEOUT = 40.0
"""Seconds after which an IRMd that does not end is killed; it gives its own processes 30."""
LEASE = 0
"""Standard input: the lab belongs to the process that holds the other end, until that process asks to keep it."""
_ROOM = 1 << 16


@dataclass(slots=True)
class Held:
    """A system, as its holder knows it."""

    spec: SystemSpec
    folder: Path
    network: int
    mounts: int
    irmd: int = 0
    """Pid of its IRMd, 0 when there is none."""
    ready: bool = False
    notify: socket.socket | None = None
    code: int | None = None
    """Exit code of its last IRMd; negative for a signal."""


@dataclass(slots=True)
class Waiting:
    """A request whose reply has to wait for IRMds to be ready, or (`ends`) to end."""

    client: Client
    systems: set[str]
    ends: bool
    down: bool = False
    codes: dict[str, int | None] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Client:
    """A connected command."""

    sock: socket.socket
    buffer: bytes = b""


class Holder:
    """A lab that is held. `run` returns when it has ended."""

    def __init__(self, place: Place, description: Description, env: dict[str, str], *, user: bool) -> None:
        self.place = place
        self.description = description
        self.env = env
        self.user = user
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.systems: dict[str, Held] = {}
        self.selector = selectors.DefaultSelector()
        self.clients: set[Client] = set()
        self.waiting: list[Waiting] = []
        self.leased = True
        self.going_down = False
        self.ended = False
        self._wires: Any = None

    # ---------------------------------------------------------------- namespaces

    def make_systems(self) -> None:
        """A network namespace for each set of systems that share one, a mount namespace for each system."""
        base = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        specs = {spec.name: spec for spec in self.description.systems}
        for network in self.description.networks():
            namespaces.unshare(namespaces.NEWNET)
            net = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            for name in network:
                folder = self.place.system(name)
                folder.mkdir(parents=True)
                hosts = folder / "hosts"
                hosts.write_text(specs[name].hosts_file())
                namespaces.unshare(namespaces.NEWNS)
                mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
                namespaces.mount(str(hosts), "/etc/hosts", None, namespaces.MS_BIND)
                with contextlib.suppress(OSError):  # some containers forbid it; then /sys shows other devices
                    namespaces.mount("olab", "/sys", "sysfs", _SAFE)
                namespaces.setns(base, namespaces.NEWNS)
                self.systems[name] = Held(specs[name], folder, net, mounts)
        namespaces.setns(self.home, namespaces.NEWNET)
        os.close(base)

    # ---------------------------------------------------------------- the loop

    def run(self, listener: socket.socket) -> None:
        """Serve until the lab has ended."""
        wakeup, wakes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        self.selector.register(listener, selectors.EVENT_READ, lambda: self._accept(listener))
        self.selector.register(wakeup, selectors.EVENT_READ, lambda: self._signals(wakeup))
        self.selector.register(LEASE, selectors.EVENT_READ, self._lease_ended)
        while not self.ended:
            for key, _ in self.selector.select():
                callback: Callable[[], None] = key.data
                callback()
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)  # every other process of this namespace
        listener.close()
        self.place.remove()

    def _lease_ended(self) -> None:
        """The process that made the lab has exited, or has closed its end."""
        self.selector.unregister(LEASE)
        if self.leased:
            self.go_down()

    def _signals(self, wakeup: int) -> None:
        arrived = set(os.read(wakeup, _ROOM))
        self._reap()
        if arrived & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
            self.go_down()
        if signal.SIGALRM in arrived:
            for held in self.systems.values():
                if held.irmd:
                    os.kill(held.irmd, signal.SIGKILL)

    def _accept(self, listener: socket.socket) -> None:
        sock, _ = listener.accept()
        client = Client(sock)
        self.clients.add(client)
        self.selector.register(sock, selectors.EVENT_READ, lambda: self._serve(client))

    def _serve(self, client: Client) -> None:
        octets = control.receive(client.sock)
        client.buffer += octets
        if not octets or len(client.buffer) > control.MAX_LINE:
            self._remove(client)
            return
        while b"\n" in client.buffer:
            line, _, client.buffer = client.buffer.partition(b"\n")
            if line:
                self._answer(client, line)

    def _remove(self, client: Client) -> None:
        self.clients.discard(client)
        self.selector.unregister(client.sock)
        client.sock.close()

    def _answer(self, client: Client, line: bytes) -> None:
        try:
            request = json.loads(line)
            handler = getattr(self, f"_do_{request.pop('do')}")
            reply = handler(client, **request)
        except Exception as error:  # no request may end the lab
            number, text = _explained(error)
            reply = {"error": text, "errno": number}
        if reply is not None:
            control.send_reply(client.sock, reply)

    # ---------------------------------------------------------------- requests

    def _do_wire(self, client: Client) -> dict[str, Any]:
        for name in self.wires.links:
            self.wires.make(name)
            control.send_reply(client.sock, {"progress": name})
        self.wires.start_emulators()
        self.wires.await_carriers()
        return {}

    @property
    def wires(self) -> Any:
        """The links; pyroute2 is imported at the first use."""
        if self._wires is None:
            try:
                from .wire import Wires
            except ModuleNotFoundError as error:
                raise OSError(
                    0, f"olab needs the Python package {error.name}: `pip install pyroute2`"
                ) from None
            networks = {name: held.network for name, held in self.systems.items()}
            self._wires = Wires(self.description, networks, self.home, self.env)
            for held in {held.network: held for held in self.systems.values()}.values():
                self._wires.start_loopback(held.spec.name)
        return self._wires

    def _do_start(self, client: Client, systems: list[str]) -> dict[str, Any] | None:
        if self.going_down:
            raise OSError(0, "the lab is going down")
        for name in systems:
            if not self.systems[name].irmd:
                self._start(self.systems[name])
        missing = {name for name in systems if not self.systems[name].ready}
        if not missing:
            return {}
        self.waiting.append(Waiting(client, missing, ends=False))
        return None

    def _do_stop(
        self, client: Client, systems: list[str], number: int = signal.SIGTERM
    ) -> dict[str, Any] | None:
        running = {name for name in systems if self.systems[name].irmd}
        for name in running:
            os.kill(self.systems[name].irmd, number)
        if not running:
            return {"codes": {}}
        self.waiting.append(Waiting(client, running, ends=True))
        return None

    def _do_cut(self, _client: Client, link: str, silent: bool) -> dict[str, Any]:
        return {"means": self.wires.cut(link, silent=silent)}

    def _do_heal(self, _client: Client, link: str) -> dict[str, Any]:
        self.wires.heal(link)
        return {}

    def _do_emulate(self, _client: Client, link: str, words: list[str | None]) -> dict[str, Any]:
        from .emulator.impairment import parse

        one, other = (None if text is None else parse(text) for text in words)
        self.wires.emulate(link, (one, other))
        return {}

    def _do_emulation(self, _client: Client, link: str) -> dict[str, Any]:
        found: dict[str, Any] = self.wires.emulation(link)
        return found

    def _do_status(self, _client: Client) -> dict[str, Any]:
        systems = {
            name: {
                "irmd": held.irmd or None,
                "state": "ready" if held.ready else "starting" if held.irmd else "stopped",
                "code": held.code,
            }
            for name, held in self.systems.items()
        }
        if self._wires is None:
            return {"systems": systems, "cuts": {}, "emulated": {}}
        emulated = {name: [str(one) for one in both] for name, both in self._wires.impairments.items()}
        return {"systems": systems, "cuts": self._wires.cuts, "emulated": emulated}

    def _do_enter(self, client: Client, system: str) -> None:
        held = self.systems[system]
        own = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("user", "pid")]
        fds = (own[0], held.mounts, held.network, own[1])
        control.send_reply(client.sock, {"user": self.user}, fds)
        for fd in own:
            os.close(fd)

    def _do_keep(self, _client: Client) -> dict[str, Any]:
        self.leased = False
        return {}

    def _do_down(self, client: Client) -> None:
        self.go_down(client)

    def go_down(self, client: Client | None = None) -> None:
        """Stop all IRMds in good order, and then the lab."""
        running = {name for name, held in self.systems.items() if held.irmd}
        if client is not None:
            self.waiting.append(Waiting(client, set(running), ends=True, down=True))
        if not self.going_down:
            self.going_down = True
            for name in running:
                os.kill(self.systems[name].irmd, signal.SIGTERM)
            signal.signal(signal.SIGALRM, lambda *_: None)
            signal.setitimer(signal.ITIMER_REAL, EXIT_TIMEOUT, 1.0)
        self._reply_waiting()

    # ---------------------------------------------------------------- IRMds

    def _start(self, held: Held) -> None:
        held.code, held.ready = None, False
        address = held.folder / "notify"
        with contextlib.suppress(FileNotFoundError):
            address.unlink()
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        notify.bind(str(address))
        held.notify = notify
        self.selector.register(notify, selectors.EVENT_READ, lambda: self._notified(held))
        env = {
            **self.env,
            "OUROBOROS_RUNDIR": str(held.folder / "run"),
            "OLAB_SYSTEM": held.spec.name,
            "NOTIFY_SOCKET": str(address),
        }
        held.irmd = os.fork()
        if held.irmd == 0:
            self._execute_irmd(held, env)

    def _execute_irmd(self, held: Held, env: dict[str, str]) -> None:
        """In the child: enter the system and execute its IRMd. Does not return."""
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            namespaces.setns(held.mounts, namespaces.NEWNS)
            namespaces.setns(held.network, namespaces.NEWNET)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            log = os.open(held.folder / "irmd.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir(held.folder)
            os.execvpe("irmd", ["irmd", "--stdout"], env)
        except BaseException as error:
            os.write(2, f"olab cannot start the irmd of {held.spec.name}: {error}\n".encode())
        finally:
            os._exit(127)

    def _notified(self, held: Held) -> None:
        assert held.notify is not None
        if b"READY=1" in held.notify.recv(4096).split(b"\n"):
            held.ready = True
            self._no_notify(held)
            self._reply_waiting()

    def _no_notify(self, held: Held) -> None:
        if held.notify is not None:
            self.selector.unregister(held.notify)
            held.notify.close()
            held.notify = None
            with contextlib.suppress(FileNotFoundError):
                (held.folder / "notify").unlink()

    def _reap(self) -> None:
        """Reap zombies: children of the holder, and orphans that the kernel has made its children."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            for held in self.systems.values():
                if held.irmd == pid:
                    held.irmd, held.ready, held.code = 0, False, os.waitstatus_to_exitcode(status)
                    self._no_notify(held)
            if self._wires is not None:
                self._wires.exited(pid, os.waitstatus_to_exitcode(status))
        self._reply_waiting()

    def _reply_waiting(self) -> None:
        """Send the replies of waiting requests that are complete now."""
        for waiting in list(self.waiting):
            for name in list(waiting.systems):
                held = self.systems[name]
                if waiting.ends and not held.irmd:
                    waiting.codes[name] = held.code
                    waiting.systems.discard(name)
                elif not waiting.ends and held.ready:
                    waiting.systems.discard(name)
                elif not waiting.ends and not held.irmd:
                    self.waiting.remove(waiting)
                    text = f"the irmd of system {name} ended with {held.code} before it was ready: {_end_of_log(held)}"
                    control.send_reply(waiting.client.sock, {"error": text})
                    break
            else:
                if not waiting.systems and not waiting.down:
                    self.waiting.remove(waiting)
                    control.send_reply(waiting.client.sock, {"codes": waiting.codes} if waiting.ends else {})
        if self.going_down and not any(held.irmd for held in self.systems.values()):
            for waiting in self.waiting:
                control.send_reply(waiting.client.sock, {"codes": waiting.codes})
            self.waiting.clear()
            self.ended = True


def _end_of_log(held: Held) -> str:
    try:
        lines = (held.folder / "irmd.log").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "it logged nothing"


def _explained(error: Exception) -> tuple[int, str]:
    """Errno and text of a request's error: an OSError, or pyroute2's own class of it."""
    if isinstance(error, OSError):
        number, text = error.errno or 0, error.strerror or str(error)
        if error.filename:
            text = f"{error.filename}: {text}"
    elif type(error).__name__ == "NetlinkError":  # not imported: pyroute2 is loaded only for links
        number, text = (
            int(error.args[0]),
            str(error.args[1] if len(error.args) > 1 else os.strerror(error.args[0])),
        )
    else:
        return 0, f"{type(error).__name__}: {error}"
    if number in (errno.EPERM, errno.EACCES):
        text += " (a lab needs CAP_NET_ADMIN and CAP_SYS_ADMIN; `olab up --user-namespace` does without)"
    return number, text


# ---------------------------------------------------------------- becoming process 1

_SAFE = namespaces.MS_NOSUID | namespaces.MS_NODEV | namespaces.MS_NOEXEC


def main() -> int:
    """Read the description, enter new namespaces, report on standard output, and hold the lab."""
    place = Place(Path(sys.argv[1]))
    order = json.loads(sys.stdin.buffer.readline())
    user: bool = order["user"]
    description = from_table(order["description"])
    listener = control.listen(place.control)
    uid, gid = os.geteuid(), os.getegid()
    try:
        namespaces.unshare(
            namespaces.NEWPID | namespaces.NEWNS | namespaces.NEWNET | (namespaces.NEWUSER if user else 0)
        )
        if user:
            namespaces.map_to_root(uid, gid)
        child = os.fork()
    except OSError as error:
        return _report({"error": _unshare_failed(error, user), "errno": error.errno})
    if child:
        return _report({"pid": child})
    namespaces.set_name(f"olab-{place.name}")
    try:
        namespaces.mount("none", "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
        namespaces.mount("proc", "/proc", "proc", _SAFE)
        holder = Holder(place, description, dict(os.environ), user=user)
        holder.make_systems()
    except OSError as error:
        text = f"cannot make the systems of the lab: {error.strerror or error} (are we in a container that forbids it?)"
        return _report({"error": text, "errno": error.errno})
    _report({"held": True})
    os.dup2(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), 1)
    holder.run(listener)
    return 0


def _report(facts: dict[str, Any]) -> int:
    os.write(1, json.dumps(facts).encode() + b"\n")
    return 1 if "error" in facts else 0


def _unshare_failed(error: OSError, user: bool) -> str:
    what = "user, process, mount and network namespaces" if user else "process, mount and network namespaces"
    text = f"this machine gives no {what}: {error.strerror}"
    if user:
        return (
            f"{text} (see the settings user.max_user_namespaces, kernel.unprivileged_userns_clone and "
            "kernel.apparmor_restrict_unprivileged_userns of sysctl; or be root)"
        )
    return text


if __name__ == "__main__":
    raise SystemExit(main())
