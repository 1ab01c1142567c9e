"""podrate run: a command in a cgroup of its own, limited from its first packet."""

import contextlib
import mmap
import os
import resource
import signal
import subprocess
from collections.abc import Iterator

from bandwidth.limit import Limit
from loader import bpf
from loader.namespace import processes
from loader.say import say
from loader.shaper import Shaper
from loader.stats import EVERY, Stats
from loader.transient import TransientCgroup

_FORWARDED = {
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCONT,
    signal.SIGWINCH,
    signal.SIGALRM,
}
_AWAITED = _FORWARDED | {signal.SIGCHLD}
_SI_KERNEL = 0x80  # siginfo: the terminal sent it, to the whole foreground group, so the command has it already


def run(command: list[str], limit: Limit, *, stats: bool = False) -> int:
    """Run a command under a limit; returns its exit status, or dies of the signal that it died of.

    Signals sent to us go to it. Raises Failure before it starts. 126 and 127 as in env(1): the command can't be
    executed, is not found. An ingress queue is in our own network namespace, which the command inherits, and gone when
    it has ended.
    """
    # Before anything is made: a signal that comes early is the command's too, and must not leave a cgroup behind.
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    try:
        status = _run(command, limit, previous, stats)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
    if os.WIFSIGNALED(status):
        _die_of(os.WTERMSIG(status))
    return os.waitstatus_to_exitcode(status)


def _run(command: list[str], limit: Limit, previous: set[int | signal.Signals], stats: bool) -> int:
    """The command's wait status, or that of an exit with 126 or 127; `previous` is the signal mask that it gets."""
    with _queue(limit), TransientCgroup("run") as cgroup, Shaper() as shaper, mmap.mmap(-1, 1) as refused:
        shaper.buckets.set(limit)
        # ALLOW_MULTI, so that one podrate run works inside another: each limit applies.
        shaper.attach(cgroup.path, bpf.ALLOW_MULTI)

        # A parent that ignores SIGCHLD makes the kernel reap the command for us, and we would wait for ever.
        inherited = signal.signal(signal.SIGCHLD, signal.SIG_DFL)

        def enter() -> None:
            try:
                cgroup.enter()
            except OSError as error:
                refused[0] = error.errno or 0  # in memory that both have: subprocess tells us only that it failed
                raise
            signal.signal(signal.SIGCHLD, inherited)
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)

        try:
            # The command inherits this process's descriptors, as from any shell; ours are close-on-exec.
            child = subprocess.Popen(command, preexec_fn=enter, close_fds=False)
        except FileNotFoundError:
            say(f"{command[0]}: command not found")
            return 127 << 8
        except OSError as error:
            say(f"{command[0]}: {error.strerror}")
            return 126 << 8
        except subprocess.SubprocessError:
            raise cgroup.not_entered(refused[0]) from None
        shown = Stats(shaper.buckets) if stats else None
        status = _wait(child.pid, shown)
        if shown:
            shown.summary()
        child.returncode = status  # we have reaped it ourselves
        if left := processes(cgroup.path):
            say(f"{len(left)} process(es) of the command still run; they stay limited in {cgroup.path}")
        return status


@contextlib.contextmanager
def _queue(limit: Limit) -> Iterator[None]:
    if not limit.ingress_queue:  # and leave that of somebody else alone
        yield
        return
    from loader import queue

    queue.put(limit.ingress)
    try:
        yield
    finally:
        queue.put(None)


def _wait(pid: int, stats: "Stats | None") -> int:
    """Forward signals to `pid` until it ends, and stop when it stops (the shell's job control); its wait status."""
    while True:
        info = signal.sigtimedwait(_AWAITED, EVERY) if stats else signal.sigwaitinfo(_AWAITED)
        if info is None:
            if stats:
                stats.live()
            continue
        if info.si_signo != signal.SIGCHLD:
            if info.si_code != _SI_KERNEL:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, info.si_signo)
            continue
        done, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if done and os.WIFSTOPPED(status):
            if stats:
                stats.clear()
            os.kill(os.getpid(), signal.SIGSTOP)
        elif done:
            return status


def _die_of(number: int) -> None:
    """Die of the command's own signal, so that our parent sees what it would have seen without us."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the command has dumped its own
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
