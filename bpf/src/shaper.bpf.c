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
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "podrate.h"

#define LOOPBACK_IFINDEX 1 /* in every network namespace: include/net/flow.h */

/* Once, here, and whole: others write it at the same time. */
#define READ(field) (*(volatile typeof(field) *)&(field))

#define TICKS_OF_US(us) ((us)*1000 << PODRATE_TICK_SHIFT)
#define TICKS_OF_MS(ms) TICKS_OF_US((ms)*1000ULL)

#define SEGMENT 1448 /* bytes of payload in a full TCP segment with timestamps on Ethernet */
#define LEAST_PACE 256 /* bytes/s: a full segment every 6 s still finds out that the price has fallen */

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
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PODRATE_BUCKETS);
	__type(key, __u32);
	__type(value, struct podrate_bucket);
} buckets SEC(".maps");

/* Which of its two buckets a direction uses: 0 or 1. Only ever one byte of it changes, so a reader can't see a mix. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PODRATE_DIRECTIONS);
	__type(key, __u32);
	__type(value, __u32);
} active SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PODRATE_DIRECTIONS);
	__type(key, __u32);
	__type(value, struct podrate_counters);
} counters SEC(".maps");

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

/*
 * The kernel paces a connection only from its tenth segment on (tcp_update_skb_after_send): until then nothing but the
 * bucket holds it back.
 */
static __always_inline bool unpaced(struct __sk_buff *skb)
{
	struct bpf_sock *socket = skb->sk;
	struct bpf_tcp_sock *tcp;

	if (!socket)
		return false;
	socket = bpf_sk_fullsock(socket);
	if (!socket)
		return false;
	tcp = bpf_tcp_sock(socket);
	return tcp && tcp->data_segs_out < 10;
}

/*
 * Debt up to which a packet is admitted. By class, not by length: any packet is admitted whole while the debt is
 * below the horizon, and its own cost may then exceed it; else a 64 kB GSO packet could never pass at 1 Mbit/s.
 */
static __always_inline __s64 horizon(struct __sk_buff *skb, const struct podrate_bucket *bucket, __u64 now,
				     __u64 length, const struct packet *packet, const __u32 direction)
{
	const struct podrate_limit *limit = &bucket->limit;
	/*
	 * Read all: else the compiler selects an address, and a loader without CAP_PERFMON may not do arithmetic
	 * with a pointer on two paths (kernel/bpf/verifier.c, sanitize_ptr_alu).
	 */
	__s64 control = READ(limit->horizon_control), tcp = READ(limit->horizon_tcp);
	__s64 other = READ(limit->horizon_other), start = READ(limit->horizon_start);

	/* ACKs, SYNs, DNS: losing one costs its connection far more than it costs the link. */
	if (length <= 140)
		return control;
	if (!packet->tcp)
		return other;
	/* So that connections which start together don't run up a debt for all. Asked only when there is one. */
	if (direction == PODRATE_EGRESS && (__s64)(READ(bucket->tat) - now) > start && unpaced(skb))
		return start;
	return tcp;
}

#define OVER_HORIZON (-1)

/*
 * The virtual clock (GCRA, ITU-T I.371 annex A): `tat` is when all that was admitted will have been sent at the
 * limit. Its distance from now is the debt, negative when the bucket holds credit.
 *
 * Returns the debt in ticks before this packet (0 while there is credit) and charges it, or OVER_HORIZON and
 * charges nothing.
 */
static __always_inline __s64 admit(__u64 *tat, __u64 now, __u64 cost, __s64 burst, __s64 horizon)
{
#pragma unroll
	for (int i = 0; i < 4; i++) {
		__u64 seen = READ(*tat);
		/* Signed: another CPU, whose clock read is later than ours, may have moved the bucket past us. */
		__s64 debt = seen - now;

		if (debt < -burst)
			debt = -burst;
		if (debt > horizon)
			return OVER_HORIZON;
		if (__sync_val_compare_and_swap(tat, seen, now + debt + cost) == seen)
			return debt > 0 ? debt : 0;
	}
	/* Lost four races: so others were admitted just now. Charge it, and let the next packet pay. */
	__sync_fetch_and_add(tat, cost);
	return 0;
}

/*
 * The congestion price: a second virtual clock that drops nothing. It runs ahead of now while the packets admitted
 * come faster than 256/257 of the limit, the faster the more debt there is, and falls behind while they come slower;
 * each TCP socket is paced by how far ahead it is (see share). So N busy flows settle where the price makes each
 * send 1/N, idle ones cost nothing, and no table of flows is kept. (Price-based rate control: Kelly, Maulloo and
 * Tan, "Rate control for communication networks", 1998; the integral and the debt term as in RFC 8034, PIE.)
 */
static __always_inline void raise_price(struct podrate_bucket *bucket, __u64 now, __u64 cost, __u64 debt)
{
	__u64 seen = READ(bucket->price);
	__s64 ahead = seen - now;

	/* cost * (1 + 1/256 + debt / 537 ms), in an order that can't overflow */
	cost += (cost >> 8) + ((cost >> 10) * (debt >> 10) >> 15);
	if (ahead < 0)
		__sync_val_compare_and_swap(&bucket->price, seen, now + cost);
	else if (ahead < (__s64)bucket->limit.price_most)
		__sync_fetch_and_add(&bucket->price, cost);
}

/*
 * A sender hears of price and debt right after its own packet, when they are highest. That is harmless while packets
 * are small, and TCP cuts them to a millisecond of its pacing rate; but those that it built before (64 kB, queued
 * when the limit was higher) last 52 ms at 10 Mbit/s, and taking that for congestion would slow it to a fourth.
 * Races only lose a sample.
 */
static __always_inline void note_grain(struct podrate_bucket *bucket, __u64 cost)
{
	__u64 grain = READ(bucket->grain);

	if (cost > grain)
		grain = cost;
	else
		grain -= (grain - cost) >> 4;
	*(volatile __u64 *)&bucket->grain = grain;
}

static __always_inline struct podrate_bucket *bucket_of(const __u32 direction)
{
	__u32 key = direction;
	__u32 *which = bpf_map_lookup_elem(&active, &key);

	if (!which)
		return NULL;
	key = direction * 2 + (*which & 1);
	return bpf_map_lookup_elem(&buckets, &key);
}

static __always_inline int shape(struct __sk_buff *skb, const __u32 direction)
{
	__u32 key = direction;
	struct podrate_counters *count = bpf_map_lookup_elem(&counters, &key);
	struct podrate_bucket *bucket = bucket_of(direction);

	if (!count || !bucket)
		return PASS; /* can't happen: array maps hold every index */
	if (skb->ifindex == LOOPBACK_IFINDEX) {
		count->exempt_packets++; /* the pod talking to itself, whatever address it uses */
		return PASS;
	}

	const struct podrate_limit *limit = &bucket->limit;
	struct packet packet = parse(skb);
	__u64 length = wire_length(skb, &packet);

	if (!limit->rate) {
		count->passed_packets++;
		count->passed_bytes += length;
		return PASS;
	}

	__u64 cost = length * limit->byte_mult >> (limit->byte_shift & 63);
	__u64 now = bpf_ktime_get_ns() << PODRATE_TICK_SHIFT;
	__s64 debt =
		admit(&bucket->tat, now, cost, limit->burst, horizon(skb, bucket, now, length, &packet, direction));

	if (debt == OVER_HORIZON) {
		count->dropped_packets++;
		count->dropped_bytes += length;
		return direction == PODRATE_EGRESS ? EGRESS_DROP : INGRESS_DROP;
	}
	count->passed_packets++;
	count->passed_bytes += length;
	raise_price(bucket, now, cost, debt);
	note_grain(bucket, cost);
	if (debt <= (__s64)limit->mark)
		return PASS;
	if (bpf_skb_ecn_set_ce(skb)) {
		count->marked_packets++;
		return PASS;
	}
	if (direction == PODRATE_EGRESS && packet.tcp) {
		count->marked_packets++;
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

/* What we know of a socket, and what we set on it, so that it is set again only when it should differ. */
struct paced {
	__u64 rate; /* bit/s: the egress limit under which it entered; 0: none */
	__u64 entry; /* ticks that it then added to the price */
	__u64 pacing_rate; /* bytes/s; 0: nothing set yet */
	__u32 send_window; /* segments */
	__u32 receive_window; /* bytes */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct paced);
} sockets SEC(".maps");

/* A connection of the pod with itself never meets the bucket: it stays as it is. */
static __always_inline bool to_itself(const struct bpf_sock_ops *ops)
{
	if (ops->family == AF_INET)
		return ops->remote_ip4 == ops->local_ip4 ||
		       (ops->remote_ip4 & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return ops->remote_ip6[0] == ops->local_ip6[0] && ops->remote_ip6[1] == ops->local_ip6[1] &&
	       ops->remote_ip6[2] == ops->local_ip6[2] && ops->remote_ip6[3] == ops->local_ip6[3];
}

/* The price at which a lone flow may send at the whole rate: a flow hears of it once a round trip, so not less. */
static __always_inline __u64 price_unit(const struct bpf_sock_ops *ops, const struct podrate_bucket *bucket)
{
	__u64 unit = bucket->limit.price_unit;
	__u64 quarter_rtt = TICKS_OF_US((__u64)(ops->srtt_us >> 5)); /* srtt_us is in 1/8 us */

	/* Bounded, for N flows have to run up N units before they settle. */
	if (quarter_rtt > TICKS_OF_MS(16))
		quarter_rtt = TICKS_OF_MS(16);
	return unit > quarter_rtt ? unit : quarter_rtt;
}

/*
 * What one socket may send or receive, in bytes/s: `most` divided by the price in units. That is fair, and right for
 * many flows. For few of them over a long path it reacts faster than it hears, and swings; there the rate is halved
 * for each round trip of price instead, whichever is more. (An integrator behind a delay of one round trip is stable
 * while its gain is below pi/2 a round trip: halving gives ln 2, whatever the number of flows.)
 *
 * Less while the bucket is in debt, so that the debt is served.
 */
static __always_inline __u64 share(const struct bpf_sock_ops *ops, const struct podrate_bucket *bucket, __u64 most)
{
	__u64 now = bpf_ktime_get_ns() << PODRATE_TICK_SHIFT;
	__s64 price = READ(bucket->price) - now;
	__s64 debt = READ(bucket->tat) - now;
	__u64 unit = price_unit(ops, bucket), grain = READ(bucket->grain), rate = most;
	__u64 rtt = TICKS_OF_US((__u64)(ops->srtt_us >> 3));
	__u64 drain = bucket->limit.price_unit * 8;

	if (unit < grain)
		unit = grain;
	debt -= grain; /* its own last packet, see note_grain */
	if (drain < TICKS_OF_MS(20))
		drain = TICKS_OF_MS(20);
	if (price > (__s64)unit)
		rate = most * 256 / ((__u64)price * 256 / unit);
	if (price > 0 && rtt > unit) {
		/* most / 2^halvings, in 1/256 of a halving, straight between the powers */
		__u64 halvings = (__u64)price * 256 / rtt;
		__u64 gentle = halvings < 32 * 256 ? (most - (most * (halvings & 255) >> 9)) >> (halvings >> 8) : 0;

		if (rate < gentle)
			rate = gentle;
	}
	if (debt > 0)
		rate = rate * 256 / (256 + (__u64)debt * 256 / drain);
	return rate;
}

/* Whether a value should be set anew: it differs by a sixteenth from the one that is set. */
static __always_inline bool differs(__u64 value, __u64 set)
{
	__u64 change = value > set ? value - set : set - value;

	return change && change >= set >> 4;
}

/*
 * One flow more, so one unit more of price: known at once, where the price alone would learn it from seconds of
 * overload. What is wrong with it (an idle connection does not send) the price unlearns by itself, and so that this
 * does not take long, entries alone don't raise it above entry_most.
 */
static __always_inline void enter(struct bpf_sock_ops *ops, struct podrate_bucket *bucket, struct paced *paced)
{
	__u64 now = bpf_ktime_get_ns() << PODRATE_TICK_SHIFT;
	__u64 seen = READ(bucket->price), unit = price_unit(ops, bucket);
	__s64 ahead = seen - now;

	paced->rate = bucket->limit.rate;
	paced->entry = 0;
	if (!bucket->limit.rate || ahead > (__s64)bucket->limit.entry_most)
		return;
	unit += unit >> 2;
	paced->entry = unit;
	if (ahead < 0)
		__sync_val_compare_and_swap(&bucket->price, seen, now + unit);
	else
		__sync_fetch_and_add(&bucket->price, unit);
}

static __always_inline void leave(struct podrate_bucket *bucket, struct paced *paced)
{
	if (paced->rate == bucket->limit.rate && paced->entry)
		__sync_fetch_and_add(&bucket->price, -paced->entry);
	paced->entry = 0;
}

static __always_inline void pace_sending(struct bpf_sock_ops *ops, struct podrate_bucket *bucket, struct paced *paced)
{
	__u64 rate = UNPACED, window = UNCLAMPED, bytes = bucket->limit.rate >> 3;

	if (paced->rate != bucket->limit.rate)
		enter(ops, bucket, paced); /* also after a change: the new limit's price knows of nobody */
	if (bytes) {
		rate = share(ops, bucket, bytes + (bytes >> 2));
		if (rate < LEAST_PACE)
			rate = LEAST_PACE;
		if (rate > UNPACED)
			rate = UNPACED;
		/* Twice what the whole limit has in flight at this round trip, and 6: more would only be a burst. */
		window = bytes * ((ops->srtt_us >> 3) + 1000) / 1000000 * 2 / SEGMENT + 6;
		if (window > UNCLAMPED)
			window = UNCLAMPED;
	}
	if (differs(rate, paced->pacing_rate)) {
		__u32 value = rate;

		paced->pacing_rate = rate;
		bpf_setsockopt(ops, SOL_SOCKET, SO_MAX_PACING_RATE, &value, sizeof(value));
	}
	/* Never lowered: a window that shrinks under what is in flight sends nothing at all. */
	if (window > paced->send_window && differs(window, paced->send_window)) {
		int value = window;

		paced->send_window = window;
		bpf_setsockopt(ops, SOL_TCP, TCP_BPF_SNDCWND_CLAMP, &value, sizeof(value));
	}
}

/*
 * The window that we advertise is all that a receiver can say to its sender: what may be in flight in a round trip.
 * Below two segments it would stall the sender (RFC 9293, 3.8.6.2.1), so where a round trip at the flow's share is
 * less than that, nothing holds the sender back, and the bucket has to drop.
 */
static __always_inline void pace_receiving(struct bpf_sock_ops *ops, struct podrate_bucket *bucket, struct paced *paced)
{
	__u64 window = UNCLAMPED;

	if (bucket->limit.rate) {
		/* Twice the limit at most: what arrives comes in bursts, and each is heard of when its price is
		 * highest. */
		window = share(ops, bucket, bucket->limit.rate >> 2) * ((ops->srtt_us >> 3) + 200) / 1000000;
		if (window < 2 * SEGMENT)
			window = 2 * SEGMENT;
		if (window > UNCLAMPED)
			window = UNCLAMPED;
		/* For the same reason it is the average of some ACKs. */
		if (paced->receive_window)
			window = (window + 7 * (__u64)paced->receive_window) >> 3;
	} else if (!paced->receive_window || paced->receive_window == UNCLAMPED) {
		return; /* leave the kernel's own autotuning alone */
	}

	/* Each time: autotuning moves the clamp too (tcp_rcv_space_adjust). To set what is set costs next to nothing.
	 */
	int value = window;

	paced->receive_window = window;
	bpf_setsockopt(ops, SOL_TCP, TCP_WINDOW_CLAMP, &value, sizeof(value));
}

/* The first flight, before the first round trip has told anything: at most 50 ms of the limit, at least 2 segments. */
static __always_inline void limit_first_flight(struct bpf_sock_ops *ops, const struct podrate_bucket *bucket)
{
	__u64 segments = (bucket->limit.rate >> 3) / 20 / SEGMENT;

	if (bucket->limit.rate && segments < 10) { /* the kernel's own: RFC 6928 */
		int value = segments < 2 ? 2 : segments;

		bpf_setsockopt(ops, SOL_TCP, TCP_BPF_IW, &value, sizeof(value));
	}
}

SEC("sockops")
int podrate_sockops(struct bpf_sock_ops *ops)
{
	struct podrate_bucket *egress = bucket_of(PODRATE_EGRESS), *ingress = bucket_of(PODRATE_INGRESS);
	struct bpf_sock *socket = ops->sk;
	struct paced *paced;

	if (!socket || !egress || !ingress)
		return 1;
	switch (ops->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		/* Also while there is no limit: there may be one before the connection ends. */
		if (to_itself(ops))
			return 1;
		bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | PODRATE_CALLBACKS);
		limit_first_flight(ops, egress);
		break;
	case BPF_SOCK_OPS_RTT_CB:
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB: /* before each packet, so before each ACK: its window is computed after us */
		if (to_itself(ops)) /* somebody else's program asked for the callback */
			return 1;
		break;
	case BPF_SOCK_OPS_STATE_CB:
		paced = bpf_sk_storage_get(&sockets, socket, NULL, 0);
		if (paced && ops->args[1] == BPF_TCP_CLOSE)
			leave(egress, paced);
		return 1;
	default:
		return 1;
	}
	/* Not met before if an earlier shaper, that of a loader which has restarted, or adopt.bpf.c asked. */
	paced = bpf_sk_storage_get(&sockets, socket, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!paced)
		return 1;
	if (ops->op != BPF_SOCK_OPS_HDR_OPT_LEN_CB)
		pace_sending(ops, egress, paced);
	if (ops->op != BPF_SOCK_OPS_RTT_CB)
		pace_receiving(ops, ingress, paced);
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
