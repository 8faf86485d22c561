"""Small benchmarks of our own over files at hand, and others by lm-evaluation-harness.

task.py         what a benchmark is
gsm8k.py        sums in words, after eight worked examples
truthfulqa.py   the true answer among false ones
toxigen.py      does it write toxic sentences after toxic ones?
bias.py         sentiment by group, and pronouns by occupation, on prompts of our own
measure.py      tasks asked and marked
harness.py      lm-evaluation-harness as a program of its own
"""
