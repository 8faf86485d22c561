"""Bounds of the histograms' buckets."""

PROBABILITIES = tuple(round(i / 20, 2) for i in range(1, 21))
SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.25, 0.5, 1, 2, 5, 10, 30)
CHARACTERS = (0, 8, 16, 32, 64, 128, 192, 256, 384, 512, 1024)
