"""Versions of the models that the flywheel makes: kept, compared, promoted, taken back."""
