"""What all evaluations of a deployed model share.

items.py      what is asked: rows of a file, each with an id
endpoint.py   who is asked: an address that speaks the OpenAI API
play.py       one item asked, turn by turn, and scored by a guard
answers.py    the append-only file that a run resumes from
run.py        each item asked once, several at a time
tally.py      from values by item to figures, over all and by group
figures.py    from values to shares and means with intervals
charts.py     plots of a result
result.py     the result file, which names every figure and holds no text
report.py     the same for people, with plots
"""
