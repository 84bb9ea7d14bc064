"""Settings of all tests."""

from hypothesis import HealthCheck, settings

# No test depends on wall time: on a busy machine hypothesis would fail healthy ones for being slow.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
