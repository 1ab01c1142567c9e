// SPDX-License-Identifier: Apache-2.0
/*
 * echo serve                             answers until it is ended; prints its port
 * echo ask ADDRESS PORT SECONDS INTERVAL asks; prints one time a line, in microseconds
 *
 * How long 64 bytes take to a peer and back: the latency that a limit costs
 * its pod. One request is under way at a time, as in netperf's TCP_RR, and one
 * starts every INTERVAL seconds unless the last answer is late.
 *
 * Both ends run before every ordinary process (SCHED_FIFO, at its lowest
 * priority): on a machine whose CPUs are busy sending, the time to get one
 * would be most of what is measured. They sleep nearly always.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SIZE 64 /* bytes of a request and of its answer */
#define PATIENCE 5.0 /* seconds after the end that the last answer is waited for */
#define CONNECTIONS 16

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

/* Seconds, CLOCK_MONOTONIC. */
static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void sleep_until(double when)
{
	struct timespec time = {.tv_sec = when};

	time.tv_nsec = (when - time.tv_sec) * 1e9;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR)
		;
}

static void no_delay(int fd)
{
	int on = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		die("TCP_NODELAY");
}

/* No send or receive (and no connect) on this socket takes longer. */
static void patience(int fd, double seconds)
{
	struct timeval time;

	if (seconds < 0.001)
		seconds = 0.001;
	time.tv_sec = seconds;
	time.tv_usec = (seconds - time.tv_sec) * 1e6;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time));
}

static void serve(void)
{
	struct pollfd fds[1 + CONNECTIONS] = {{.events = POLLIN}};
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t length = sizeof(address);
	int count = 1;

	fds[0].fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fds[0].fd < 0)
		die("socket");
	if (bind(fds[0].fd, (struct sockaddr *)&address, sizeof(address)) || listen(fds[0].fd, CONNECTIONS))
		die("listen");
	getsockname(fds[0].fd, (struct sockaddr *)&address, &length);
	printf("%d\n", ntohs(address.sin_port));
	fflush(stdout);
	for (;;) {
		if (poll(fds, count, -1) < 0)
			continue;
		for (int i = count - 1; i > 0; i--) {
			char request[SIZE];

			if (!fds[i].revents)
				continue;
			if (recv(fds[i].fd, request, SIZE, MSG_WAITALL) == SIZE &&
			    send(fds[i].fd, request, SIZE, MSG_NOSIGNAL) == SIZE)
				continue;
			close(fds[i].fd);
			fds[i] = fds[--count];
		}
		if (fds[0].revents && count <= CONNECTIONS) {
			int fd = accept(fds[0].fd, NULL, NULL);

			if (fd < 0)
				continue;
			no_delay(fd);
			fds[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
		}
	}
}

/* An answer that never came counts with the time that it was waited for. */
static int ask(const char *host, const char *port, double seconds, double interval)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	double start, begun, done;

	if (fd < 0)
		die("socket");
	if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
		errno = EINVAL;
		die(host);
	}
	no_delay(fd);
	patience(fd, PATIENCE);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		die("connect");
	start = now();
	while ((begun = now()) < start + seconds) {
		char bytes[SIZE] = {};
		int answered;

		patience(fd, start + seconds + PATIENCE - begun);
		answered = send(fd, bytes, SIZE, MSG_NOSIGNAL) == SIZE && recv(fd, bytes, SIZE, MSG_WAITALL) == SIZE;
		done = now();
		printf("%.1f\n", (done - begun) * 1e6);
		if (!answered)
			break;
		if (done < begun + interval)
			sleep_until(begun + interval);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct sched_param lowest = {.sched_priority = 1};

	/* Best effort: a container may not be allowed to. */
	if (sched_setscheduler(0, SCHED_FIFO, &lowest))
		setpriority(PRIO_PROCESS, 0, -10);
	prctl(PR_SET_TIMERSLACK, 1UL);
	if (argc == 2 && !strcmp(argv[1], "serve"))
		serve();
	if (argc == 6 && !strcmp(argv[1], "ask"))
		return ask(argv[2], argv[3], atof(argv[4]), atof(argv[5]));
	fprintf(stderr, "usage: echo serve | echo ask ADDRESS PORT SECONDS INTERVAL\n");
	return 2;
}
