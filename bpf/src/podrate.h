/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * podrate.h: what the BPF programs and user space (loader/) share: the maps' values and what is set on sockets.
 *
 * Time is kept in ticks of 1/64 ns: at 1 Tbit/s a byte lasts half a tick, and a clock of 64 bits still runs for nine
 * years of uptime. Every field is 64 bits wide, so that the layout is the same on every architecture and needs no
 * packing; tests/unit/test_layout.py compares it with user space's through the BTF.
 */
#ifndef PODRATE_H
#define PODRATE_H

#define PODRATE_TICK_SHIFT 6 /* ticks = ns << 6 */

enum podrate_direction {
	PODRATE_EGRESS = 0,
	PODRATE_INGRESS = 1,
	PODRATE_DIRECTIONS = 2,
};

/* A limit as the data path needs it. User space writes it whole and never changes it in place. */
struct podrate_limit {
	__u64 rate; /* bit/s; 0 is no limit, and then nothing below is read */
	__u64 byte_mult; /* a byte lasts byte_mult >> byte_shift ticks; byte_mult < 2^32 */
	__u64 byte_shift; /* at most 32 */
	__u64 burst; /* ticks of credit that an idle bucket holds */
	__u64 mark; /* ticks of debt above which congestion is signalled */
	__u64 horizon_control; /* ticks of debt up to which a packet is admitted, by its class */
	__u64 horizon_tcp;
	__u64 horizon_other;
	__u64 horizon_start; /* of the first segments of a connection, which the kernel does not pace */
	__u64 price_unit; /* ticks of price at which a lone flow may send at the whole rate */
	__u64 price_most; /* ticks of price that are never exceeded */
	__u64 entry_most; /* ticks of price above which new connections add nothing to it */
	__u64 credit; /* ticks that the price falls behind while idle, for senders to spend at once: a burst that was
		       * asked for */
	__u64 reserved[3];
};

/*
 * A bucket: the limit, and the clock that runs by it. They change together: user space writes a new limit with fresh
 * clocks into the idle one of two buckets, then names it in `active`. No packet ever sees the new rate with the old
 * debt (from 8 bit/s to 100 Mbit/s, that debt once stood for 1042 s), or half of a rate.
 */
struct podrate_bucket {
	struct podrate_limit limit;
	/*
	 * The clocks are written for each packet, by all CPUs: all on one cache line, and that apart from the limit's.
	 * An array's values begin 56 bytes into a line (struct bpf_array on x86-64, Linux 6.18).
	 */
	__u64 apart;
	__u64 tat; /* ticks: theoretical arrival time, when the bucket's debt will have been served */
	__u64 price; /* ticks: a second clock, slightly slower, that sets what each TCP flow may send */
	__u64 grain; /* ticks: what the largest of the last packets cost */
	__u64 others; /* ticks: a clock of half the speed, by which what is not TCP has its half of the limit */
	__u64 pad[11];
};

/* asm-generic/socket.h, bits/socket.h and netinet/tcp.h, which drag in a libc */
#define AF_INET 2
#define SOL_SOCKET 1
#define SO_MAX_PACING_RATE 47
#define SOL_TCP 6
#define TCP_WINDOW_CLAMP 10

#define UNCLAMPED 0x3fffffffULL /* segments, bytes: above every window */
#define UNPACED 0xffffffffULL /* bytes/s: the greatest SO_MAX_PACING_RATE of 32 bits, and the kernel's "none" */

/* What podrate_sockops is called for, on each connection that it has met. */
#define PODRATE_CALLBACKS (BPF_SOCK_OPS_RTT_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG)

#define PODRATE_BUCKETS 4 /* two for each direction: direction * 2 + active[direction] */

/*
 * What a shaper is made of where the kernel has it all. User space says which of these it wants (and which object it
 * loaded: EXCHANGE); the programs note what the kernel then refused, for some of it shows only in use.
 */
enum podrate_part {
	PODRATE_EXCHANGE = 1 << 0, /* buckets charged by compare-and-exchange: Linux 5.12 */
	PODRATE_PACING = 1 << 1, /* senders paced by SO_MAX_PACING_RATE */
	PODRATE_RTT = 1 << 2, /* heard of at each round trip (5.3), not only at each packet */
	PODRATE_WINDOW = 1 << 3, /* receive windows clamped: 5.11 */
};

struct podrate_shaper {
	__u64 parts; /* of enum podrate_part, wanted */
	__u64 refused; /* of these, refused by the kernel */
	__u64 connections; /* TCP connections that are open and have been met */
};

/* Per CPU; the sum is the truth. Bytes are wire bytes (see wire_length). */
struct podrate_counters {
	__u64 passed_packets;
	__u64 passed_bytes;
	__u64 dropped_packets;
	__u64 dropped_bytes;
	__u64 marked_packets; /* passed too, and told to slow down */
	__u64 exempt_packets; /* loopback: passed, and not counted above */
	__u64 throttled; /* ticks in which the limit was used up and its senders held back */
};

/* What the adoption of older connections (adopt.bpf.c) is told, and what it counted. */
struct podrate_adoption {
	__u64 cgroup; /* id of the limited cgroup: its directory's inode number */
	__u64 pace; /* bytes/s for each socket to begin with; 0 only counts */
	__u64 found; /* sockets in the cgroup that no shaper has met; at a release, those that one has */
	__u64 busy; /* of these, those with data unsent or unacknowledged */
	__u64 adopted; /* of these, those that now have pace and callback */
};

#endif /* PODRATE_H */
