"""libnl-3 and libnl-route-3 as their headers declare them (3.2 to 3.11): only what we use.

Every integer function returns a negative NLE_* of netlink/errno.h on failure; an allocation returns NULL.
Importing this module loads the libraries, or raises Failure("queue"). Only those who ask for the queue import it: to
load them takes a millisecond and half a megabyte. (pyroute2 takes half a second, in a sidecar's tenth of a CPU five,
and 27 MB.)
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_int, c_uint32, c_uint64, c_void_p

from loader.failure import Failure

# netlink/errno.h
NLE_EXIST = 6
NLE_OPNOTSUPP = 10
NLE_OBJ_NOTFOUND = 12
NLE_NODEV = 31

_TCA_EGRESS_REDIR, _TC_ACT_STOLEN = 1, 4  # linux/tc_act/tc_mirred.h, linux/pkt_cls.h

_CORE: dict[str, tuple[type | None, list[type]]] = {
    "nl_socket_alloc": (c_void_p, []),
    "nl_socket_free": (None, [c_void_p]),
    "nl_connect": (c_int, [c_void_p, c_int]),
    "nl_geterror": (c_char_p, [c_int]),
    "nl_cache_free": (None, [c_void_p]),
    "nl_cache_get_first": (c_void_p, [c_void_p]),
    "nl_cache_get_next": (c_void_p, [c_void_p]),
}

_ROUTE: dict[str, tuple[type | None, list[type]]] = {
    "rtnl_link_alloc": (c_void_p, []),
    "rtnl_link_put": (None, [c_void_p]),
    "rtnl_link_set_name": (None, [c_void_p, c_char_p]),
    "rtnl_link_set_type": (c_int, [c_void_p, c_char_p]),
    "rtnl_link_get_type": (c_char_p, [c_void_p]),
    "rtnl_link_set_flags": (None, [c_void_p, c_uint32]),
    "rtnl_link_get_ifindex": (c_int, [c_void_p]),
    "rtnl_link_get_kernel": (c_int, [c_void_p, c_int, c_char_p, POINTER(c_void_p)]),
    "rtnl_link_add": (c_int, [c_void_p, c_void_p, c_int]),
    "rtnl_link_delete": (c_int, [c_void_p, c_void_p]),
    "rtnl_tc_get_ifindex": (c_int, [c_void_p]),
    "rtnl_tc_set_ifindex": (None, [c_void_p, c_int]),
    "rtnl_tc_set_parent": (None, [c_void_p, c_uint32]),
    "rtnl_tc_set_handle": (None, [c_void_p, c_uint32]),
    "rtnl_tc_set_kind": (c_int, [c_void_p, c_char_p]),
    "rtnl_tc_get_kind": (c_char_p, [c_void_p]),
    "rtnl_tc_get_stat": (c_uint64, [c_void_p, c_int]),
    "rtnl_qdisc_alloc": (c_void_p, []),
    "rtnl_qdisc_put": (None, [c_void_p]),
    "rtnl_qdisc_add": (c_int, [c_void_p, c_void_p, c_int]),
    "rtnl_qdisc_delete": (c_int, [c_void_p, c_void_p]),
    "rtnl_qdisc_alloc_cache": (c_int, [c_void_p, POINTER(c_void_p)]),
    "rtnl_qdisc_get_by_parent": (c_void_p, [c_void_p, c_int, c_uint32]),
    "rtnl_qdisc_tbf_set_rate": (None, [c_void_p, c_int, c_int, c_int]),
    "rtnl_qdisc_tbf_get_rate": (c_int, [c_void_p]),
    "rtnl_qdisc_tbf_set_limit": (None, [c_void_p, c_int]),
    "rtnl_cls_alloc": (c_void_p, []),
    "rtnl_cls_put": (None, [c_void_p]),
    "rtnl_cls_add": (c_int, [c_void_p, c_void_p, c_int]),
    "rtnl_cls_delete": (c_int, [c_void_p, c_void_p, c_int]),
    "rtnl_cls_set_prio": (None, [c_void_p, ctypes.c_uint16]),
    "rtnl_cls_set_protocol": (None, [c_void_p, ctypes.c_uint16]),
    "rtnl_u32_set_handle": (None, [c_void_p, c_int, c_int, c_int]),
    "rtnl_u32_add_key_uint32": (c_int, [c_void_p, c_uint32, c_uint32, c_int, c_int]),
    "rtnl_u32_set_cls_terminal": (c_int, [c_void_p]),
    "rtnl_u32_add_action": (c_int, [c_void_p, c_void_p]),
    "rtnl_act_alloc": (c_void_p, []),
    "rtnl_act_put": (None, [c_void_p]),
    "rtnl_mirred_set_action": (c_int, [c_void_p, c_int]),
    "rtnl_mirred_set_ifindex": (c_int, [c_void_p, c_uint32]),
    "rtnl_mirred_set_policy": (c_int, [c_void_p, c_int]),
}


def _load(soname: str, functions: dict[str, tuple[type | None, list[type]]]) -> ctypes.CDLL:
    remedy = "install libnl-route (Debian and Ubuntu: apt-get install libnl-route-3-200; Fedora: dnf install libnl3)"
    try:
        library = ctypes.CDLL(soname)
    except OSError as error:
        raise Failure("queue", f"the library {soname} can't be loaded ({error})", remedy) from None
    for name, (result, arguments) in functions.items():
        function = getattr(library, name, None)
        if function is None:
            raise Failure("queue", f"this {soname} has no function {name}", remedy)
        function.restype, function.argtypes = result, arguments
    return library


core = _load("libnl-3.so.200", _CORE)
route = _load("libnl-route-3.so.200", _ROUTE)


def check(result: int, what: str, module: str = "", tolerated: int = 0) -> None:
    """Raise Failure("queue") for an error but `tolerated`; `module` is the kernel's, whose lack it may mean."""
    if result >= 0 or result == -tolerated:
        return
    error = core.nl_geterror(result).decode()
    if module and result in (-NLE_OPNOTSUPP, -NLE_OBJ_NOTFOUND):
        raise Failure("queue", f"{what} ({error})", f"load the kernel module {module}, or ask without the queue")
    raise Failure("queue", f"{what} ({error})", "run as root, or with CAP_NET_ADMIN; or ask without the queue")


@contextmanager
def link() -> Iterator[c_void_p]:
    """A description of a device, to be filled."""
    described = c_void_p(route.rtnl_link_alloc())
    try:
        yield described
    finally:
        route.rtnl_link_put(described)


@contextmanager
def qdisc(device: int, kind: bytes, parent: int, handle: int) -> Iterator[c_void_p]:
    """A description of a qdisc."""
    described = c_void_p(route.rtnl_qdisc_alloc())
    try:
        route.rtnl_tc_set_ifindex(described, device)
        route.rtnl_tc_set_parent(described, parent)
        route.rtnl_tc_set_handle(described, handle)
        route.rtnl_tc_set_kind(described, kind)
        yield described
    finally:
        route.rtnl_qdisc_put(described)


@contextmanager
def classifier(device: int, kind: bytes, parent: int) -> Iterator[c_void_p]:
    """A description of a filter."""
    described = c_void_p(route.rtnl_cls_alloc())
    try:
        route.rtnl_tc_set_ifindex(described, device)
        route.rtnl_tc_set_parent(described, parent)
        route.rtnl_tc_set_kind(described, kind)
        yield described
    finally:
        route.rtnl_cls_put(described)


@contextmanager
def redirection(device: int) -> Iterator[c_void_p]:
    """A description of the action that sends a packet out of another device."""
    described = c_void_p(route.rtnl_act_alloc())
    try:
        route.rtnl_tc_set_kind(described, b"mirred")
        route.rtnl_mirred_set_action(described, _TCA_EGRESS_REDIR)
        route.rtnl_mirred_set_policy(described, _TC_ACT_STOLEN)
        route.rtnl_mirred_set_ifindex(described, device)
        yield described
    finally:
        route.rtnl_act_put(described)
