"""The network laboratory that the demo and the kernel tests share, and the benchmark that is built on it.

The laboratory, on the standard library, `ip`, `nsenter` and `iperf3`:

    command     running a tool, and leaving in order whatever signal comes
    compiled    our programs in C, compiled on demand
    lab         two network namespaces with a wire between them
    cgroup      a cgroup of our own below the machine's cgroup2 mount
    iperf       one iperf3 run between the namespaces, as numbers
    probe       request-response latency, by echo.c
    delay.c     a wire with a round-trip time, for machines without netem

The benchmark, `python -m bench`:

    shapers     podrate, podrate with its ingress queue, tc's tbf and htb, none
    meter       what arrives over time, counted in the kernel by meter.bpf.c
    point       one limit and some traffic, under each of the shapers in turn
    beside      TCP beside a UDP flood (flood.py)
    cost        nanoseconds a packet, and a limit held on two CPUs at once
    sweep       which points `make bench` measures, and results.json
    tables      points as tables, for a terminal and for a document
    plots       the pictures
    report      docs/benchmarks.md
"""
