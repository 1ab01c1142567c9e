/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * bucket.h: the clocks of a limit. `tat` decides what passes, `price` what each sender may send; both are single words
 * that all CPUs share without a lock.
 */
#ifndef PODRATE_BUCKET_H
#define PODRATE_BUCKET_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>

#include "podrate.h"

/* Once, here, and whole: others write it at the same time. */
#define READ(field) (*(volatile typeof(field) *)&(field))

#define TICKS_OF_US(us) ((us)*1000 << PODRATE_TICK_SHIFT)
#define TICKS_OF_MS(ms) TICKS_OF_US((ms)*1000ULL)

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

static __always_inline struct podrate_bucket *bucket_of(const __u32 direction)
{
	__u32 key = direction;
	__u32 *which = bpf_map_lookup_elem(&active, &key);

	/*
	 * `which` can't be NULL, and if it were, returning NULL here would make the callers' tests of it known in
	 * advance: before Linux 6.17 the verifier follows, for a loader without CAP_PERFMON, also the branch that is
	 * never taken, as a processor might that speculates (kernel/bpf/verifier.c, sanitize_speculative_path), and
	 * there it rejects.
	 */
	key = direction * 2 + (which ? *which & 1 : 0);
	return bpf_map_lookup_elem(&buckets, &key);
}

/*
 * Move a clock from where it was seen, unless it has moved since. Before Linux 5.12 BPF has no compare-and-exchange
 * (and its verifier rejects a program for the mere presence of one): there it moves in any case. That is done only to
 * a clock that has fallen behind, where all that can get lost is what others charged it in the same moment.
 */
static __always_inline bool move(__u64 *clock, __u64 seen, __u64 to)
{
#ifdef PODRATE_NO_EXCHANGE
	(void)seen;
	*(volatile __u64 *)clock = to;
	return true;
#else
	return __sync_val_compare_and_swap(clock, seen, to) == seen;
#endif
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

		if (debt > horizon)
			return OVER_HORIZON;
#ifdef PODRATE_NO_EXCHANGE
		/* Others may be admitted between the look and the charge, one for each CPU; but no charge is lost. */
		if (debt >= -burst) {
			__sync_fetch_and_add(tat, cost);
			return debt > 0 ? debt : 0;
		}
#endif
		if (debt < -burst)
			debt = -burst;
		if (move(tat, seen, now + debt + cost))
			return debt > 0 ? debt : 0;
	}
	/* Lost four races: so others were admitted just now. Charge it, and let the next packet pay. */
	__sync_fetch_and_add(tat, cost);
	return 0;
}

/* Put a clock `ticks` further ahead of what it was seen to be, or of the `least` that it may be. */
static __always_inline void add_to(__u64 *clock, __u64 seen, __u64 least, __u64 ticks)
{
	if ((__s64)(seen - least) < 0)
		move(clock, seen, least + ticks);
	else
		__sync_fetch_and_add(clock, ticks);
}

/* The price falls behind by a burst that was asked for, and no more. */
static __always_inline void add_to_price(struct podrate_bucket *bucket, __u64 seen, __u64 now, __u64 ticks)
{
	add_to(&bucket->price, seen, now - bucket->limit.credit, ticks);
}

/*
 * Whether the limit is used up. A lone flow settles around one and a quarter units of price; half of one is what a
 * burst may cost without being called so.
 */
static __always_inline bool used_up(const struct podrate_bucket *bucket, __u64 now)
{
	return (__s64)(READ(bucket->price) - now) > (__s64)(bucket->limit.price_unit >> 1);
}

/*
 * Whether what is not TCP has had its half, while the limit is used up. TCP slows down by the price, and a flood does
 * not: it would take whatever TCP leaves, and raise the price for as long as TCP still has something.
 *
 * It may be ahead by a fourth of what TCP may be in debt, so that frames of a sender that has less on average are not
 * cut.
 */
static __always_inline bool have_had_their_half(const struct podrate_bucket *bucket, __u64 now)
{
	return (__s64)(READ(bucket->others) - now) > (__s64)(bucket->limit.horizon_tcp >> 2);
}

/*
 * The congestion price: a second virtual clock that drops nothing. It runs ahead of now while the packets admitted
 * come faster than 256/257 of the limit, the faster the more debt there is, and falls behind while they come slower;
 * each TCP socket is paced by how far ahead it is (see share). So N busy flows settle where the price makes each
 * send 1/N, idle ones cost nothing, and no table of flows is kept. (Price-based rate control: Kelly, Maulloo and
 * Tan, "Rate control for communication networks", 1998; the integral and the debt term as in RFC 8034, PIE.)
 *
 * It falls behind by no more than a burst that was asked for, which the senders may then spend at once (see share), and
 * is raised to no more than `most`.
 */
static __always_inline void raise_price(struct podrate_bucket *bucket, __u64 now, __u64 cost, __u64 debt, __u64 most)
{
	__u64 seen = READ(bucket->price);
	__s64 ahead = seen - now;

	/* cost * (1 + 1/256 + debt / 537 ms), in an order that can't overflow */
	cost += (cost >> 8) + ((cost >> 10) * (debt >> 10) >> 15);
	if (ahead < (__s64)most)
		add_to_price(bucket, seen, now, cost);
}

/*
 * A sender hears of price and debt right after its own packet, when they are highest. That is harmless while packets
 * are small, and TCP cuts them to a millisecond of its pacing rate; but those that it built before (64 kB, queued
 * when the limit was higher) last 52 ms at 10 Mbit/s, and taking that for congestion would slow it to a fourth.
 * Races only lose a sample.
 */
static __always_inline void note_grain(struct podrate_bucket *bucket, __u64 cost)
{
	__u64 grain = READ(bucket->grain), next = cost > grain ? cost : grain - ((grain - cost) >> 4);

	if (next != grain)
		*(volatile __u64 *)&bucket->grain = next;
}

#endif /* PODRATE_BUCKET_H */
