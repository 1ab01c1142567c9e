"""What all tests share."""

import signal

from hypothesis import HealthCheck, settings

# A shared machine: how long an example takes says nothing about the code.
settings.register_profile("podrate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("podrate")

# As from a shell's prompt: a script's background has SIGINT ignored, and whatever it starts inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
