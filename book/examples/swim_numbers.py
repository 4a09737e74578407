"""What SWIM promises, measured in the simulator: every line a claim, its formula, and what the seeds gave."""

from math import e
from statistics import mean, median

from durable.figures.measures import agreement_s, first_detection_rounds, message_load, pauses, spread_s

print("first ping of a dead member, n=10, seeds 0-59:")
print(f"    {mean(n for seed in range(60) for n in first_detection_rounds(10, seed)):.2f} periods; e/(e-1) = {e / (e - 1):.2f}")

print("packets a member and period, nothing happening, seed 1:")
print("    " + ", ".join(f"n={n}: {message_load(n, seed=1, periods=20):.1f}" for n in (3, 10, 30)))

print("time until the last has heard, seeds 0-2:")
print("    " + ", ".join(f"n={n}: {mean(spread_s(n, seed) for seed in range(3)):.2f} s" for n in (8, 16, 32)))

print("SIGKILL to all four survivors agreeing, n=5, seeds 0-59:")
times = sorted(agreement_s(5, seed) for seed in range(60))
print(f"    median {median(times):.1f} s, slowest {times[-1]:.1f} s")

print("healthy members buried by one that runs for moments only, n=50, seed 0:")
for lifeguard in (False, True):
    seen = pauses(50, 0, pause_s=5.0, awake_s=(0.001, 0.01), run_s=100.0, lifeguard=lifeguard)
    print(f"    {'with Lifeguard' if lifeguard else 'plain SWIM'}: {seen.of_healthy}, in {seen.pauses} pauses")
