/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pacing.h: what is set on a TCP socket, so that it sends and is sent its share of the limit and no more.
 */
#ifndef PODRATE_PACING_H
#define PODRATE_PACING_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "address.h"
#include "bucket.h"
#include "podrate.h"

#define SEGMENT 1448 /* bytes of payload in a full TCP segment with timestamps on Ethernet */
#define LEAST_PACE 256 /* bytes/s: a full segment every 6 s still finds out that the price has fallen */

/* What we know of a socket, and what we set on it, so that it is set again only when it should differ. */
struct paced {
	__u64 rate; /* bit/s: the egress limit under which it entered; 0: none */
	__u64 entry; /* ticks that it then added to the price */
	__u64 pacing_rate; /* bytes/s; 0: what is set is not known */
	__u32 send_window; /* segments */
	__u32 receive_window; /* bytes */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct paced);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct podrate_shaper);
} shaper SEC(".maps");

static __always_inline struct podrate_shaper *this_shaper(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&shaper, &key);
}

/* Whether this part of the shaper is wanted, and not known to be refused. */
static __always_inline bool has(const struct podrate_shaper *shaper, enum podrate_part part)
{
	return shaper->parts & ~READ(shaper->refused) & part;
}

/* Note that the kernel refused this part: podrate status says it, and it is not tried again. */
static __always_inline void note_refused(struct podrate_shaper *shaper, enum podrate_part part)
{
	*(volatile __u64 *)&shaper->refused |= part; /* not atomic: who loses a race will be refused again */
}

/* A connection of the pod with itself stays as it is: see address.h. */
static __always_inline bool to_itself(const struct bpf_sock_ops *ops)
{
	if (ops->family == AF_INET)
		return TO_ITSELF4(ops->remote_ip4, ops->local_ip4);
	return TO_ITSELF6(ops->remote_ip6, ops->local_ip6);
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
	if (price < 0) {
		/* A burst is spent within some units or round trips: sooner, nobody would hear that it is. */
		__u64 saved = (__u64)-price < bucket->limit.credit ? (__u64)-price : bucket->limit.credit;

		rate += most * (saved * 16 / (unit > rtt ? unit : rtt)) / 16;
	}
	return rate;
}

/* Whether a value should be set anew: it differs by a sixteenth from the one that is set. */
static __always_inline bool differs(__u64 value, __u64 set)
{
	__u64 change = value > set ? value - set : set - value;

	return change && change >= set >> 4;
}

/*
 * Whether it sends in bulk, as far as one knows: what was acknowledged filled an eighth of its segments (those that the
 * bucket refused are counted among them). Two small ones prove nothing: many a transfer begins with a few words.
 */
static __always_inline bool in_bulk(const struct bpf_sock_ops *ops)
{
	__u64 segments = ops->data_segs_out - ops->packets_out;

	return segments < 3 || ops->bytes_acked * 8 >= segments * ops->mss_cache;
}

/*
 * One flow more, so one unit more of price: known at once, where the price alone would learn it from seconds of
 * overload. What is wrong with it (a connection that falls idle) the price unlearns by itself, and so that this does
 * not take long, entries alone don't raise it above entry_most.
 */
static __always_inline void enter(struct bpf_sock_ops *ops, struct podrate_bucket *bucket, struct paced *paced)
{
	__u64 now = bpf_ktime_get_ns() << PODRATE_TICK_SHIFT;
	__u64 seen = READ(bucket->price);
	__s64 ahead = seen - now;

	paced->rate = bucket->limit.rate;
	paced->entry = 0;
	if (!bucket->limit.rate || ahead > (__s64)bucket->limit.entry_most)
		return;
	paced->entry = price_unit(ops, bucket) * 5 / 4; /* where a lone flow settles */
	add_to_price(bucket, seen, now, paced->entry);
}

static __always_inline void leave(struct podrate_bucket *bucket, struct paced *paced)
{
	if (paced->rate == bucket->limit.rate && paced->entry)
		__sync_fetch_and_add(&bucket->price, -paced->entry);
	paced->rate = paced->entry = 0;
}

static __always_inline void pace_sending(struct bpf_sock_ops *ops, struct podrate_shaper *shaper,
					 struct podrate_bucket *bucket, struct paced *paced)
{
	__u64 rate = UNPACED, window = UNCLAMPED, bytes = bucket->limit.rate >> 3;

	if (!in_bulk(ops)) /* requests and answers: what it added at its establishment, it takes back */
		leave(bucket, paced);
	else if (paced->rate != bucket->limit.rate)
		enter(ops, bucket, paced); /* also after a change: the new limit's price knows of nobody */
	if (bytes) {
		rate = share(ops, bucket, bytes + (bytes >> 2));
		if (rate < LEAST_PACE)
			rate = LEAST_PACE;
		if (rate > UNPACED)
			rate = UNPACED;
		/*
		 * Twice what the whole limit has in flight at this round trip, and 6: more would only be a burst, and
		 * comes when one was asked for.
		 */
		window = rate > 2 * bytes ? rate : 2 * bytes;
		window = window * ((ops->srtt_us >> 3) + 1000) / 1000000 / SEGMENT + 6;
		if (window > UNCLAMPED)
			window = UNCLAMPED;
	}
	if (differs(rate, paced->pacing_rate)) {
		__u32 value = rate;

		paced->pacing_rate = rate;
		if (bpf_setsockopt(ops, SOL_SOCKET, SO_MAX_PACING_RATE, &value, sizeof(value)))
			note_refused(shaper, PODRATE_PACING);
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
static __always_inline void pace_receiving(struct bpf_sock_ops *ops, struct podrate_shaper *shaper,
					   struct podrate_bucket *bucket, struct paced *paced)
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
		/*
		 * For the same reason it is the average of some ACKs; but not while slow start runs over the limit,
		 * when it is late already: it falls to less than half at once.
		 */
		if (paced->receive_window && window >= paced->receive_window >> 1)
			window = (window + 7 * (__u64)paced->receive_window) >> 3;
	} else if (!paced->receive_window || paced->receive_window == UNCLAMPED) {
		return; /* leave the kernel's own autotuning alone */
	}

	/* Each time: autotuning moves the clamp too (tcp_rcv_space_adjust). To set what is set costs next to nothing.
	 */
	int value = window;

	paced->receive_window = window;
	if (bpf_setsockopt(ops, SOL_TCP, TCP_WINDOW_CLAMP, &value, sizeof(value)))
		note_refused(shaper, PODRATE_WINDOW);
}

#define USUAL_FLIGHT 10 /* segments: the kernel's own initial window, RFC 6928 */

/* Segments of a first flight, before the first round trip has told anything: at most 50 ms of the limit, at least 2. */
static __always_inline int first_flight(const struct podrate_bucket *bucket)
{
	__u64 segments = (bucket->limit.rate >> 3) / 20 / SEGMENT;

	if (!bucket->limit.rate || segments > USUAL_FLIGHT)
		return USUAL_FLIGHT;
	return segments < 2 ? 2 : segments;
}

#endif /* PODRATE_PACING_H */
