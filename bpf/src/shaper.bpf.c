// SPDX-License-Identifier: GPL-2.0-only
/*
 * shaper.bpf.c: a limit on what a cgroup sends and receives.
 *
 * Attached to the pod's cgroup, and with it to every child. podrate_egress and podrate_ingress charge each packet
 * to a virtual clock: a token bucket in one word, shared by all CPUs without a lock. Nothing can queue here, and a
 * TCP sender whose packets are dropped in its own host stalls for 200 ms; so podrate_sockops paces every TCP socket
 * to its share of the limit, and the bucket seldom has anything to drop.
 */
#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>

#include "bucket.h"
#include "pacing.h"
#include "packet.h"
#include "podrate.h"

#define LOOPBACK_IFINDEX 1 /* in every network namespace: include/net/flow.h */

/* Return values: kernel/bpf/cgroup.c, __cgroup_bpf_run_filter_skb. */
enum verdict {
	INGRESS_DROP = 0,
	PASS = 1,
	/*
	 * Egress drops with congestion notification. Plain 0 drops too, but then the sender of a datagram gets
	 * EPERM, which programs take for a firewall and give up on.
	 */
	EGRESS_DROP = 2,
	EGRESS_PASS_CONGESTED = 3, /* the TCP sender reduces its window, as after an ECN echo */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PODRATE_DIRECTIONS);
	__type(key, __u32);
	__type(value, struct podrate_counters);
} counters SEC(".maps");

/*
 * Atomic although it is this CPU's own: what a process sends can be interrupted by what the kernel sends for it.
 * The comment makes each counter's code its own: else the compiler shares it, with the counter's offset in a register,
 * and before Linux 6.17 a loader without CAP_PERFMON may not add to a pointer what differs by the path that led there
 * (kernel/bpf/verifier.c, sanitize_ptr_alu).
 */
#define COUNT(counter, n)                                                                                              \
	({                                                                                                             \
		__u64 *at = &count->counter;                                                                           \
                                                                                                                       \
		asm volatile("# " #counter : "+r"(at));                                                                \
		__sync_fetch_and_add(at, n);                                                                           \
	})

/*
 * Debt up to which a packet is admitted. By class, not by length: any packet is admitted whole while the debt is
 * below the horizon, and its own cost may then exceed it; else a 64 kB GSO packet could never pass at 1 Mbit/s.
 */
static __always_inline __s64 horizon(struct __sk_buff *skb, const struct podrate_bucket *bucket, __u64 now,
				     __u64 length, const __u32 direction, __u64 theirs)
{
	const struct podrate_limit *limit = &bucket->limit;
	/*
	 * Read all: else the compiler selects an address, and a loader without CAP_PERFMON may not do arithmetic
	 * with a pointer on two paths (kernel/bpf/verifier.c, sanitize_ptr_alu).
	 */
	__s64 control = READ(limit->horizon_control), tcp = READ(limit->horizon_tcp);
	__s64 other = READ(limit->horizon_other), start = READ(limit->horizon_start);
	__s64 debt = READ(bucket->tat) - now;
	struct bpf_tcp_sock *sender;

	/* ACKs, SYNs, DNS: losing one costs its connection far more than it costs the link. */
	if (length <= 140)
		return control;
	/* Whatever it is, it passes; or it is of those that have not had their half, and TCP is what ran up the debt.
	 */
	if ((debt <= other && debt <= start) || theirs)
		return tcp;
	sender = tcp_of(skb);
	if (!sender)
		return other;
	/*
	 * The kernel paces a connection only from its tenth segment on (tcp_update_skb_after_send): until then nothing
	 * but the bucket holds it back, and connections which start together shall not run up a debt for all.
	 */
	if (direction == PODRATE_EGRESS && debt > start && sender->data_segs_out < 10)
		return start;
	return tcp;
}

static __always_inline int shape(struct __sk_buff *skb, const __u32 direction)
{
	__u32 key = direction;
	struct podrate_counters *count = bpf_map_lookup_elem(&counters, &key);
	struct podrate_bucket *bucket = bucket_of(direction);

	if (!count || !bucket)
		return PASS; /* can't happen: array maps hold every index */
	if (skb->ifindex == LOOPBACK_IFINDEX) {
		COUNT(exempt_packets, 1); /* the pod talking to itself, whatever address it uses */
		return PASS;
	}

	const struct podrate_limit *limit = &bucket->limit;
	__u64 length = wire_length(skb);

	if (!limit->rate) {
		COUNT(passed_packets, 1);
		COUNT(passed_bytes, length);
		return PASS;
	}

	__u64 cost = length * limit->byte_mult >> (limit->byte_shift & 63);
	__u64 now = bpf_ktime_get_ns() << PODRATE_TICK_SHIFT;
	/*
	 * What it will be charged to besides, all in 64 bits: a flag that the compiler spills in 32 makes the verifier
	 * of Linux 6.1 think, for a loader without CAP_PERFMON, that a spilled pointer is overwritten.
	 */
	__u64 throttled = 0, theirs = 0, most = limit->price_most;
	__s64 furthest = 0;

	if (used_up(bucket, now)) {
		throttled = cost;
		if (!tcp_of(skb)) {
			theirs = 2 * cost;
			/* Then they get what nobody else uses, and TCP hears nothing of it. */
			if (have_had_their_half(bucket, now)) {
				theirs = 0;
				most = 2 * limit->price_unit;
				furthest = limit->horizon_other;
			}
		}
	}
	if (!furthest)
		furthest = horizon(skb, bucket, now, length, direction, theirs);

	__s64 debt = admit(&bucket->tat, now, cost, limit->burst, furthest);

	if (debt == OVER_HORIZON) {
		COUNT(dropped_packets, 1);
		COUNT(dropped_bytes, length);
		return direction == PODRATE_EGRESS ? EGRESS_DROP : INGRESS_DROP;
	}
	/* What the CPUs share first, all at once: their cache line goes to and fro. */
	raise_price(bucket, now, cost, debt, most);
	note_grain(bucket, cost);
	if (theirs)
		add_to(&bucket->others, READ(bucket->others), now, theirs);
	COUNT(passed_packets, 1);
	COUNT(passed_bytes, length);
	if (throttled)
		COUNT(throttled, throttled);
	if (debt <= (__s64)limit->mark)
		return PASS;
	if (bpf_skb_ecn_set_ce(skb)) {
		COUNT(marked_packets, 1);
		return PASS;
	}
	if (direction == PODRATE_EGRESS && tcp_of(skb)) {
		COUNT(marked_packets, 1);
		return EGRESS_PASS_CONGESTED;
	}
	return PASS;
}

SEC("cgroup_skb/egress")
int podrate_egress(struct __sk_buff *skb)
{
	return shape(skb, PODRATE_EGRESS);
}

SEC("cgroup_skb/ingress")
int podrate_ingress(struct __sk_buff *skb)
{
	return shape(skb, PODRATE_INGRESS);
}

/* Ask to be called, for as long as the connection lives. */
static __always_inline void ask_for_callbacks(struct bpf_sock_ops *ops, struct podrate_shaper *shaper)
{
	int wanted = PODRATE_CALLBACKS, refused;

	if (!has(shaper, PODRATE_RTT))
		wanted &= ~BPF_SOCK_OPS_RTT_CB_FLAG;
	refused = bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | wanted);
	if (refused > 0 && refused & BPF_SOCK_OPS_RTT_CB_FLAG)
		note_refused(shaper, PODRATE_RTT);
}

/*
 * A function of its own, so that its local variable shares its stack slot with those of others: of two in one slot of 8
 * bytes the verifier takes the first for a spilled register, and the second, for a loader without CAP_PERFMON, for an
 * attempt to corrupt it (seen on 5.10 and 6.1; kernel/bpf/verifier.c, check_stack_write_fixed_off).
 */
static __always_inline void limit_first_flight(struct bpf_sock_ops *ops, const struct podrate_bucket *egress)
{
	int first = first_flight(egress);

	if (first < USUAL_FLIGHT)
		bpf_setsockopt(ops, SOL_TCP, TCP_BPF_IW, &first, sizeof(first));
}

SEC("sockops")
int podrate_sockops(struct bpf_sock_ops *ops)
{
	struct podrate_bucket *egress = bucket_of(PODRATE_EGRESS), *ingress = bucket_of(PODRATE_INGRESS);
	struct podrate_shaper *shaper = this_shaper();
	struct bpf_sock *socket = ops->sk;
	struct paced *paced;

	if (!egress || !ingress || !shaper)
		return 1;
	/*
	 * The window of our SYN, so that the peer's first flights stay as small. It is only ever lowered by this, and
	 * grows by two segments with each that arrives (tcp_grow_window). Also of a request for a connection, no full
	 * socket.
	 */
	if (ops->op == BPF_SOCK_OPS_RWND_INIT) {
		if (ingress->limit.rate && has(shaper, PODRATE_WINDOW) && !to_itself(ops))
			ops->reply = first_flight(ingress);
		return 1;
	}
	if (!socket)
		return 1;
	switch (ops->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		/* Also while there is no limit: there may be one before the connection ends. */
		if (to_itself(ops))
			return 1;
		ask_for_callbacks(ops, shaper);
		limit_first_flight(ops, egress);
		break;
	case BPF_SOCK_OPS_RTT_CB:
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB: /* before each packet, so before each ACK: its window is computed after us */
		if (to_itself(ops)) /* somebody else's program asked for the callback */
			return 1;
		break;
	case BPF_SOCK_OPS_STATE_CB:
		paced = bpf_sk_storage_get(&sockets, socket, NULL, 0);
		if (paced && ops->args[1] == BPF_TCP_CLOSE) {
			leave(egress, paced);
			bpf_sk_storage_delete(&sockets, socket);
			__sync_fetch_and_add(&shaper->connections, -1);
		}
		return 1;
	default:
		return 1;
	}
	paced = bpf_sk_storage_get(&sockets, socket, NULL, 0);
	if (!paced) {
		/* Or an earlier shaper asked, that of a loader which has restarted, or adopt.bpf.c. */
		paced = bpf_sk_storage_get(&sockets, socket, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (!paced)
			return 1;
		/* A fresh one is paced by nobody but its own process, and stays so while there is no limit. */
		if (ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB || ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
			paced->pacing_rate = UNPACED;
		__sync_fetch_and_add(&shaper->connections, 1);
	}
	if (has(shaper, PODRATE_PACING) && (ops->op != BPF_SOCK_OPS_HDR_OPT_LEN_CB || !has(shaper, PODRATE_RTT)))
		pace_sending(ops, shaper, egress, paced);
	if (has(shaper, PODRATE_WINDOW) && ops->op != BPF_SOCK_OPS_RTT_CB)
		pace_receiving(ops, shaper, ingress, paced);
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
