"""The network laboratory that the demo and the kernel tests share, and the benchmark that is built on it.

The laboratory, on the standard library, `ip`, `nsenter` and `iperf3`:

    command     running a tool, and leaving in order whatever signal comes
    lab         two network namespaces with a wire between them
    cgroup      a cgroup of our own below the machine's cgroup2 mount
    iperf       one iperf3 run between the namespaces, as numbers
    probe       request-response latency, by the program echo.py
    delay.c     a wire with a round-trip time, for machines without netem

The benchmark, `python -m bench`:

    shapers     podrate, tc's tbf and htb, none
    point       one limit and some traffic, under each of the shapers in turn
"""
