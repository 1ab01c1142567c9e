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

/* What the shaper needs to know of a packet. */
struct packet {
	__u32 header; /* bytes of network and transport header that each segment of a GSO packet repeats */
	bool tcp;
};

static __always_inline struct packet parse(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct packet packet = {};
	__u8 protocol = 0;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = data;

		if ((void *)(ip + 1) > end)
			return packet;
		protocol = ip->protocol;
		packet.header = sizeof(*ip);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = data;

		if ((void *)(ip + 1) > end)
			return packet;
		protocol = ip->nexthdr;
		packet.header = sizeof(*ip);
	}
	packet.tcp = protocol == IPPROTO_TCP;
	packet.header += packet.tcp ? 32 : 8; /* TCP with its timestamps; UDP */
	return packet;
}

/*
 * Bytes that this packet will take on an Ethernet wire. A GSO packet is many segments there, each with headers
 * of its own: counting only skb->len would be 4 % low.
 */
static __always_inline __u64 wire_length(struct __sk_buff *skb, const struct packet *packet)
{
	__u64 segments = skb->gso_segs > 1 ? skb->gso_segs : 1;

	return skb->len + (segments - 1) * packet->header + segments * ETH_HLEN;
}

#endif /* PODRATE_PACKET_H */
