"""Which of two endpoints serves better, on the same prompts.

compare.py   both asked, and judged by the helpfulness model and a judge model
orders.py    the two verdicts of a judge that is asked in both orders
sheet.py     the same pairs for people, with random sides, and what they said
"""
