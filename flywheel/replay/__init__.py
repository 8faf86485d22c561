"""What another policy, guard or model would have changed: recorded turns, before and after."""
