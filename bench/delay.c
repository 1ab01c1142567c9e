// SPDX-License-Identifier: Apache-2.0
/*
 * delay DEVICE DEVICE NANOSECONDS: a wire between two network devices, with a
 * fixed one-way delay.
 *
 * It is what `tc netem delay` would be, for kernels without netem. Packets
 * pass whole, with their GSO and checksum state (PACKET_VNET_HDR), so TCP
 * behaves as on a real path and a packet costs one copy in and one out.
 *
 * Prints "ready" once both devices are read from. On SIGTERM it ends, and if
 * it had to drop packets says so on stderr: a run on such a wire is void.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NSEC_PER_SEC 1000000000ULL
/* Bounds memory: 256 MiB each way is 2 s at 1 Gbit/s, or 200 ms at 10. */
#define QUEUE_BYTES (256UL << 20)
#define SOCKET_BYTES (64 << 20)
/* Both directions get their turn in a burst. */
#define BATCH 64

struct packet {
	struct packet *next;
	uint64_t due; /* CLOCK_MONOTONIC, ns */
	size_t length; /* virtio header included */
	char bytes[];
};

/* What came in at one end and is due at the other, oldest first. */
struct direction {
	int from, to;
	struct packet *head, **tail;
	size_t queued; /* bytes */
	unsigned long dropped; /* packets */
};

static volatile sig_atomic_t leaving;

static void leave(int number)
{
	(void)number;
	leaving = 1;
}

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * NSEC_PER_SEC + time.tv_nsec;
}

static void set(int fd, int level, int option, int value, const char *name)
{
	if (setsockopt(fd, level, option, &value, sizeof(value)))
		die(name);
}

static int open_device(const char *name)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = if_nametoindex(name),
	};
	int fd;

	if (!address.sll_ifindex)
		die(name);
	/* Protocol 0: nothing arrives before the options are set. */
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
	if (fd < 0)
		die("socket");
	set(fd, SOL_PACKET, PACKET_VNET_HDR, 1, "PACKET_VNET_HDR");
	/* Else each end would read back what we send out of it. */
	set(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING");
	set(fd, SOL_PACKET, PACKET_QDISC_BYPASS, 1, "PACKET_QDISC_BYPASS");
	set(fd, SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BYTES, "SO_RCVBUFFORCE");
	set(fd, SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BYTES, "SO_SNDBUFFORCE");
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)))
		die(name);
	return fd;
}

/* Take up to a batch of what has arrived. */
static void take(struct direction *way, uint64_t delay)
{
	/* Virtio header, Ethernet header, and the largest IP packet. */
	static char buffer[1 << 17];

	for (int i = 0; i < BATCH; i++) {
		ssize_t length = recv(way->from, buffer, sizeof(buffer), 0);
		struct packet *packet;

		if (length < 0) {
			if (errno != EAGAIN && errno != EINTR && errno != ENETDOWN)
				die("recv");
			return;
		}
		packet = way->queued < QUEUE_BYTES ? malloc(sizeof(*packet) + length) : NULL;
		if (!packet) {
			way->dropped++;
			continue;
		}
		packet->next = NULL;
		packet->due = now() + delay;
		packet->length = length;
		memcpy(packet->bytes, buffer, length);
		*way->tail = packet;
		way->tail = &packet->next;
		way->queued += length;
	}
}

/* Send what is due. Returns when the next is, or UINT64_MAX if none waits. */
static uint64_t give(struct direction *way)
{
	struct packet *packet;

	while ((packet = way->head)) {
		if (packet->due > now())
			return packet->due;
		if (send(way->to, packet->bytes, packet->length, 0) < 0)
			way->dropped++;
		way->queued -= packet->length;
		way->head = packet->next;
		if (!way->head)
			way->tail = &way->head;
		free(packet);
	}
	return UINT64_MAX;
}

/* What the kernel dropped because we read too late. */
static unsigned long missed(int fd)
{
	struct tpacket_stats stats = {};
	socklen_t length = sizeof(stats);

	getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length);
	return stats.tp_drops;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = leave};
	struct direction ways[2] = {};
	unsigned long dropped = 0;
	uint64_t delay;
	char *end;

	delay = argc == 4 ? strtoull(argv[3], &end, 10) : 0;
	if (argc != 4 || *argv[3] == '\0' || *end) {
		fprintf(stderr, "usage: delay DEVICE DEVICE NANOSECONDS\n");
		return 2;
	}
	sigaction(SIGTERM, &action, NULL);
	/* The default slack of 50 us would show in the round-trip time. */
	prctl(PR_SET_TIMERSLACK, 1UL);
	/* A wire doesn't wait for a CPU. Best effort. */
	setpriority(PRIO_PROCESS, 0, -20);
	for (int i = 0; i < 2; i++) {
		ways[i].from = open_device(argv[1 + i]);
		ways[i].tail = &ways[i].head;
	}
	ways[0].to = ways[1].from;
	ways[1].to = ways[0].from;
	puts("ready");
	fflush(stdout);

	while (!leaving) {
		uint64_t left = give(&ways[0]), right = give(&ways[1]);
		uint64_t next = left < right ? left : right, time = now();
		uint64_t wait = next > time ? next - time : 0;
		struct timespec timeout = {wait / NSEC_PER_SEC, wait % NSEC_PER_SEC};
		struct pollfd fds[2] = {
			{.fd = ways[0].from, .events = POLLIN},
			{.fd = ways[1].from, .events = POLLIN},
		};

		if (ppoll(fds, 2, next == UINT64_MAX ? NULL : &timeout, NULL) < 0)
			continue;
		for (int i = 0; i < 2; i++)
			if (fds[i].revents)
				take(&ways[i], delay);
	}
	for (int i = 0; i < 2; i++)
		dropped += ways[i].dropped + missed(ways[i].from);
	if (dropped)
		fprintf(stderr, "dropped %lu packets\n", dropped);
	return 0;
}
