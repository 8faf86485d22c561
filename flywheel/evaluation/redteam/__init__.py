"""Attacks on a deployed model: requests that it should decline, put in many ways.

strategy.py    what a plugin is
strategies/    the plugins, one family a file
seeds.jsonl    a starter set of requests, by kind of harm
attacker.py    a model that leads a conversation on, turn by turn
sessions.py    people's sessions, counted from the journal
campaign.py    every strategy tried on every seed, judged, counted and reported
"""
