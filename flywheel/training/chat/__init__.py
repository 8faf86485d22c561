"""The stages that make a better chat model: each a script, read from top to bottom."""
