// SPDX-License-Identifier: GPL-2.0-only
/*
 * meter.bpf.c: the bench's own programs.
 *
 * meter counts what arrives at a device, where and when the kernel receives it: as the filter of a packet socket
 * that keeps no packet, so that none is copied and no process has to be on time.
 * empty is what a packet costs with a program that does nothing.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define STEP_NS 10000000 /* bench/meter.py, STEP */
#define STEPS 65536 /* of 10 ms: eleven minutes, then over again; a power of 2 */

/* Ethernet, IPv4, TCP with timestamps: what each segment of a GSO packet repeats. */
#define HEADERS 66

/* Wire bytes by time: index = CLOCK_MONOTONIC / STEP_NS % STEPS. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STEPS);
	__type(key, __u32);
	__type(value, __u64);
} arrived SEC(".maps");

SEC("socket")
int meter(struct __sk_buff *skb)
{
	__u32 index = bpf_ktime_get_ns() / STEP_NS & (STEPS - 1);
	__u64 *bytes = bpf_map_lookup_elem(&arrived, &index);
	__u32 segments = skb->gso_segs > 1 ? skb->gso_segs : 1;

	if (bytes)
		__sync_fetch_and_add(bytes, skb->len + (segments - 1) * HEADERS);
	return 0; /* keep nothing of it */
}

SEC("cgroup_skb/egress")
int empty(struct __sk_buff *skb)
{
	(void)skb;
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
