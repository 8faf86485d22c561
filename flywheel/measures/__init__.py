"""What is measured of a model, item by item, and how two models are compared by it.

metrics.py     what is measured, and which direction is better
bootstrap.py   intervals, drawn by group
paired.py      the same items before and after: the change, and what it shows

NumPy is all that it needs: promotion reads it in the gateway's process too.
"""
