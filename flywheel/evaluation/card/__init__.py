"""The system card: all that was measured of a deployed system, on one page.

read.py    result files, and figures of the guard
limits.py  what the files say, by what they leave out, of their own limits
write.py   the card as HTML and as Markdown
"""
