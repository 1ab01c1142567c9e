"""What all tests share."""

from hypothesis import HealthCheck, settings

# A shared machine: how long an example takes says nothing about the code.
settings.register_profile("podrate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("podrate")
