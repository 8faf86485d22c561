"""How good the guard and the chat model are.

`guard` measures the guard alone, on labelled rows. Everything else asks a deployed model
through its public API: `runs` is what those evaluations share, and `regress` compares two of them.
"""
