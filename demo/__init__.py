"""The demo: one label on a pod, from the API server's question to the packets, without a cluster.

__main__    the story
admission   the webhook over TLS, and us as its API server
node        us as the pod's node: its cgroup, its volumes, the injected container
traffic     iperf3 through the pod, and what came of it
screen      what the terminal shows
plot        throughput.png
"""
