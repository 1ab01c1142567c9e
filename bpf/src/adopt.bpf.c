// SPDX-License-Identifier: GPL-2.0-only
/*
 * adopt.bpf.c: the connections that are older than the limit, and those that outlive it.
 *
 * podrate_sockops meets a TCP socket when its connection is established; one that was there before the shaper has
 * no callbacks, is never paced, and collapses against the bucket. This iterator gives such sockets a first pace and
 * the callback; at its next RTT sample the shaper treats it like any other.
 *
 * podrate_adopt is run twice over each network namespace that the cgroup uses: first with pace 0 to count, then with
 * their share. Needs Linux 6.12 (TCP_BPF_SOCK_OPS_CB_FLAGS outside of sock_ops) and CAP_PERFMON; loader/adopt.py has a
 * fallback.
 */
#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "address.h"
#include "podrate.h"

#define TCP_BPF_SOCK_OPS_CB_FLAGS 1008 /* linux/bpf.h, but only since 6.12 */

#define DEEPEST 64 /* levels of cgroups that are searched; the hierarchies of today have less than ten */

/* Of the kernel's own structures, what is read here; libbpf finds where the running kernel has it. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	union {
		__be32 u6_addr32[4];
	} in6_u;
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
	int level;
	struct cgroup *ancestors[];
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

struct sock {
	struct sock_common __sk_common;
	struct sock_cgroup_data sk_cgrp_data;
};

struct tcp_sock {
	__u32 snd_una;
	__u32 write_seq;
};

struct bpf_iter__tcp {
	struct sock_common *sk_common;
};

#pragma clang attribute pop

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct podrate_adoption);
} adoption SEC(".maps");

/* Whether packets of this socket meet the bucket: the cgroup is the one it was made in, whoever holds it now. */
static __always_inline bool within(struct sock *sk, __u64 target)
{
	struct cgroup *cgroup = sk->sk_cgrp_data.cgroup, *ancestor;

	if (!cgroup)
		return false;
	for (int level = 0; level < DEEPEST; level++) {
		if (level > cgroup->level)
			return false;
		/* The last ancestor is the cgroup itself. */
		if (bpf_core_read(&ancestor, sizeof(ancestor), (void *)&cgroup->ancestors + level * sizeof(ancestor)))
			return false;
		if (BPF_CORE_READ(ancestor, kn, id) == target)
			return true;
	}
	return false;
}

/* The same exemption as podrate_sockops makes. */
static __always_inline bool to_itself(const struct sock_common *sk)
{
	if (sk->skc_family == AF_INET)
		return TO_ITSELF4(sk->skc_daddr, sk->skc_rcv_saddr);
	return TO_ITSELF6(sk->skc_v6_daddr.in6_u.u6_addr32, sk->skc_v6_rcv_saddr.in6_u.u6_addr32);
}

/*
 * Whether it is past podrate_sockops' first look and may still send. Listening sockets least of all: what a listener
 * is paced to, its connections would inherit.
 */
static __always_inline bool connected(unsigned char state)
{
	switch (state) {
	case BPF_TCP_ESTABLISHED:
	case BPF_TCP_FIN_WAIT1:
	case BPF_TCP_CLOSE_WAIT:
	case BPF_TCP_LAST_ACK:
	case BPF_TCP_CLOSING:
		return true;
	}
	return false;
}

/* The socket under the iterator, if it is a connection that the cgroup's limit is about. */
static __always_inline struct tcp_sock *connection(struct bpf_iter__tcp *ctx, __u64 target)
{
	struct sock_common *common = ctx->sk_common;
	struct tcp_sock *tcp;

	if (!common || !connected(common->skc_state) || to_itself(common))
		return NULL;
	tcp = bpf_skc_to_tcp_sock(common);
	return tcp && within((struct sock *)tcp, target) ? tcp : NULL;
}

static __always_inline int callbacks(struct tcp_sock *tcp)
{
	int flags = 0;

	bpf_getsockopt(tcp, SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &flags, sizeof(flags));
	return flags;
}

SEC("iter/tcp")
int podrate_adopt(struct bpf_iter__tcp *ctx)
{
	__u32 key = 0, pace;
	struct podrate_adoption *adopt = bpf_map_lookup_elem(&adoption, &key);
	struct tcp_sock *tcp;
	int flags;

	if (!adopt)
		return 0;
	tcp = connection(ctx, adopt->cgroup);
	if (!tcp)
		return 0;
	flags = callbacks(tcp);
	if ((flags & PODRATE_CALLBACKS) == PODRATE_CALLBACKS)
		return 0; /* opened meanwhile, or an earlier shaper's: it hears from this one too */
	adopt->found++;
	if (tcp->write_seq != tcp->snd_una)
		adopt->busy++;
	if (!adopt->pace)
		return 0;
	pace = adopt->pace;
	flags |= PODRATE_CALLBACKS;
	/* The callback first: without it this pace would stay until the connection ends. */
	if (bpf_setsockopt(tcp, SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &flags, sizeof(flags)) ||
	    bpf_setsockopt(tcp, SOL_SOCKET, SO_MAX_PACING_RATE, &pace, sizeof(pace)))
		return 0;
	adopt->adopted++;
	return 0;
}

/*
 * The reverse, for when the limit ends: what the shaper set on a socket would outlive it. The callback may stay:
 * without a program it costs nothing, and an outer cgroup's shaper may want it too.
 */
SEC("iter/tcp")
int podrate_release(struct bpf_iter__tcp *ctx)
{
	__u32 key = 0, pace = UNPACED;
	struct podrate_adoption *adopt = bpf_map_lookup_elem(&adoption, &key);
	struct tcp_sock *tcp;
	int window = UNCLAMPED;

	if (!adopt)
		return 0;
	tcp = connection(ctx, adopt->cgroup);
	if (!tcp || !(callbacks(tcp) & BPF_SOCK_OPS_RTT_CB_FLAG))
		return 0;
	adopt->found++;
	bpf_setsockopt(tcp, SOL_SOCKET, SO_MAX_PACING_RATE, &pace, sizeof(pace));
	bpf_setsockopt(tcp, SOL_TCP, TCP_BPF_SNDCWND_CLAMP, &window, sizeof(window));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
