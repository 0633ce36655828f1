"""The virtual phone: a daemon on loopback that speaks ADB, with files, properties and faults that a test gives it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from dfmobile.errors import InputError
from dfmobile.testing.virtual_phone import snapdragon_845
from dfmobile.testing.virtual_phone.authentication import parse_public_key
from dfmobile.testing.virtual_phone.connection import FEATURES, Connection, PhoneSettings, State
from dfmobile.testing.virtual_phone.faults import FaultCounter, Faults
from dfmobile.testing.virtual_phone.packets import Mode
from dfmobile.testing.virtual_phone.phone_system import SCRATCH, PhoneSystem
from dfmobile.testing.virtual_phone.programs import default_programs, property_files

_HOST = "127.0.0.1"
_BREATH_S = 0.01
_JOIN_S = 30.0


class VirtualPhone:
    r"""A phone to connect to at ``127.0.0.1:<port>``, while the ``with`` block lasts.

    Whoever may connect may run commands as the phone's shell user; so it lets in connections of our own user only.

    Args:
        folder: where its files are kept; made if missing. A phone in the same folder finds its /data again.
        mode: ``modern`` speaks the shell protocol, packets up to 1 MiB and no checksums; ``old`` none of that, packets
            of 4096 bytes and checksums, and its terminals turn ``\n`` into ``\r\n``.
        state: ``unauthorized`` never accepts a key, ``offline`` never answers.
        faults: what goes wrong.
        properties: names and values for ``getprop``, besides those of the default phone.
        files: a folder that is laid over the phone's ``/``; without one it is a Snapdragon 845 phone.
        programs: name to absolute path of a program of this machine, or to the text of a script: commands besides
            the usual ones. An empty text takes a command away.
        public_keys: lines of ``adbkey.pub`` that it lets in; None lets everyone in.
        accept_new_keys: whether a key that it does not know is allowed when it is offered.
        data_bytes: size of its /data, so that it can run full for real; it is in memory then, and lost in a reboot.
    """

    def __init__(
        self,
        folder: Path,
        *,
        mode: Mode = "modern",
        state: State = "device",
        faults: Faults | None = None,
        properties: Mapping[str, str] | None = None,
        files: Path | None = None,
        programs: Mapping[str, str] | None = None,
        public_keys: Sequence[str] | None = None,
        accept_new_keys: bool = False,
        data_bytes: int | None = None,
    ) -> None:
        self.properties = {**snapdragon_845.PROPERTIES, **(properties or {})}
        shown = dict(snapdragon_845.files()) if files is None else {}
        shown.update(property_files(self.properties))
        chosen = {**default_programs(), **(programs or {})}
        chosen = {name: text for name, text in chosen.items() if text}
        self.system = PhoneSystem(folder, shown, chosen, tree=files, data_bytes=data_bytes)
        if files is None:
            for path in snapdragon_845.UNREADABLE:
                self.system.plant(path, b"", mode=0)
        keys = None if public_keys is None else [parse_public_key(line) for line in public_keys]
        if keys is not None and None in keys:
            raise InputError("one of the public keys is none")
        self.settings = PhoneSettings(
            mode=mode,
            state=state,
            banner=self._banner(mode),
            system=self.system,
            counter=FaultCounter(faults or Faults()),
            drop=self.drop_connections,
            reboot=self.reboot,
            known_keys=None if keys is None else [key for key in keys if key is not None],
            accept_new_keys=accept_new_keys,
        )
        self._connections: set[Connection] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._boot_lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._up = False
        self.port = 0

    def _banner(self, mode: Mode) -> bytes:
        names = ("ro.product.name", "ro.product.model", "ro.product.device")
        fields = [f"{name}={self.properties.get(name, '')}" for name in names]
        if mode == "modern":
            fields.append(f"features={','.join(FEATURES)}")
        text = "device::" + ";".join(fields)
        return (text if mode == "modern" else text + ";\0").encode()

    # Life

    def start(self) -> None:
        """Switch it on.

        Raises:
            DeviceError: if this machine does not allow it.
        """
        self.system.start()
        listener = socket.create_server((_HOST, 0), backlog=64)
        self.port = int(listener.getsockname()[1])
        self._listener = listener
        self._up = True
        if self.faults.read_only:
            self.system.set_read_only(True)
        self._run(self._accept_on, listener)

    def stop(self) -> None:
        """Switch it off: connections break, processes end, files stay. Stopping twice is allowed."""
        self._up = False
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.drop_connections()
        with self._boot_lock:
            self.system.stop()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(_JOIN_S)

    def __enter__(self) -> VirtualPhone:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def reboot(self, down_s: float = 0.0) -> None:
        """Reboot: connections break, all processes end, /data stays, the boot id changes.

        Args:
            down_s: how long it takes no connections meanwhile.
        """
        with self._boot_lock:
            if not self._up:
                return
            self._up = False
            self.drop_connections()
            self.system.stop()
            time.sleep(down_s)
            self.system.start()
            if self.faults.read_only:
                self.system.set_read_only(True)
            self._up = self._listener is not None

    # Where things are

    @property
    def scratch_root(self) -> str:
        """The phone's folder for everyone, as the phone calls it."""
        return SCRATCH

    def host_path(self, path: str) -> Path:
        """Return where a file of the phone is on this machine, for tests to look at."""
        return self.system.on_host(path)

    @property
    def connection_count(self) -> int:
        """How many clients are connected."""
        with self._lock:
            return len(self._connections)

    # Trouble

    @property
    def faults(self) -> Faults:
        """What goes wrong; give it new ones to start counting anew."""
        return self.settings.counter.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        changed = faults.read_only != self.faults.read_only
        self.settings.counter = FaultCounter(faults)
        if changed and self._up:
            self.system.set_read_only(faults.read_only)

    @property
    def state(self) -> State:
        """Whether it talks; a change holds for connections to come."""
        return self.settings.state

    @state.setter
    def state(self, state: State) -> None:
        self.settings.state = state

    def drop_connections(self) -> None:
        """Break all connections, as a pulled cable does; processes of the phone live on as on a phone."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.abort()

    # Clients

    def _run(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        with self._lock:
            self._threads = [known for known in self._threads if known.is_alive()]
            self._threads.append(thread)
        thread.start()

    def _accept_on(self, listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                if self._listener is None:
                    return
                time.sleep(_BREATH_S)  # the client is gone already, or we are out of descriptors
                continue
            if not self._up or not _is_our_own(peer):
                peer.close()
                continue
            self._run(self._serve, peer)

    def _serve(self, peer: socket.socket) -> None:
        connection = Connection(peer, self.settings)
        with self._lock:
            self._connections.add(connection)
        try:
            connection.run()
        finally:
            with self._lock:
                self._connections.discard(connection)


def _is_our_own(peer: socket.socket) -> bool:
    """True if the other end of a loopback connection belongs to our user, or to root."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        address, port = peer.getpeername()[:2]
        wanted = f"{int.from_bytes(socket.inet_aton(address), 'little'):08X}:{port:04X}"
        own = f"{int.from_bytes(socket.inet_aton(_HOST), 'little'):08X}:{peer.getsockname()[1]:04X}"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1] == wanted and fields[2] == own:
                return int(fields[7]) in (0, os.getuid())
    return False
