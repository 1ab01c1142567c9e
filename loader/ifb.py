"""The queue's parts in the kernel, made and removed through libnl: a device, its qdisc, and what sends packets there.

eth0 -> clsact -> u32, mirred -> podrate-in (ifb, with a tbf) -> eth0's own way up, with the cgroup's programs
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_void_p
from typing import NamedTuple

from loader.failure import Failure
from loader.lean import Resource
from loader.libnl import (
    NLE_EXIST,
    NLE_NODEV,
    NLE_OBJ_NOTFOUND,
    check,
    classifier,
    core,
    link,
    qdisc,
    redirection,
    route,
)

_PACKET = 1514  # bytes of a full Ethernet frame
_NETLINK_ROUTE = 0
_NLM_F_REPLACE, _NLM_F_EXCL, _NLM_F_CREATE = 0x100, 0x200, 0x400  # linux/netlink.h
_IFF_UP = 1
_TC_H_ROOT, _TC_H_CLSACT, _TC_H_INGRESS_FILTERS = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFFFFF2  # linux/pkt_sched.h
_CLSACT_HANDLE = 0xFFFF0000
_RTF_REJECT = 0x200  # linux/route.h
_PRIORITY = 0x7064  # of our filters: how they are told from others'
_TC_PACKETS, _TC_BACKLOG, _TC_DROPS = 0, 5, 6  # enum rtnl_tc_stat


class _Rule(NamedTuple):
    """`keys` are words of a packet, each as value, mask and offset in bytes from its network header."""

    keys: tuple[tuple[int, int, int], ...]
    queued: bool


def _acknowledgement(length: int, header: int) -> tuple[tuple[int, int, int], ...]:
    """IPv4: `length` in bytes, TCP with a header of `header` words, of its flags only ACK."""
    return (
        (0x45000000 | length, 0xFF00FFFF, 0),
        (0x00060000, 0x00FF0000, 8),
        (header << 28 | 0x00100000, 0xF0FF0000, 32),
    )


def _acknowledgement6(length: int, header: int) -> tuple[tuple[int, int, int], ...]:
    """The same of IPv6; `length` is that of its payload."""
    return (length << 16 | 0x0600, 0xFFFFFF00, 4), (header << 28 | 0x00100000, 0xF0FF0000, 52)


# Queued is TCP, for it is what a queue keeps from being sent again. Not what carries only an ACK, with its timestamps
# or without: what the pod sends should not wait for what it receives. All else meets the bucket at once, as ever:
# datagrams would fill the queue whatever its length.
# By protocol: linux/if_ether.h. The first rule that matches decides.
_RULES = {
    0x0800: (
        _Rule(_acknowledgement(52, 8), queued=False),
        _Rule(_acknowledgement(40, 5), queued=False),
        _Rule(((0x00060000, 0x00FF0000, 8),), queued=True),
    ),
    0x86DD: (
        _Rule(_acknowledgement6(32, 8), queued=False),
        _Rule(_acknowledgement6(20, 5), queued=False),
        _Rule(((0x00000600, 0x0000FF00, 4),), queued=True),
    ),
}


class Measured(NamedTuple):
    """What the queue says of itself: its rate in bit/s, what waits now in bytes, packets dropped since it was made."""

    rate: int
    backlog: int
    dropped: int
    packets: int


class Ifb(Resource):
    """The queue of the network namespace that the thread is in when it is opened. A context manager.

    devices:  where what is queued arrives; None is those that a default route leads to

    Needs CAP_NET_ADMIN there. Raises Failure("queue").
    """

    def __init__(self, name: str, devices: list[str] | None = None) -> None:
        self._name = name
        self._socket = c_void_p(core.nl_socket_alloc())
        self._devices = _default_devices() if devices is None else devices
        check(core.nl_connect(self._socket, _NETLINK_ROUTE), "a netlink socket can't be opened")

    def put(self, rate: int) -> None:
        """Make the queue, or change its rate in place, without a gap; `rate` in bit/s. All or nothing."""
        existing = self._index(self._name)
        if existing is None:
            self._refuse_occupied()
        try:
            device = self._put_device() if existing is None else existing
            self._put_bucket(device, rate)
            for name in self._devices:
                self._put_redirection(name, device)
        except Failure:
            if existing is None:
                for name in self._devices:  # remove() knows our hooks by their filters, which may be what failed
                    with qdisc(self._index(name) or 0, b"clsact", _TC_H_CLSACT, _CLSACT_HANDLE) as hook:
                        route.rtnl_qdisc_delete(self._socket, hook)
                self.remove()
            raise

    def remove(self) -> None:
        """Leave nothing of it, if it is there. Packets that wait in it are lost."""
        # The redirections first: those to a device that is gone drop.
        for index in self._with_clsact():
            with qdisc(index, b"clsact", _TC_H_CLSACT, _CLSACT_HANDLE) as hook:
                if sum(self._removed_redirection(index, protocol) for protocol in _RULES):
                    check(route.rtnl_qdisc_delete(self._socket, hook), "the clsact qdisc can't be removed")
        if self._index(self._name) is not None:
            with link() as gone:
                route.rtnl_link_set_name(gone, self._name.encode())
                check(route.rtnl_link_delete(self._socket, gone), f"{self._name} can't be removed")

    def measure(self) -> Measured | None:
        """None if there is no queue."""
        device = self._index(self._name)
        if device is None:
            return None
        with self._qdiscs() as cache:
            found = route.rtnl_qdisc_get_by_parent(cache, device, _TC_H_ROOT)
            if not found:
                return None
            try:
                backlog, dropped, packets = (
                    route.rtnl_tc_get_stat(found, which) for which in (_TC_BACKLOG, _TC_DROPS, _TC_PACKETS)
                )
                return Measured(route.rtnl_qdisc_tbf_get_rate(found) * 8, backlog, dropped, packets)
            finally:
                route.rtnl_qdisc_put(found)

    def _index(self, name: str) -> int | None:
        found = c_void_p()
        result = route.rtnl_link_get_kernel(self._socket, 0, name.encode(), byref(found))
        if result in (-NLE_NODEV, -NLE_OBJ_NOTFOUND):
            return None
        check(result, f"{name} can't be found")
        try:
            if name == self._name and route.rtnl_link_get_type(found) != b"ifb":
                raise Failure(
                    "queue", f"{self._name} is there and no ifb device", f"rename it: ip link set {self._name} name X"
                )
            return int(route.rtnl_link_get_ifindex(found))
        finally:
            route.rtnl_link_put(found)

    def _refuse_occupied(self) -> None:
        if not self._devices:
            raise Failure("queue", "there is no default route, so no device to queue for", "ask without the queue")
        with self._qdiscs() as cache:
            for name in self._devices:
                found = route.rtnl_qdisc_get_by_parent(cache, self._index(name) or 0, _TC_H_CLSACT)
                if found:
                    kind = route.rtnl_tc_get_kind(found).decode()
                    route.rtnl_qdisc_put(found)
                    what = f"{name} has an ingress qdisc of somebody else's: {kind}"
                    raise Failure("queue", what, f"see `tc filter show dev {name} ingress`, or ask without the queue")

    def _put_device(self) -> int:
        with link() as new:
            route.rtnl_link_set_name(new, self._name.encode())
            route.rtnl_link_set_type(new, b"ifb")
            route.rtnl_link_set_flags(new, _IFF_UP)
            added = route.rtnl_link_add(self._socket, new, _NLM_F_CREATE | _NLM_F_EXCL)
            check(added, f"{self._name} can't be made", "ifb")
        index = self._index(self._name)
        if index is None:
            raise Failure("queue", f"{self._name} was removed while it was set up", "try again")
        return index

    def _put_bucket(self, device: int, rate: int) -> None:
        with qdisc(device, b"tbf", _TC_H_ROOT, 0x10000) as bucket:
            # 5 ms, some of a scheduler's ticks; a burst of the sender's that is longer is cut into its segments.
            route.rtnl_qdisc_tbf_set_rate(bucket, rate // 8, max(rate // 8 // 200, 2 * _PACKET), 0)
            # 100 ms: seldom full, for the window that the pod advertises holds the senders back. But it can't ask them
            # for less than two segments each, and a queue of less than those of some twenty connections would drop.
            route.rtnl_qdisc_tbf_set_limit(bucket, max(rate // 8 // 10, 42 * _PACKET))
            added = route.rtnl_qdisc_add(self._socket, bucket, _NLM_F_CREATE | _NLM_F_REPLACE)
            check(added, f"the rate of {self._name} can't be set", "sch_tbf")

    def _put_redirection(self, name: str, device: int) -> None:
        """Each part unless it is there: they may be those of a command that was killed in between."""
        index = self._index(name) or 0
        create = _NLM_F_CREATE | _NLM_F_EXCL
        with qdisc(index, b"clsact", _TC_H_CLSACT, _CLSACT_HANDLE) as hook:
            check(route.rtnl_qdisc_add(self._socket, hook, create), f"{name}: clsact", "sch_ingress", NLE_EXIST)
        for table, (protocol, rules) in enumerate(_RULES.items(), 0x800):  # where u32 starts to count its tables
            for node, rule in enumerate(rules, 1):
                with self._filter(index, protocol) as each:
                    route.rtnl_u32_set_handle(each, table, 0, node)
                    for key in rule.keys:
                        route.rtnl_u32_add_key_uint32(each, *key, 0)
                    route.rtnl_u32_set_cls_terminal(each)
                    if rule.queued:
                        with redirection(device) as action:
                            check(route.rtnl_u32_add_action(each, action), f"{name}: a redirection can't be described")
                    added = route.rtnl_cls_add(self._socket, each, create)
                    check(
                        added, f"{name}: its packets can't be sent to {self._name}", "cls_u32 and act_mirred", NLE_EXIST
                    )

    def _with_clsact(self) -> list[int]:
        """The devices that have a clsact qdisc, by index."""
        found = []
        with self._qdiscs() as cache:
            each = core.nl_cache_get_first(cache)
            while each:
                if route.rtnl_tc_get_kind(each) == b"clsact":
                    found.append(route.rtnl_tc_get_ifindex(each))
                each = core.nl_cache_get_next(each)
        return found

    def _removed_redirection(self, index: int, protocol: int) -> bool:
        """Whether there was one."""
        with self._filter(index, protocol) as each:
            return int(route.rtnl_cls_delete(self._socket, each, 0)) == 0

    @contextmanager
    def _filter(self, index: int, protocol: int) -> Iterator[c_void_p]:
        with classifier(index, b"u32", _TC_H_INGRESS_FILTERS) as each:
            route.rtnl_cls_set_prio(each, _PRIORITY + sorted(_RULES).index(protocol))  # one protocol to a priority
            route.rtnl_cls_set_protocol(each, protocol)
            yield each

    @contextmanager
    def _qdiscs(self) -> Iterator[c_void_p]:
        cache = c_void_p()
        check(route.rtnl_qdisc_alloc_cache(self._socket, byref(cache)), "the qdiscs can't be listed")
        try:
            yield cache
        finally:
            core.nl_cache_free(cache)

    def close(self) -> None:
        """Close the netlink socket. The queue stays."""
        core.nl_socket_free(self._socket)


def _default_devices() -> list[str]:
    """The devices that a default route of the thread's network namespace leads to."""
    found = set()
    with open("/proc/thread-self/net/route") as file:
        for line in file.readlines()[1:]:
            name, destination, _, flags, *_, mask, _, _, _ = line.split()
            if int(destination, 16) == int(mask, 16) == 0 and not int(flags, 16) & _RTF_REJECT:
                found.add(name)
    if os.path.exists("/proc/thread-self/net/ipv6_route"):
        with open("/proc/thread-self/net/ipv6_route") as file:
            for line in file:
                destination, length, *_, flags, name = line.split()
                if int(destination, 16) == int(length, 16) == 0 and not int(flags, 16) & _RTF_REJECT:
                    found.add(name)
    return sorted(found - {"lo"})
