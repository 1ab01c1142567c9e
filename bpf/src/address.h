/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * address.h: whether a connection is one of the pod with itself. Its packets stay on loopback, so that they never meet
 * the bucket, and nothing is set on its sockets.
 */
#ifndef PODRATE_ADDRESS_H
#define PODRATE_ADDRESS_H

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Macros, so that of an address in a program's context no word is read before it is needed, and none need be kept. */
#define LOOPBACK4(address) (((address)&bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000))
/* ::1, and ::ffff:127.0.0.0/104, as a socket of IPv6 sees IPv4. */
#define LOOPBACK6(address)                                                                                             \
	(!(address)[0] && !(address)[1] &&                                                                             \
	 ((address)[2] ? (address)[2] == bpf_htonl(0xffff) && LOOPBACK4((address)[3]) : (address)[3] == bpf_htonl(1)))

#define TO_ITSELF4(remote, local) ((remote) == (local) || LOOPBACK4(remote) || LOOPBACK4(local))
#define TO_ITSELF6(remote, local)                                                                                      \
	(((remote)[0] == (local)[0] && (remote)[1] == (local)[1] && (remote)[2] == (local)[2] &&                       \
	  (remote)[3] == (local)[3]) ||                                                                                \
	 LOOPBACK6(remote) || LOOPBACK6(local))

#endif /* PODRATE_ADDRESS_H */
