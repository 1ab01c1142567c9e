/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * packet.h: what the shaper needs to know of a packet: its class, and what it will take on the wire.
 */
#ifndef PODRATE_PACKET_H
#define PODRATE_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/*
 * Whose packet it is says which protocol it is of: the kernel runs us with the whole socket in skb->sk, in both
 * directions (kernel/bpf/cgroup.c, __cgroup_bpf_run_filter_skb). The header would say it too, but before Linux 6.6 a
 * loader without CAP_PERFMON may not compare packet pointers (kernel/bpf/verifier.c, check_cond_jmp_op). The call takes
 * some ns, so it is made only where it matters.
 */
static __always_inline struct bpf_tcp_sock *tcp_of(struct __sk_buff *skb)
{
	struct bpf_sock *socket = skb->sk;

	return socket ? bpf_tcp_sock(socket) : NULL;
}

/*
 * As wire_length, of a datagram that IP cuts into fragments after us, or has put together before. That the device takes
 * no more than 1500 bytes is a guess, on the side of the limit.
 */
static __always_inline __u64 fragmented_length(struct __sk_buff *skb)
{
	bool v6 = skb->protocol == bpf_htons(ETH_P_IPV6);
	__u64 header = v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	__u64 extension = v6 ? 8 : 0; /* the fragment header: RFC 8200, 4.5 */
	__u64 most = (ETH_DATA_LEN - header - extension) & ~7ULL;
	__u64 fragments = (skb->len - header - 1) / most + 1;

	return skb->len + (fragments - 1) * header + fragments * (extension + ETH_HLEN);
}

/*
 * Bytes that this packet will take on an Ethernet wire. A GSO packet is many segments there, each with headers
 * of its own: counting only skb->len would be 4 % low.
 */
static __always_inline __u64 wire_length(struct __sk_buff *skb)
{
	__u64 segments = skb->gso_segs, header = 0;

	if (segments <= 1)
		return skb->len > ETH_DATA_LEN && !tcp_of(skb) ? fragmented_length(skb) : skb->len + ETH_HLEN;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		header = sizeof(struct iphdr);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		header = sizeof(struct ipv6hdr);
	header += tcp_of(skb) ? 32 : 8; /* TCP with its timestamps; UDP */
	return skb->len + (segments - 1) * header + segments * ETH_HLEN;
}

#endif /* PODRATE_PACKET_H */
