"""The pod's annotation as the loader meets it: a file that the kubelet replaces, and the wait for that."""

import fcntl
import os

# `signal` is this module and makes enums of its numbers, at 0.9 MB.
from _signal import SIG_BLOCK, SIGIO, SIGTERM, pthread_sigmask, sigtimedwait  # type: ignore[import-not-found]

from bandwidth.invalid import Invalid
from bandwidth.limit import ANNOTATION, Limit, decode
from loader.failure import Failure
from loader.memory import give_back

POLL = 0.1  # seconds between two looks where the kernel can't tell of a change (CONFIG_DNOTIFY)
SAFETY = 30  # where it can


class Annotation:
    """The annotation's file, `name` in a downward API volume. Read whole each time: it is short.

    The kubelet swaps the symlink `..data` beside the file: a rename in `directory`, which is watched. By dnotify: an
    inotify instance for each pod would use up those of the node's root, 128 unless somebody raised it.
    """

    def __init__(self, directory: str, name: str) -> None:
        self._path = os.path.join(directory, name)
        self._text: str | None = None
        # Blocked they are kept for wait(): nothing is lost, and process 1 of a container has no default action.
        pthread_sigmask(SIG_BLOCK, (SIGIO, SIGTERM))
        self._patience = POLL
        try:
            self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.fcntl(self._directory, fcntl.F_NOTIFY, fcntl.DN_RENAME | fcntl.DN_MULTISHOT)
        except OSError:
            return
        self._patience = SAFETY

    def first(self) -> Limit:
        """The limit to begin with. Raises Failure("annotation")."""
        try:
            limit = self.changed()
        except Invalid as error:
            raise Failure(
                "annotation", str(error), "create the pod again; the webhook writes this annotation"
            ) from None
        assert limit is not None  # noqa: S101  nothing was read before
        return limit

    def changed(self) -> Limit | None:
        """The limit, if the text is another than last time. Raises Invalid, once for each bad text."""
        unread = ""
        try:
            with open(self._path) as file:
                text = file.read(4096)
        except OSError as error:
            text = unread = f"can't be read: {error.strerror}"
        except UnicodeDecodeError:
            text = unread = "is not UTF-8"
        if text == self._text:
            return None
        self._text = text
        if unread:
            raise Invalid(
                self._path, ANNOTATION, unread, "the file of a downward API volume", '{"v":1,"egress":10000000}'
            )
        return decode(text)

    def wait(self) -> bool:
        """Wait until it is worth a look; False when it is SIGTERM that came."""
        came = sigtimedwait((SIGIO, SIGTERM), 0)
        if came is None:
            give_back()
            came = sigtimedwait((SIGIO, SIGTERM), self._patience)
        return came is None or came.si_signo != SIGTERM
