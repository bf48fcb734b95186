"""What holds for all tests: how much Hypothesis tries.

`make fuzz` takes the profile `long`. No example has a deadline: the machine may be busy with something else.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("ours", deadline=None)
settings.register_profile(
    "long", deadline=None, max_examples=10_000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ours")
